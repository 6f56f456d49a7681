"""A crew: several workers in one terminal. The parent starts them, forwards signals, and waits."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from types import FrameType
from typing import Final

FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def names(first: str, count: int) -> list[str]:
    """`count` names from the first one: worker-1, worker-2, ...; a name without a number gets one."""
    stem, digits = re.fullmatch(r"(.*?)(\d*)", first, re.DOTALL).groups()  # type: ignore[union-attr]
    if not digits:
        return [f"{first}-{number}" for number in range(1, count + 1)]
    return [f"{stem}{int(digits) + number:0{len(digits)}d}" for number in range(count)]


def run_crew(workers: list[str], arguments: list[str]) -> int:
    """Run a worker process for each name; returns the worst of their exit codes."""
    stopping: list[int] = []
    processes: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        stopping.append(number)
        for process in processes:
            process.send_signal(signal.SIGTERM)

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish is respected
            signal.signal(number, forward)
    for name in workers:
        command = [sys.executable, "-m", "worker", name, *arguments]
        # In a group of its own: a terminal's Ctrl-C must reach it once, through us.
        processes.append(subprocess.Popen(command, process_group=0))
        if stopping:
            processes[-1].send_signal(signal.SIGTERM)
    return max(abs(process.wait()) for process in processes)
