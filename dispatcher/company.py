"""Who may be expected to join a transaction, and how long that is worth waiting for.

Callers that met in one transaction are answered together and tend to come back at about the same time.
If the first of them is written alone, the others wait and each pays for a commit of its own: they fall
out of step and stay so. So the next transaction waits for as many as met in the last one; if they do not
come, only those that came are expected again.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from dispatcher.operation import Operation

WAIT_SECONDS_MAX: Final = 0.005  # however long a commit takes


class Company:
    """To be used under `lock`, except for `spent`, by whoever has the turn to write."""

    def __init__(self, lock: threading.Lock, waiting: deque[Operation]) -> None:
        self._waiting = waiting
        self._are_there = threading.Condition(lock)
        self._expected = 1
        self._saves_seconds = 0.0  # for each that joins

    def has_come(self) -> None:
        """Another operation waits."""
        if self._is_whole():
            self._are_there.notify()

    def wait(self) -> None:
        """Wait until all are there that are expected, at most for as long as a commit takes."""
        if self._expected > 1:
            self._are_there.wait_for(self._is_whole, self._saves_seconds)

    def _is_whole(self) -> bool:
        return len(self._waiting) >= self._expected

    def met(self, count: int) -> None:
        """So many operations were written or wait, at the end of a transaction."""
        self._expected = count

    def spent(self, work_seconds: float, commit_seconds: float, operations: int) -> None:
        """What the last transaction took."""
        self._saves_seconds = saves(work_seconds, commit_seconds, operations)


def saves(work_seconds: float, commit_seconds: float, operations: int) -> float:
    """What each operation that joins would save, in seconds; 0 if the commit was the least of its work."""
    return min(commit_seconds, WAIT_SECONDS_MAX) if commit_seconds * operations >= work_seconds else 0.0
