"""What happens when slots of a schedule are due: decided by `plan`, carried out by `fire` in one transaction.

A slot has one row, and only the transaction that inserts it submits anything; so a slot fires once,
whatever crashes, jumps or happens twice. When slots are due is in slots.py.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from dispatcher import checks, flows, recipes
from dispatcher.recipes import Make
from dispatcher.slots import Timetable
from dispatcher.transaction import Transaction
from dispatcher.views import iso
from shared import errors
from shared.lifecycle import ENDED
from shared.protocol import MESSAGE_CHARS_MAX

MADE_UP_MAX: Final = 1000  # slots that `missed: all` makes up at once: the newest
BITE: Final = 100  # firings in one transaction: some milliseconds of the writer
# A slot that is reached later than this was missed. Monitors wake within milliseconds; a minute
# leaves room for a restart, which is no downtime.
LATE_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 3600.0  # when to look again at a timetable that could not be read


class Row(NamedTuple):
    """A schedule, as its statements answer it."""

    schedule_id: int
    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str
    anchor: float
    kind: str
    body: bytes
    missed: Any
    overlap: Any
    paused: int
    next_at: float
    created_at: float
    last_task_id: int | None
    last_flow_id: int | None

    @property
    def timetable(self) -> Timetable:
        """When it is due."""
        return Timetable(self.cron, self.every_seconds, self.timezone, self.anchor)


class Firing(NamedTuple):
    """Some slots of a schedule, and where it stands after them; a slot in `missed` only leaves its mark."""

    row: Row
    found_at: float  # next_at, as it must still be
    slots: list[float]
    missed: bool
    next_at: float
    make: Make | str  # a string: why it cannot be submitted
    events: list[tuple[str, dict[str, Any]]]  # what the log should say


def plan(row: Row, now: float) -> list[Firing]:
    """What to do about the slots that are due: usually one; more if nobody could fire them in time."""
    since = math.nextafter(row.next_at, 0.0)
    limit = MADE_UP_MAX if row.missed == "all" else 1
    try:
        slots, left_out = row.timetable.due(since, now, limit)
        next_at = row.timetable.next(now) or math.inf
    except Exception as problem:  # of this one, not of the others: its time zone is not known here
        return [_failed(Firing(row, row.next_at, [row.next_at], False, now + AGAIN_SECONDS, "", []), problem)]
    missed = row.missed == "skip" and bool(slots) and slots[-1] < now - LATE_SECONDS
    events: list[tuple[str, dict[str, Any]]] = []
    if left_out or missed:
        events.append(("schedule_missed", {"name": row.name, "before": iso(now if missed else slots[0])}))
    try:
        make: Make | str = recipes.make(row.kind, row.body)
    except Exception as problem:  # what it submits is no longer right
        make = _reason(problem)
        events.append(_failure(row, make))
    return _pieces(Firing(row, row.next_at, slots, missed, next_at, make, events), BITE)


def _pieces(whole: Firing, size: int) -> list[Firing]:
    """The same in firings of at most so many slots, one after the other."""
    pieces = [whole.slots[at : at + size] for at in range(0, len(whole.slots), size)] or [[]]
    starts = [whole.found_at, *(piece[0] for piece in pieces[1:])]
    ends = [*starts[1:], whole.next_at]
    return [
        whole._replace(found_at=start, slots=piece, next_at=end, events=[] if index else whole.events)
        for index, (start, piece, end) in enumerate(zip(starts, pieces, ends, strict=True))
    ]


def smaller(bite: list[Firing], problem: Exception) -> list[list[Firing]]:
    """What to try instead of a bite that `problem` has undone: its halves, or a mark at its only slot.

    So whatever is wrong with one slot costs no other. Raises `problem` if not even the mark could be kept.
    """
    if len(bite) > 1:
        middle = len(bite) // 2
        return [bite[:middle], bite[middle:]]
    (only,) = bite
    if len(only.slots) > 1:
        return [[piece] for piece in _pieces(only, math.ceil(len(only.slots) / 2))]
    if isinstance(only.make, str):
        raise problem
    return [[_failed(only, problem)]]


def _failed(firing: Firing, problem: Exception) -> Firing:
    """It submits nothing; its slots tell why."""
    reason = _reason(problem)
    return firing._replace(make=reason, events=[*firing.events, _failure(firing.row, reason)])


def _failure(row: Row, reason: str) -> tuple[str, dict[str, Any]]:
    return "schedule_failed", {"name": row.name, "reason": reason}


def _reason(problem: Exception) -> str:
    return checks.text(str(problem) or type(problem).__name__, MESSAGE_CHARS_MAX)


def fire(tx: Transaction, firing: Firing) -> None:
    """Take the slots, unless the schedule has been changed or removed since: then the next pass plans anew."""
    row = firing.row
    if not _is_as_planned(tx, firing):
        return
    for slot in firing.slots:
        if tx.take_slot(schedule_id=row.schedule_id, slot_at=slot, now=tx.now) is not None:
            _take(tx, firing, slot)
    tx.advance_schedule(schedule_id=row.schedule_id, next_at=firing.next_at)
    for event, facts in firing.events:
        tx.log(event, **facts)


def _is_as_planned(tx: Transaction, firing: Firing) -> bool:
    """Is the schedule what it was, but for what it has submitted meanwhile?"""
    row = firing.row
    state = tx.schedule_held(name=row.name)
    if state is None:
        return False
    present = Row(*state)._replace(last_task_id=row.last_task_id, last_flow_id=row.last_flow_id)
    return present == row._replace(next_at=firing.found_at)


def _take(tx: Transaction, firing: Firing, slot: float) -> None:
    row, make = firing.row, firing.make
    if firing.missed:
        _note(tx, row, slot, 0, "missed")
    elif isinstance(make, str):
        _note(tx, row, slot, 0, "failed", message=make)
    elif row.overlap == "skip" and _still_runs(tx, row):
        _note(tx, row, slot, 0, "skipped", message="what it submitted last has not ended")
    else:
        _try(tx, row, slot, make)


def _try(tx: Transaction, row: Row, slot: float, make: Make) -> None:
    """Submit, or keep why that is refused now; the next slot may be luckier."""
    try:
        submit(tx, row, slot, 0, make)
    except errors.Refused as problem:
        event, facts = _failure(row, _reason(problem))
        tx.log(event, **facts)
        _note(tx, row, slot, 0, "failed", message=facts["reason"])


def submit(tx: Transaction, row: Row, slot: float, by_hand: int, make: Make) -> tuple[int | None, int | None]:
    """Submit what a schedule submits, for a slot that this transaction has taken; (task_id, flow_id)."""
    task_id, flow_id = make(tx)
    _note(tx, row, slot, by_hand, "fired", task_id, flow_id)
    tx.note_last(schedule_id=row.schedule_id, task_id=task_id, flow_id=flow_id)
    return task_id, flow_id


def _note(
    tx: Transaction,
    row: Row,
    slot: float,
    by_hand: int,
    outcome: str,
    task_id: int | None = None,
    flow_id: int | None = None,
    message: str | None = None,
) -> None:
    tx.note_slot(
        schedule_id=row.schedule_id,
        slot_at=slot,
        by_hand=by_hand,
        outcome=outcome,
        task_id=task_id,
        flow_id=flow_id,
        message=message,
    )


def _still_runs(tx: Transaction, row: Row) -> bool:
    task_id, flow_id = tx.submitted_last(schedule_id=row.schedule_id)
    if flow_id is not None:
        return not flows.has_ended(tx, flow_id)
    state = None if task_id is None else tx.task_state(task_id=task_id)
    return state is not None and state[0] not in ENDED
