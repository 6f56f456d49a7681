"""Lanes: tasks of one queue and one type, written `queue/type`. Claims go lane by lane.

Names have no slash, so a lane is a plain string that counters and messages can carry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from shared.protocol import WorkerInfo


def lane(queue: str, type: str) -> str:
    """The lane of such tasks."""
    return f"{queue}/{type}"


@lru_cache(maxsize=4096)  # asked for every task that is granted
def split(lane: str) -> tuple[str, str]:
    """(queue, type) of a lane."""
    queue, _, type = lane.partition("/")
    return queue, type


def is_of(lane: str, kind: str, name: str) -> bool:
    """Is it a lane of that queue or, as `kind` says, of that type?"""
    return split(lane)[kind == "type"] == name


class Served:
    """The lanes that a worker serves: those of its types and queues, where it named any; `types`: fewer now."""

    def __init__(self, info: WorkerInfo, types: Collection[str] | None = None) -> None:
        self._types = None if info.types is None else frozenset(info.types)
        if types is not None:
            self._types = frozenset(types) if self._types is None else self._types & frozenset(types)
        self._queues = None if info.queues is None else frozenset(info.queues)

    def __contains__(self, lane: str) -> bool:
        queue, type = split(lane)
        return (self._types is None or type in self._types) and (self._queues is None or queue in self._queues)

    def isdisjoint(self, lanes: Iterable[str]) -> bool:
        """Does it serve none of them?"""
        return not any(lane in self for lane in lanes)
