"""What pauses, limits and deadlines let through in one claim.

Made for each claim; asks the database only for what exists: lanes if anything is paused or limited
at all, keys if a candidate has one. Read claims.py for how it is used, limits.py for the limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from dispatcher import expiry, limits
from dispatcher.lanes import split
from dispatcher.limits import UNLIMITED, Limit
from dispatcher.transaction import WAITS, Transaction
from shared.lifecycle import TaskStatus

# A row of `claimable`: (-priority, task_id, attempt, alone, lane, timeout_seconds, checkpoint_seq, payload,
# limit_key, deadline_at, stall_seconds, kin). It sorts by itself into the order of claims: an id comes only once.
Candidate = tuple[
    int,
    int,
    int,
    int,
    str,
    float | None,
    int | None,
    bytes | None,
    str | None,
    float | None,
    float | None,
    int | None,
]


class Gate:
    """`braked`: is any queue or type paused or limited?"""

    def __init__(self, tx: Transaction, braked: bool) -> None:
        self._tx = tx
        self._limits: dict[tuple[str, str], Limit] = {}
        self._room: dict[tuple[str, str], int] = {}
        self._known_keys: set[str] = set()
        self._paused: set[tuple[str, str]] = set()
        self._late: list[Candidate] = []
        self._blocked: list[int] = []
        if braked:
            self._look_at_lanes(tx)

    def _look_at_lanes(self, tx: Transaction) -> None:
        self._paused = set(tx.pauses())
        rows = tx.lane_limits().fetchall()  # locked, where others claim too: only then what runs is certain
        in_lanes = limits.running_in_lanes(tx)
        for row in rows:
            self._limit(Limit(*row), in_lanes)

    def _limit(self, limit: Limit, in_lanes: dict[str, int]) -> None:
        self._limits[limit[:2]] = limit
        self._room[limit[:2]] = limits.room(self._tx, limit, limits.running_under(self._tx, limit, in_lanes))

    def room(self, lane: str) -> int:
        """How many tasks of a lane may start."""
        if not (self._paused or self._room):
            return UNLIMITED
        queue, type = split(lane)
        if ("queue", queue) in self._paused or ("type", type) in self._paused:
            return 0
        return min(self._room.get(("queue", queue), UNLIMITED), self._room.get(("type", type), UNLIMITED))

    def meet(self, candidates: Iterable[Candidate]) -> None:
        """Learn the limits of the keys that these have."""
        keys = {candidate[8] for candidate in candidates}
        unknown = {key for key in keys if key is not None} - self._known_keys
        if unknown:
            self._known_keys |= unknown
            for limit in limits.of_keys(self._tx, unknown).values():
                self._limit(limit, in_lanes={})

    def passing(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """Those that may start, in order."""
        left, now = dict(self._room), self._tx.later()
        for candidate in candidates:
            if candidate[9] is not None and candidate[9] <= now:
                self._late.append(candidate)
            elif not left or self._fits(candidate, left):
                yield candidate

    def _fits(self, candidate: Candidate, left: dict[tuple[str, str], int]) -> bool:
        own = [name for name in _names(candidate) if name in left]
        full = [name for name in own if left[name] <= 0]
        if full:
            if full[-1][0] == "key":
                self._blocked.append(candidate[1])
            return False
        for name in own:
            left[name] -= 1
        return True

    def clear(self) -> bool:
        """Put out of the way what can no longer be granted now; was there anything?"""
        if not (self._blocked or self._late):
            return False
        if self._blocked:
            self._tx.place(task_id=self._blocked, place=WAITS)
        if self._late:
            late = [(c[1], TaskStatus.PENDING, c[4], c[2], c[8]) for c in self._late]
            expiry.expire(self._tx, late)
            limits.settle(self._tx)
        self._blocked, self._late = [], []
        return True

    def started(self, chosen: Iterable[Candidate]) -> None:
        """Note starts for those limits that count them."""
        if not self._limits:
            return
        starts = Counter(name for c in chosen for name in _names(c) if name in self._limits)
        for name, n in sorted(starts.items()):
            limit = self._limits[name]
            limits.note_starts(self._tx, limit, n)
            if limit.kind == "key" and (limit.max_running is None or limit.max_running > limits.AHEAD):
                self._tx.touched.add(limit.name)


def _names(candidate: Candidate) -> list[tuple[str, str]]:
    queue, type = split(candidate[4])
    names = [("queue", queue), ("type", type)]
    return names if candidate[8] is None else [*names, ("key", candidate[8])]
