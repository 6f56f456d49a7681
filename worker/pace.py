"""How many tasks to ask for: claims are sized in seconds of work, not in tasks.

A running mean of each type's duration says how long tasks take; what it does not know yet is asked for
one by one. Which types the next claim brings is unknown, so the slowest of the recent ones counts; a
task that is slower still is handled by the executor, which takes back what waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shared.protocol import WANT_MAX

# Work to have ahead for each slot. Enough that a slot never waits for the dispatcher (an exchange takes
# some milliseconds, a slow network 0.1 s), little enough that a task is not kept from an idle worker.
AHEAD_SECONDS: Final = 0.25
# Tasks to have ahead for each slot, however short: two claims of 1,000, one being worked on.
AHEAD_TASKS: Final = 2 * WANT_MAX
_RECENT_TASKS: Final = 50  # a type not among so many last ones is not expected in the next claim
_NEW_WEIGHT: Final = 0.3  # of one more batch in the running mean: the last few batches decide
_GROWTH: Final = 4  # ask for at most so many times what has ended recently, so trust grows in steps


class Pace:
    """Durations by type. Written by the executor, read by the work conversation."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}
        self._ended: dict[str, int] = {}  # how many have ended
        self._seen_at: dict[str, int] = {}  # how many of all had ended when the type was last seen
        self._all_ended = 0

    def observe(self, kind: str, count: int, seconds: float) -> None:
        """`count` tasks of a type have ended, `seconds` of work together."""
        mean = seconds / count
        known = self._means.get(kind)
        weight = 1 - (1 - _NEW_WEIGHT) ** min(count, 10)
        self._means[kind] = mean if known is None else known + (mean - known) * weight
        self._ended[kind] = self._ended.get(kind, 0) + count
        self._all_ended += count
        self._seen_at[kind] = self._all_ended

    def seconds(self, kind: str) -> float:
        """How long a task of this type takes, as far as known; infinitely long if not."""
        return self._means.get(kind, float("inf"))

    def is_short(self, kind: str) -> bool:
        """Whether tasks of this type are known to be so short that several may be held for a slot."""
        return self._means.get(kind, AHEAD_SECONDS) < AHEAD_SECONDS

    def recent(self, among: Callable[[str], bool] = lambda _: True) -> list[str]:
        """The types that may come with the next claim, of those `among`."""
        oldest = self._all_ended - _RECENT_TASKS
        seen = list(self._seen_at.items())  # the executor may add one meanwhile
        return [kind for kind, seen_at in seen if seen_at > oldest and among(kind)]

    def want(self, slots: int, unfinished: int, among: Callable[[str], bool] = lambda _: True) -> int:
        """How many tasks to ask for, of the types `among`, for `slots` that hold `unfinished` ones."""
        recent = self.recent(among)
        slowest = max((self._means[kind] for kind in recent), default=float("inf"))
        if slowest >= AHEAD_SECONDS:
            return max(0, slots - unfinished)  # nothing is fetched ahead of a long task
        trusted = _GROWTH * sum(self._ended[kind] for kind in recent)
        ahead = min(AHEAD_TASKS, trusted, int(AHEAD_SECONDS / max(slowest, 1e-6)))
        target = slots * max(1, ahead)
        if unfinished > target // 2:
            return 0  # better one claim of many than many of one
        return min(WANT_MAX, target - unfinished)
