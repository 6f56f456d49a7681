"""The watchdog: a tiny process that kills process groups when the process that started them is gone.

Nothing inside a worker, or an experiment, can do that after `kill -9`. It sits in a session of its own,
so that neither Ctrl-C nor a signal to its owner's group takes it along.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_SCRIPT = Path(__file__).with_name("watchdog.sh")


class Watchdog:
    """The owner's side; used by one thread."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process = self._start()

    def watch(self, group: int) -> None:
        """Put a process group on the list."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Take a process group off the list, before its number can be given to others."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Let it kill what is still on the list, and end."""
        self._process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", str(_SCRIPT)], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
        except BrokenPipeError:  # somebody killed it: the next one gets the whole list
            self._process.communicate()
            self._process = self._start()
            for group in sorted(self._groups):
                self._tell(f"+{group}\n")
