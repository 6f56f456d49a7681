"""A dispatcher and workers of one's own: real processes on a free port with a data folder apart.

Used by the demo, the benchmarks and the system tests. Everything started is stopped by its pid, and
nothing of the user's own settings or data is touched. After a `kill -9` of whoever started it, a watchdog
kills it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from analysis.peers.servers import free_port
from shared import errors
from shared.client import DispatcherClient
from shared.settings import ROOT
from shared.watchdog import Watchdog

START_SECONDS = 20.0  # a slow machine under load; usually well under one
STOP_SECONDS = 30.0


class Cluster:
    """Processes in `folder` (data and logs). Settings are given as environment variables."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"DISPATCHER_PORT": str(self.port), "DATA_DIR": str(folder / "data"), **settings}
        self.dispatcher: subprocess.Popen[bytes] | None = None
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.client = DispatcherClient(self.url, patience_seconds=START_SECONDS)
        self._logs: list[IO[bytes]] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self._watchdog: Watchdog | None = None  # from the first process on

    @property
    def database(self) -> Path:
        """The database file."""
        return self.folder / "data" / "baton.db"

    def start_dispatcher(self) -> subprocess.Popen[bytes]:
        """Start the dispatcher and wait until it answers /ready."""
        dispatcher = self.launch_dispatcher()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                DispatcherClient(self.url).ready()
                return dispatcher
            except errors.Unavailable:
                if dispatcher.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the dispatcher did not start:\n{self.log('dispatcher')}") from None
                time.sleep(0.02)

    def launch_dispatcher(self) -> subprocess.Popen[bytes]:
        """Start the dispatcher and wait for nothing."""
        self.dispatcher = self._start("dispatcher", ["-m", "dispatcher"])
        return self.dispatcher

    def start_worker(self, name: str, *options: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start a worker, and with `wait` wait until the dispatcher knows it."""
        worker = self._start(name, ["-m", "worker", name, "--url", self.url, *options])
        self.workers[name] = worker
        if wait:
            self.wait(lambda: self._knows(name, worker), f"worker {name} to register")
        return worker

    def _knows(self, name: str, worker: subprocess.Popen[bytes]) -> bool:
        if worker.poll() is not None:
            raise RuntimeError(f"worker {name} ended with {worker.returncode}:\n{self.log(name)}")
        return any(w["pid"] == worker.pid and w["state"] == "alive" for w in self.client.workers())

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
        """Wait for a condition; raises TimeoutError naming `what` after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            time.sleep(0.02)
        return found

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop everything that still runs: workers first, politely, then hard."""
        for process in self.workers.values():
            _end(process)
        if self.dispatcher is not None:
            _end(self.dispatcher)
        if self._watchdog is not None:
            for process in self._started:
                if process.poll() is not None:
                    self._watchdog.forget(process.pid)
            self._watchdog.close()
        self.client.close()
        for log in self._logs:
            log.close()

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**kept, **self.settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches whoever started the cluster, who then stops it
        )
        self._watchdog = self._watchdog or Watchdog()
        self._watchdog.watch(process.pid)
        self._started.append(process)
        return process


@contextlib.contextmanager
def cluster(folder: Path, **settings: str) -> Iterator[Cluster]:
    """A Cluster with its dispatcher running; stopped in any case."""
    made = Cluster(folder, **settings)
    try:
        made.start_dispatcher()
        yield made
    finally:
        made.stop()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)  # it may be frozen
            process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
