"""A stage for the command line: a real dispatcher, a worker that does what a test says, and ./baton itself."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from analysis.cluster import Cluster
from shared.cli.root import main
from shared.client import DispatcherClient
from shared.protocol import (
    AttemptLog,
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

WAIT_SECONDS = 20.0


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


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
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            mock.patch.dict(os.environ, self.environment),
        ):
            try:
                main(list(arguments))
                code: Any = 0
            except SystemExit as end:
                code = end.code
        return Ran(int(code or 0), out.getvalue(), err.getvalue())

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start it in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "shared.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment, "COLUMNS": "100", "LINES": "30"},
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def process(self, *arguments: str) -> Ran:
        """Run it in a process of its own."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
            return Ran(process.returncode, out, err)

    @contextlib.contextmanager
    def terminal(self, *arguments: str) -> Iterator[Terminal]:
        """Run it on a terminal."""
        ours, theirs = pty.openpty()
        process = self.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    # --- what a worker does

    def submit(self, type: str, **fields: Any) -> int:
        """Submit a task; returns its id."""
        payload = msgspec.Raw(msgspec.json.encode(fields.pop("payload", {})))
        return int(self.client.submit(Submission(type, payload=payload, **fields))["task_id"])

    def exchange(self, name: str = "worker-1", state: Any = "running", **parts: Any) -> list[Grant]:
        """A message of a worker that runs every type."""
        worker = WorkerInfo(f"{name}-id", name=name, host="lab", slots=4, state=state)
        return self.client.exchange(Exchange(worker, **parts)).tasks

    def claim(self, type: str) -> Grant:
        """Claim the next task of a type."""
        (grant,) = self.exchange("hand", want=1, want_types=[type])  # others may be paused
        return grant

    def progress(self, grant: Grant, share: float, message: str) -> None:
        """Report that it runs."""
        held = Holding(grant.lease_id, grant.task_id, grant.attempt, running=True, progress=share, message=message)
        self.exchange(holding=[held])

    def log(self, grant: Grant, *lines: str) -> None:
        """Send lines of its log."""
        fence = {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}
        self.exchange(logs=[AttemptLog(**fence, lines=[LogLine(line) for line in lines])])

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
        fence = {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}
        self.exchange(results=[Result(**fence, elapsed_seconds=0.5, **how)])
        return grant.task_id


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

    def ended(self) -> int:
        """Its exit code."""
        with contextlib.suppress(OSError):
            while data := os.read(self.handle, 65536):
                self.shown += data.decode(errors="replace")
        return self.process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """A Scene with its dispatcher running, where nobody is found silent."""
    made = Cluster(folder, HEARTBEAT_TIMEOUT_SECONDS="600", LEASE_SECONDS="1000")
    try:
        made.start_dispatcher()
        stage = Scene(made)
        yield stage
        stage.client.close()
    finally:
        made.stop()
