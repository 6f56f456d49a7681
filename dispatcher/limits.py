"""How many tasks of a queue, a type or a limit_key may run, and how often they may start.

Limits of queues and types are looked at by each claim (gate.py). For limits of keys there may be
thousands, so most of their tasks are kept out of the way of claims: a pending task with a limit_key
waits for a place until its key has room, then the best are admitted, at most as many as there is
room for in each lane. Admission only keeps the claims' index short; a claim counts again what runs,
in rows, and never exceeds a limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from dispatcher.database import Database
from dispatcher.lanes import is_of, lane
from dispatcher.transaction import Transaction, encoded
from shared import errors
from shared.lifecycle import TaskStatus
from shared.operating import LimitName, LimitSetting, LimitView
from shared.protocol import WANT_MAX

AHEAD = 100  # tasks of a key that may be claimed at once in a lane; the next are let in as these go
BITE = 500  # rows in one transaction, as in ledger.py
UNLIMITED = 2**31
MOMENTS = 1000  # of a window that are told apart at most: each claim adds up what was started at each
OPENING_SECONDS = 0.02  # a window that moves on all the time is looked at no more often than this
Kind = Literal["queue", "type", "key"]


class Limit(NamedTuple):
    """A row of limits; both maxima None: it is being lifted."""

    kind: Kind
    name: str
    max_running: int | None
    max_starts: int | None
    per_seconds: float | None


def room(tx: Transaction, limit: Limit, running: int) -> int:
    """How many more may start now, with so many running."""
    left = UNLIMITED if limit.max_running is None else limit.max_running - running
    if limit.max_starts is not None and limit.per_seconds is not None:
        since = tx.lease_later() - limit.per_seconds
        started, _ = tx.starts_in_window(kind=limit.kind, name=limit.name, since=since)
        left = min(left, limit.max_starts - started)
    return max(0, left)


def of_keys(tx: Transaction, names: Iterable[str]) -> dict[str, Limit]:
    """The limits of these keys, where they have one."""
    rows = tx.key_limits(names=encoded(sorted(names)))
    return {row[1]: Limit(*row) for row in rows}


def running_in_lanes(tx: Transaction) -> dict[str, int]:
    """Tasks in progress by lane, with what this operation has changed itself."""
    running = {lane(queue, type): n for queue, type, n in tx.running_in_lanes()}
    for (where, status), n in tx.counts.items():
        if status == TaskStatus.IN_PROGRESS:
            running[where] = running.get(where, 0) + n
    return running


def running_under(tx: Transaction, limit: Limit, in_lanes: dict[str, int]) -> int:
    """How many tasks in progress a limit is about; of a queue or a type they are those `in_lanes`."""
    if limit.kind == "key":
        return int(tx.running_of_key(name=limit.name))
    return sum(n for where, n in in_lanes.items() if is_of(where, limit.kind, limit.name))


def note_starts(tx: Transaction, limit: Limit, n: int) -> None:
    """Remember that so many were started now, if its window counts starts.

    Not when the transaction began: if it waited for the limit, others have counted without its starts since.
    """
    if limit.max_starts is None or limit.per_seconds is None:
        return
    step, now = limit.per_seconds / MOMENTS, tx.lease_later()
    # Where there may be more, those of a step count as at its end: so the window never has too many.
    at = now if limit.max_starts <= MOMENTS else math.ceil(now / step) * step
    tx.add_starts(kind=limit.kind, name=limit.name, at=at, n=n)
    _expect_opening(tx, limit)


def _expect_opening(tx: Transaction, limit: Limit) -> None:
    """Forget starts that have left the window, and note when the next one does."""
    assert limit.per_seconds is not None
    since = tx.lease_now - limit.per_seconds
    tx.drop_starts(kind=limit.kind, name=limit.name, since=since)
    _, first = tx.starts_in_window(kind=limit.kind, name=limit.name, since=since)
    opens_at = None if first is None else max(first + limit.per_seconds, tx.lease_now + OPENING_SECONDS)
    tx.set_opening(kind=limit.kind, name=limit.name, opens_at=opens_at)
    if opens_at is not None:
        tx.due(tx.now + opens_at - tx.lease_now)


def settle(tx: Transaction) -> None:
    """Let in what the touched keys have room for; the last step of whatever changes tasks."""
    while tx.touched:
        names, tx.touched = sorted(tx.touched), set()
        limited = of_keys(tx, names)
        for name in names:
            _admit(tx, name, limited.get(name))


def _admit(tx: Transaction, name: str, limit: Limit | None) -> None:
    if limit is None:
        _admit_any(tx, name, UNLIMITED)  # of these nobody waits but what this very transaction brings
        return
    n = min(room(tx, limit, tx.running_of_key(name=name)), AHEAD)
    here: tuple[str, str] = ("", "")
    while n and (found := tx.next_waiting_lane(name=name, queue=here[0], type=here[1])):
        here = queue, type = found
        admitted = tx.admit(name=name, queue=queue, type=type, n=n).fetchall()
        tx.arrived(lane(queue, type), len(admitted))


def _admit_any(tx: Transaction, name: str, n: int) -> int:
    """Let in as many tasks of a key, whatever its limit; returns how many there were."""
    admitted = tx.admit_any(name=name, n=n).fetchall()
    for _, where in admitted:
        tx.arrived(where)
    return len(admitted)


def may_readopt(tx: Transaction, where: str, limit_key: str | None) -> bool:
    """Would one more running task keep all limits? Its place may have gone to another meanwhile."""
    in_lanes = running_in_lanes(tx)
    own = [limit for limit in (Limit(*row) for row in tx.lane_limits()) if is_of(where, limit.kind, limit.name)]
    own += [] if limit_key is None else of_keys(tx, [limit_key]).values()
    return all(
        limit.max_running is None or running_under(tx, limit, in_lanes) < limit.max_running for limit in own
    )


class Limits:
    """What operators do about limits and pauses, and what follows from it over several transactions."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.on_lanes = True  # may a queue or type be limited? Only a hint, for whom to wake

    # ------------------------------------------------------------------ operators

    def put(self, setting: LimitSetting) -> LimitView:
        """Set a limit, in place of the one there was; returns it. What runs already goes on. Invalid."""
        kind, name = named(setting)
        _check(setting)
        values: dict[str, Any] = {"max_running": setting.max_running, "max_starts": setting.max_starts}
        with_window = values | {"per_seconds": setting.per_seconds}

        def run(tx: Transaction) -> None:
            tx.put_limit(kind=kind, name=name, **with_window)
            if setting.max_starts is None:
                tx.drop_all_starts(kind=kind, name=name)
            tx.log("limit_set", kind=kind, name=name)

        self.database.write(run)
        self._bring_in_line(kind, name)
        with self.database.read() as tx:
            return self._view(tx, Limit(kind, name, **with_window), running_in_lanes(tx))

    def remove(self, kind: Kind, name: str) -> LimitView:
        """Lift a limit; returns it as it was. NotFound."""

        def run(tx: Transaction) -> LimitView:
            row = tx.limit(kind=kind, name=name)
            if row is None:
                raise errors.NotFound(f"there is no limit of {kind} {name!r}")
            tx.lift_limit(kind=kind, name=name)
            tx.log("limit_removed", kind=kind, name=name)
            return self._view(tx, Limit(*row), running_in_lanes(tx))

        view: LimitView = self.database.write(run)
        self._bring_in_line(kind, name)
        return view

    def views(self) -> list[LimitView]:
        """Every limit, with how many tasks run under it."""
        with self.database.read() as tx:
            in_lanes = running_in_lanes(tx)
            return [self._view(tx, Limit(*row), in_lanes) for row in tx.limit_views()]

    def _view(self, tx: Transaction, limit: Limit, in_lanes: dict[str, int]) -> LimitView:
        running = running_under(tx, limit, in_lanes)
        fields: dict[str, Any] = {limit.kind: limit.name, **limit._asdict(), "running": running}
        return LimitView(**{name: value for name, value in fields.items() if name not in ("kind", "name")})

    def pause(self, kind: Kind, name: str, paused: bool) -> None:
        """Let nothing more of a queue or type start, or let it start again; what runs goes on."""

        def run(tx: Transaction) -> None:
            changed = tx.pause(kind=kind, name=name, now=tx.now) if paused else tx.resume(kind=kind, name=name)
            if changed:
                tx.log("paused" if paused else "resumed", kind=kind, name=name)
            if changed and not paused:
                _wake(tx, kind, name)

        self.database.write(run)

    # ------------------------------------------------------------------ the monitor's

    def settle_all(self) -> int:
        """Go on with limits that were set or lifted when the dispatcher ended; returns how many."""
        with self.database.read() as tx:
            unsettled = tx.unsettled_limits().fetchall()
            self.on_lanes = bool(tx.limited_lanes().fetchall())
        for kind, name in unsettled:
            self._bring_in_line(kind, name)
        return len(unsettled)

    def open_windows(self) -> float | None:
        """Let more start where a window has moved on; returns when the next one does (wall clock)."""
        with self.database.read() as tx:
            opens_at = tx.next_opening()
            if opens_at is None or opens_at > tx.lease_now:
                return None if opens_at is None else float(tx.now + opens_at - tx.lease_now)

        def run(tx: Transaction) -> float | None:
            for kind, name in tx.opening_limits(lease_now=tx.lease_now, n=BITE).fetchall():
                self._open(tx, kind, name)
            settle(tx)
            following = tx.next_opening()
            return None if following is None else float(tx.now + following - tx.lease_now)

        answer: float | None = self.database.write(run)
        return answer

    def _open(self, tx: Transaction, kind: Kind, name: str) -> None:
        row = tx.limit(kind=kind, name=name)
        if row is None or row[4] is None:
            tx.set_opening(kind=kind, name=name, opens_at=None)
            return
        _expect_opening(tx, Limit(*row))
        if kind == "key":
            tx.touched.add(name)
        else:
            _wake(tx, kind, name)

    def _bring_in_line(self, kind: Kind, name: str) -> None:
        """Let the tasks stand as their limit says, bite after bite; the last one says that it is done."""
        if kind != "key":
            self.on_lanes = True
        while not self.database.write(lambda tx: _bite(tx, kind, name)):
            pass

    def wake_lanes(self, tx: Transaction) -> None:
        """Attempts have ended: claims that wait may now start others of a limited queue or type."""
        if not self.on_lanes:
            return
        freed = [k for (k, status), n in tx.counts.items() if status == TaskStatus.IN_PROGRESS and n < 0]
        if not freed:
            return
        for kind, name in tx.limited_lanes().fetchall():
            if any(is_of(where, kind, name) for where in freed):
                _wake(tx, kind, name)


def _bite(tx: Transaction, kind: Kind, name: str) -> bool:
    row = tx.limit(kind=kind, name=name)
    if kind != "key":
        _wake(tx, kind, name)
    elif row is None:
        if _admit_any(tx, name, BITE) == BITE:
            return False
    elif len(tx.hold_back_any(name=name, n=BITE).fetchall()) == BITE:
        return False
    if row is None:
        tx.drop_limit(kind=kind, name=name)
        tx.drop_all_starts(kind=kind, name=name)
    else:
        tx.settle_limit(kind=kind, name=name)
        if row[4] is not None:
            _expect_opening(tx, Limit(*row))
    if kind == "key":
        tx.touched.add(name)
        settle(tx)
    return True


def _wake(tx: Transaction, kind: str, name: str) -> None:
    """Claims that wait for such tasks are tried again."""
    for (where,) in tx.pending_lanes():
        if is_of(where, kind, name):
            tx.arrived(where, WANT_MAX)


def _check(setting: LimitSetting) -> None:
    """Raises Invalid if it limits nothing."""
    if (setting.max_starts is None) != (setting.per_seconds is None):
        missing = "max_starts" if setting.max_starts is None else "per_seconds"
        raise errors.Invalid(f"max_starts and per_seconds go together; {missing} is missing", field=missing)
    if setting.max_running is None and setting.max_starts is None:
        raise errors.Invalid("give max_running, or max_starts with per_seconds, or all", field="max_running")


def named(setting: LimitName) -> tuple[Kind, str]:
    """The one of queue, type and key that is set; raises Invalid."""
    given: list[tuple[Kind, str]] = [
        (kind, getattr(setting, kind)) for kind in ("queue", "type", "key") if getattr(setting, kind) is not None
    ]
    if len(given) != 1:
        raise errors.Invalid("name exactly one of queue, type and key", field="queue")
    return given[0]
