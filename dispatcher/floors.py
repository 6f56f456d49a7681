"""Where the pending tasks of a lane begin, remembered while it is slow to look (PostgreSQL).

Claimed tasks leave dead entries in the index of what is pending, and as long as somebody keeps an old
transaction open the server cannot sweep them: each claim would wade through all that was claimed since.
So when a whole look took long, the next ones begin where it found the first task. What comes to stand
before that place makes the lane forget it (older tasks that return, higher priorities); what other
dispatchers put there is found by the next whole look, at most one in LOOKS_SHARE of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from dispatcher.lanes import lane
from dispatcher.statements import Run

SLOW_SECONDS = 0.005  # a look at the head of an index that takes longer wades
LOOKS_SHARE = 200  # whole looks take one part in so many of the time, …
LOOK_SECONDS = 1.0  # … and come at most so often


class _Floor(NamedTuple):
    at: tuple[int, int]  # (-priority, task_id): nothing pending stands before it
    until: float  # monotonic seconds: then comes the next whole look


class Floors:
    """The statement `claimable`, wiser. Used by who writes, but for `forget`."""

    def __init__(self, whole: Run, after: Run) -> None:
        self._whole = whole
        self._after = after
        self._floors: dict[str, _Floor] = {}

    def claimable(self, connection: Any, *, queue: str, type: str, n: int) -> list[Any]:
        """The best pending tasks of a lane, as the statement says."""
        where = lane(queue, type)
        floor = self._floors.get(where)
        if floor is not None and time.monotonic() < floor.until:
            first, second = floor.at
            found = self._after(connection, queue=queue, type=type, n=n, rank=first, task_id=second).fetchall()
            if found:
                self._floors[where] = floor._replace(at=found[0][:2])
                return list(found)
        return self._look(connection, where, queue, type, n)

    def _look(self, connection: Any, where: str, queue: str, type: str, n: int) -> list[Any]:
        began = time.monotonic()
        found = list(self._whole(connection, queue=queue, type=type, n=n).fetchall())
        took = time.monotonic() - began
        if took > SLOW_SECONDS and found:
            pause = max(LOOK_SECONDS, took * LOOKS_SHARE)
            self._floors[where] = _Floor(found[0][:2], time.monotonic() + pause)
        else:
            self._floors.pop(where, None)
        return found

    def forget(self, lanes: Iterable[str] | None = None) -> None:
        """Something may stand before the floor of these lanes, or of all."""
        for where in list(self._floors) if lanes is None else lanes:
            self._floors.pop(where, None)
