"""Starts worker processes on this machine that outlive the command; their records tell who they are."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from shared.client import DispatcherClient
from shared.settings import ROOT

KNOWN_SECONDS: Final = 30.0  # a loaded machine starts ten workers in ten seconds
_LOOK_SECONDS: Final = 0.1
_TAIL_BYTES: Final = 4096


class Started:
    """A worker process that was started, and whether the dispatcher has heard from it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.is_known = False

    def last_words(self) -> str:
        """The last line of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def view(self) -> dict[str, Any]:
        """What --json tells of it."""
        return {"name": self.name, "pid": self.process.pid, "alive": self.is_known, "log": str(self.log)}


def start(data: Path, name: str, options: dict[str, str | None]) -> Started:
    """Start one, in a session of its own: it lives on when this terminal closes."""
    log = data / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    given = [part for option, value in options.items() if value for part in (f"--{option}", value)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", name, *given],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Started(name, process, log)


def await_all(client: DispatcherClient, started: list[Started]) -> None:
    """Wait until the dispatcher knows them all, or they ended, or time is up."""
    give_up_at = time.monotonic() + KNOWN_SECONDS
    while time.monotonic() < give_up_at:
        known = {(worker["name"], worker["pid"]) for worker in client.workers() if worker["state"] == "alive"}
        for one in started:
            one.is_known = (one.name, one.process.pid) in known
        if all(one.is_known or one.process.poll() is not None for one in started):
            return
        time.sleep(_LOOK_SECONDS)
