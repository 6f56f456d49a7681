"""A stage for the command line: a real dispatcher, a worker that does what a test says, and ./baton itself."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from analysis.cluster import Cluster
from shared import exits
from shared.cli.root import main
from shared.client import DispatcherClient
from shared.protocol import (
    AttemptLog,
    Checkpoint,
    CheckpointBody,
    Exchange,
    Grant,
    Holding,
    LogLine,
    Result,
    Submission,
    WorkerInfo,
)
from shared.settings import ROOT

WAIT_SECONDS = 40.0


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


def said(ran: Ran) -> str:
    """What it printed, if it went well."""
    assert (ran.code, ran.err) == (exits.OK, ""), ran
    return ran.out


class Scene:
    """Commands run in this process unless a test needs a process or a terminal of their own."""

    def __init__(self, baton: Cluster) -> None:
        self.baton = baton
        self.client = DispatcherClient(baton.url)
        self.environment = {"DISPATCHER_URL": baton.url, "DATA_DIR": baton.settings["DATA_DIR"]}

    # --- ./baton

    def run(self, *arguments: str, stdin: str = "") -> Ran:
        """Run a command line whose output is a pipe."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
            mock.patch.dict(os.environ, self.environment),
        ):
            try:
                main(list(arguments))
                code: Any = 0
            except SystemExit as end:
                code = end.code
        return Ran(int(code or 0), out.getvalue(), err.getvalue())

    @contextlib.contextmanager
    def start(
        self, *arguments: str, module: str = "shared.cli", **options: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """Run it in a process of its own, which ends with the block at the latest."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment, "COLUMNS": "100", "LINES": "30"},
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        guard = threading.Timer(WAIT_SECONDS, process.kill)  # who reads from it must not read for ever
        guard.start()
        try:
            yield process
            process.wait(WAIT_SECONDS)
        finally:
            guard.cancel()
            process.kill()
            process.communicate()

    def process(self, *arguments: str) -> Ran:
        """Run it in a process of its own."""
        with self.start(*arguments) as process:
            out, err = process.communicate()
            return Ran(process.returncode, out, err)

    @contextlib.contextmanager
    def terminal(self, *arguments: str, module: str = "shared.cli") -> Iterator[Terminal]:
        """Run it on a terminal."""
        ours, theirs = pty.openpty()
        with self.start(*arguments, module=module, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            yield Terminal(ours, process)
        os.close(ours)

    # --- what a worker does

    def submit(self, type: str, **fields: Any) -> int:
        """Submit a task; returns its id."""
        payload = msgspec.Raw(msgspec.json.encode(fields.pop("payload", {})))
        return int(self.client.submit(Submission(type, payload=payload, **fields))["task_id"])

    def exchange(
        self, name: str = "worker-1", state: Any = "running", types: list[str] | None = None, **parts: Any
    ) -> list[Grant]:
        """A message of a worker."""
        worker = WorkerInfo(f"{name}-id", name=name, host="lab", slots=4, types=types, state=state)
        return self.client.exchange(Exchange(worker, **parts)).tasks

    def claim(self, type: str) -> Grant:
        """Claim the next task of a type, as a worker that runs nothing else."""
        (grant,) = self._hand(type, want=1)
        return grant

    def progress(self, grant: Grant, share: float, message: str) -> None:
        """Report that it runs."""
        held = Holding(grant.lease_id, grant.task_id, grant.attempt, running=True, progress=share, message=message)
        self._hand(grant.type, holding=[held])

    def log(self, grant: Grant, *lines: str) -> None:
        """Send lines of its log."""
        log = AttemptLog(
            task_id=grant.task_id,
            attempt=grant.attempt,
            lease_id=grant.lease_id,
            lines=[LogLine(line) for line in lines],
        )
        self._hand(grant.type, logs=[log])

    def save(self, grant: Grant, seq: int, state: Any, *output: Any) -> None:
        """Send a checkpoint with new chunks of output."""
        saved = Checkpoint(
            task_id=grant.task_id,
            attempt=grant.attempt,
            lease_id=grant.lease_id,
            seq=seq,
            state=msgspec.Raw(msgspec.json.encode(state)),
            output=[msgspec.Raw(msgspec.json.encode(chunk)) for chunk in output],
        )
        self._hand(grant.type, checkpoints=[saved])

    def complete(self, grant: Grant, result: Any = None) -> int:
        """Report its result; returns its id."""
        return self._report(grant, outcome="completed", result=msgspec.Raw(msgspec.json.encode(result)))

    def fail(self, grant: Grant, type: str = "ValueError", message: str = "row 17 is empty") -> int:
        """Report that it failed for good, having saved a checkpoint; returns its id."""
        error = msgspec.Raw(msgspec.json.encode({"type": type, "message": message, "traceback": "at row\n  17"}))
        saved = CheckpointBody(seq=1, state=msgspec.Raw(b'{"row": 16}'))
        return self._report(grant, outcome="failed", error=error, retryable=False, checkpoint=saved)

    def failed(self, type: str, **fields: Any) -> int:
        """The id of a task that has failed."""
        self.submit(type, **fields)
        return self.fail(self.claim(type))

    def _report(self, grant: Grant, **how: Any) -> int:
        fence: dict[str, Any] = {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}
        self._hand(grant.type, results=[Result(**fence, elapsed_seconds=0.5, **how)])
        return grant.task_id

    def _hand(self, type: str, **parts: Any) -> list[Grant]:
        return self.exchange(f"hand-{type}", types=[type], **parts)


class Terminal:
    """The other side of a command's terminal."""

    def __init__(self, handle: int, process: subprocess.Popen[str]) -> None:
        self.handle = handle
        self.process = process
        self.shown = ""

    def expect(self, text: str) -> None:
        """Read until this has been shown."""
        while text not in self.shown:
            try:
                self.shown += os.read(self.handle, 65536).decode(errors="replace")
            except OSError:  # the command has ended
                raise AssertionError(f"{text!r} was not shown in {self.shown!r}") from None

    def type(self, keys: str) -> None:
        os.write(self.handle, keys.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does. Pressed again if nothing happens: Python drops one that comes during a finalizer."""
        self.process.send_signal(signal.SIGINT)
        again = threading.Timer(WAIT_SECONDS / 4, self.process.send_signal, [signal.SIGINT])
        again.daemon = True
        again.start()

    def ended(self) -> int:
        """Its exit code."""
        with contextlib.suppress(OSError):
            while data := os.read(self.handle, 65536):
                self.shown += data.decode(errors="replace")
        return self.process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def scene(folder: Path, patience: float = 600.0) -> Iterator[Scene]:
    """A Scene with its dispatcher running, where nobody is found silent before `patience` seconds."""
    made = Cluster(folder, HEARTBEAT_TIMEOUT_SECONDS=str(patience), LEASE_SECONDS="1000")
    try:
        made.start_dispatcher()
        stage = Scene(made)
        yield stage
        stage.client.close()
    finally:
        made.stop()
