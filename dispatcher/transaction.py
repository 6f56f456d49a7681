"""What one operation sees of the database: named statements as methods, and the effects it notes.

Effects (counts, arrivals, ends, log lines) count only if the operation succeeds and its
transaction commits; the writer in database.py sees to that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from dispatcher.clock import Clock
from dispatcher.lanes import split
from dispatcher.statements import Run
from shared.lifecycle import ENDED, TaskStatus

Key = TypeVar("Key")
WAITS, ADMITTED, TAKEN = 1, 2, 3  # tasks.place of a task with a limit_key; 0 when it neither waits nor runs
# tasks.alone of a task that waits: must it be granted by itself? Of one that is held: was it, and had it to be?
IN_COMPANY, ALONE, MUST_BE_ALONE = 0, 1, 2
_encode = msgspec.json.Encoder().encode


class Moment:
    """When a transaction began, by both clocks; the database is waited for when that is first needed."""

    def __init__(self, clock: Clock, hear_time: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._hear_time = hear_time

    @cached_property
    def now(self) -> float:
        """Unix seconds."""
        self._hear_time()
        return self._clock.wall()

    @cached_property
    def lease_now(self) -> float:
        """Seconds of the lease clock."""
        self._hear_time()
        return self._clock.lease()

    def later(self) -> float:
        """Unix seconds by now."""
        return max(self.now, self._clock.wall())

    def lease_later(self) -> float:
        """Seconds of the lease clock by now."""
        return max(self.lease_now, self._clock.lease())


class Transaction:
    """What began at a `moment`."""

    def __init__(self, connection: Any, statements: dict[str, Run], moment: Moment, shard: int = 0) -> None:
        self._connection = connection
        self._statements = statements
        self._shard = shard  # where its changes of counts go
        self._moment = moment
        self.counts: Counter[tuple[str, str]] = Counter()  # change of (lane, status)
        self.arrivals: Counter[str] = Counter()  # tasks by lane that may be claimed now
        self.older: set[str] = set()  # lanes where they may stand before others that wait already
        self.touched: set[str] = set()  # limit keys of which a place may have become free, or be asked for
        self.flow_counts: Counter[tuple[int, str]] = Counter()  # change of (flow_id, live or how ended)
        self.ended: list[int] = []
        self.due_at: float | None = None  # earliest run_at of what was scheduled here
        self.work: defaultdict[str, float] = defaultdict(float)  # seconds by kind: useful, saved, lost
        self.events: list[tuple[str, dict[str, Any]]] = []

    @property
    def now(self) -> float:
        """Unix seconds when it began."""
        return self._moment.now

    @property
    def lease_now(self) -> float:
        """Seconds of the lease clock when it began."""
        return self._moment.lease_now

    def later(self) -> float:
        """Unix seconds by now: it may have waited for rows that another transaction had locked."""
        return self._moment.later()

    def lease_later(self) -> float:
        """Seconds of the lease clock by now."""
        return self._moment.lease_later()

    def __getattr__(self, statement: str) -> Callable[..., Any]:
        """A named statement of dispatcher/sql, bound to this connection."""
        run = self._statements[statement]
        connection = self._connection
        return lambda **values: run(connection, **values)

    def moved(
        self,
        lane: str,
        source: TaskStatus | None,
        target: TaskStatus | None,
        ids: Sequence[int],
        limit_key: str | None = None,
    ) -> None:
        """Note that tasks of one lane and limit_key changed their status (None: they come or go)."""
        if source is not None:
            self.counts[lane, source] -= len(ids)
        if target is not None:
            self.counts[lane, target] += len(ids)
        if target is TaskStatus.PENDING:
            self.arrived(lane, len(ids), new=source is None)
        elif target in ENDED:
            self.ended += ids
        if limit_key is not None:
            self.keep_places(target, [(task_id, lane, limit_key) for task_id in ids])

    def arrived(self, lane: str, n: int = 1, *, new: bool = False) -> None:
        """Note that tasks of a lane may be claimed now; `new` ones stand behind all others."""
        self.arrivals[lane] += n
        if not new:
            self.older.add(lane)

    def keep_places(self, target: TaskStatus | None, tasks: Sequence[tuple[int, str, str]]) -> None:
        """Where tasks with a limit_key stand, as (task_id, lane, limit_key), after a change of status.

        What waits for a place is let in at the end of the operation (limits.settle).
        """
        place = {TaskStatus.PENDING: WAITS, TaskStatus.IN_PROGRESS: TAKEN}.get(target, 0)  # type: ignore[arg-type]
        if place == WAITS:
            self.arrivals.subtract(lane for _, lane, _ in tasks)
        if place != TAKEN:
            self.touched.update(key for _, _, key in tasks)
        if target is not None:
            self.place(task_id=[task_id for task_id, *_ in tasks], place=place)

    def in_flow(
        self, flow_id: int | None, source: TaskStatus | None, target: TaskStatus | None, n: int = 1
    ) -> None:
        """Note that `n` tasks of a flow ended, live again, come or go; of no flow: nothing."""
        if flow_id is None:
            return
        if source is not None:
            self.flow_counts[flow_id, source if source in ENDED else "live"] -= n
        if target is not None:
            self.flow_counts[flow_id, target if target in ENDED else "live"] += n

    def forget_flow(self, flow_id: int) -> None:
        """Note nothing more about a flow that is gone."""
        for status in ("live", "completed", "failed", "cancelled"):
            self.flow_counts.pop((flow_id, status), None)

    def due(self, run_at: float) -> None:
        """Note that a task was scheduled for `run_at`."""
        self.due_at = run_at if self.due_at is None else min(self.due_at, run_at)

    def log(self, event: str, **facts: Any) -> None:
        """Write a log line once this is committed."""
        self.events.append((event, facts))

    def keep_counts(self) -> None:
        """Bring the stored counts up to date; the last step of every operation."""
        changed = [(*split(lane), status, n) for (lane, status), n in self.counts.items() if n]
        if changed:
            self.add_count(shard=self._shard, rows=encoded(changed))
        in_flows = sorted((flow_id, status, n) for (flow_id, status), n in self.flow_counts.items() if n)
        if in_flows:
            counts = columns(("flow_id", "status", "n"), in_flows)
            self.add_flow_count(shard=self._shard, now=self.now, **counts)
        completed = sum(n for _, _, status, n in changed if status == TaskStatus.COMPLETED and n > 0)
        if completed:
            self.add_completions(shard=self._shard, second=int(self.now), n=completed)
        if self.work:
            self.add_work(shard=self._shard, kind=list(self.work), seconds=list(self.work.values()))


def columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows, one at least, as the columns by name that `*!` statements take."""
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def encoded(values: Sequence[Any]) -> str:
    """Ids, or rows, as the JSON array that set-based statements take."""
    return _encode(values).decode()


def grouped(commons: Sequence[Key], task_ids: Iterable[int]) -> dict[Key, list[int]]:
    """Task ids by what they have in common, each id's at its place in `commons`."""
    if len(set(commons)) == 1:  # of hundreds the usual case
        return {commons[0]: list(task_ids)}
    groups: defaultdict[Key, list[int]] = defaultdict(list)
    for common, task_id in zip(commons, task_ids, strict=True):
        groups[common].append(task_id)
    return groups
