"""Schedules: recurring submissions, which the monitor fires when their slots come.

What a schedule submits is in recipes.py, when in slots.py, what happens then in firing.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from dispatcher import checks, firing, recipes
from dispatcher.database import Database
from dispatcher.firing import Row
from dispatcher.operation import Run
from dispatcher.registry import Registry
from dispatcher.slots import LATEST, Timetable, problem, zone
from dispatcher.transaction import Transaction
from dispatcher.views import iso
from shared import errors
from shared.protocol import INTEGER_MAX
from shared.schedules import (
    ScheduleChange,
    ScheduleFilter,
    ScheduleSubmission,
    ScheduleView,
    SlotFilter,
    SlotView,
    submitted,
)

NEXT_RUNS: Final = 5


class Schedules:
    """The verbs of schedules, each one transaction, the questions about them, and the monitor's duty."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        write: Callable[[Run], Any],
        lead: Callable[[Run], Any],
    ) -> None:
        """`write`, `lead`: those of the ledger, for clients and for the monitor's duty."""
        self._database = database
        self._write = write
        self._lead = lead
        self._registry = registry
        self._passed_at = math.inf  # wall clock of the last pass; before the first one nothing is certain

    # ------------------------------------------------------------------ clients

    def add(self, wanted: ScheduleSubmission) -> tuple[ScheduleView, str | None]:
        """A new schedule, and a warning or None. Invalid naming the field, Conflict if the name is taken."""
        kind, body = recipes.body(wanted.task, wanted.flow)
        now = self._database.clock.wall()
        _check_times(wanted.cron, wanted.every_seconds, wanted.timezone, now)
        types = recipes.types(kind, body)

        def run(tx: Transaction) -> str | None:
            timetable = Timetable(wanted.cron, wanted.every_seconds, wanted.timezone, tx.now)
            next_at = timetable.next(tx.now) or math.inf
            added = tx.add_schedule(
                name=wanted.name,
                cron=wanted.cron,
                every_seconds=wanted.every_seconds,
                timezone=wanted.timezone,
                anchor=tx.now,
                kind=kind,
                body=body,
                missed=wanted.missed,
                overlap=wanted.overlap,
                next_at=next_at,
                now=tx.now,
            )
            if added is None:
                raise errors.Conflict(f"there is a schedule {wanted.name!r} already; change it with PATCH")
            tx.due(next_at)
            return self._registry.unknown_types_warning(tx, types)

        warning: str | None = self._write(run)
        return self.show(wanted.name), warning

    def change(self, name: str, change: ScheduleChange) -> tuple[ScheduleView, str | None]:
        """Replace what is given; a new timetable begins now. As `add`; NotFound."""
        given = {key: value for key, value in msgspec.structs.asdict(change).items() if value is not msgspec.UNSET}
        body = (
            recipes.body(given.pop("task", None), given.pop("flow", msgspec.UNSET))
            if {"task", "flow"} & given.keys()
            else None
        )
        if {"cron", "every_seconds"} <= given.keys():
            raise errors.Invalid("cron and every_seconds are both set; give one", field="every_seconds")
        if "cron" in given:
            given["every_seconds"] = None
        elif "every_seconds" in given:
            given["cron"] = None

        def run(tx: Transaction) -> str | None:
            row = _hold(tx, name)._replace(**given)
            if body is not None:
                row = row._replace(kind=body[0], body=body[1])
            if given.keys() & {"cron", "every_seconds", "timezone"}:
                _check_times(row.cron, row.every_seconds, row.timezone, tx.now)
                row = row._replace(anchor=tx.now)
                row = row._replace(next_at=row.timetable.next(tx.now) or math.inf)
            _save(tx, row)
            return None if body is None else self._registry.unknown_types_warning(tx, recipes.types(*body))

        warning: str | None = self._write(run)
        return self.show(name), warning

    def pause(self, name: str, paused: bool) -> ScheduleView:
        """Stop firing, or go on with the next slot from now; a second time changes nothing. NotFound."""

        def run(tx: Transaction) -> None:
            row = _hold(tx, name)
            if row.paused and not paused:
                row = row._replace(next_at=row.timetable.next(tx.now) or math.inf)
            _save(tx, row._replace(paused=int(paused)))

        self._write(run)
        return self.show(name)

    def fire_now(self, name: str) -> dict[str, Any]:
        """Submit what it would submit, at once and beside its timetable; {"task_id"} or {"flow_id"}. NotFound."""

        def run(tx: Transaction) -> dict[str, Any]:
            row = _hold(tx, name)
            by_hand = tx.take_turn(schedule_id=row.schedule_id, now=tx.now)
            task_id, flow_id = firing.submit(tx, row, tx.now, by_hand, recipes.make(row.kind, row.body))
            return submitted(task_id, flow_id)

        answer: dict[str, Any] = self._write(run)
        return answer

    def remove(self, name: str) -> ScheduleView:
        """Forget a schedule and its history; what it has submitted stays. NotFound."""
        view = self.show(name)

        def run(tx: Transaction) -> None:
            row = _hold(tx, name)
            tx.drop_slots(schedule_id=row.schedule_id)
            tx.drop_schedule(schedule_id=row.schedule_id)

        self._write(run)
        return view

    def show(self, name: str) -> ScheduleView:
        """One schedule. NotFound."""
        with self._database.read() as tx:
            return _view(_find(tx, name), tx.now)

    def page(self, wanted: ScheduleFilter) -> dict[str, Any]:
        """A page, by name: `{"schedules": [...], "next": cursor or None}`."""
        with self._database.read() as tx:
            rows = [Row(*row) for row in tx.schedule_page(after=wanted.after, n=wanted.limit + 1)]
            views = [_view(row, tx.now) for row in rows[: wanted.limit]]
        return {"schedules": views, "next": views[-1].name if len(rows) > wanted.limit else None}

    def history(self, name: str, wanted: SlotFilter) -> dict[str, Any]:
        """What became of its slots, newest first: `{"history": [...], "next": cursor or None}`. NotFound."""
        slot_at, by_hand = _place(wanted.before)
        with self._database.read() as tx:
            row = _find(tx, name)
            place = {"slot_at": slot_at, "by_hand": by_hand}
            slots = tx.slot_page(schedule_id=row.schedule_id, **place, n=wanted.limit + 1).fetchall()
        shown = slots[: wanted.limit]
        following = "{!r}_{}".format(*shown[-1]) if len(slots) > len(shown) else None
        return {"history": [_slot_view(slot) for slot in shown], "next": following}

    # ------------------------------------------------------------------ the monitor's

    def fire(self) -> float | None:
        """Fire what is due; returns when the next slot is (wall clock) or None."""
        now = self._database.clock.wall()
        if now < self._passed_at:
            self._look_back(now)
        self._passed_at = now
        with self._database.read() as tx:
            due = [Row(*row) for row in tx.due_schedules(now=now, n=firing.BITE)]
            following: float | None = tx.next_slot()
        firings = [each for row in due for each in firing.plan(row, now)]
        while firings:
            bite = [firings.pop(0)]
            while firings and sum(len(each.slots) for each in bite) + len(firings[0].slots) <= firing.BITE:
                bite.append(firings.pop(0))
            self._carry_out(bite)
        if due:
            with self._database.read() as tx:
                following = tx.next_slot()
        return following

    def _carry_out(self, bite: list[firing.Firing]) -> None:
        """In one transaction; if that cannot be, in smaller ones."""
        try:
            self._lead(partial(_fire, bite))
        except errors.Unavailable:
            raise  # nobody's fault: the next pass tries again
        except Exception as problem:
            for part in firing.smaller(bite, problem):
                self._carry_out(part)

    def _look_back(self, now: float) -> None:
        """The clock was set back (or this is the first look at it): a slot that is near again is due again.

        One that has fired has its row, and does not fire twice.
        """
        with self._database.read() as tx:
            rows = tx.waiting_schedules().fetchall()
        for schedule_id, cron, every_seconds, timezone, anchor, next_at in rows:
            try:
                nearest = Timetable(cron, every_seconds, timezone, anchor).next(now)
            except errors.Invalid:  # of this one, not of the others: let its firing tell at once
                nearest = now
            if nearest is not None and nearest < next_at:
                self._lead(partial(_bring_forward, schedule_id, nearest))


def _fire(bite: list[firing.Firing], tx: Transaction) -> None:
    for each in bite:
        firing.fire(tx, each)


def _bring_forward(schedule_id: int, next_at: float, tx: Transaction) -> None:
    tx.advance_schedule(schedule_id=schedule_id, next_at=next_at)


def _check_times(cron: str | None, every_seconds: float | None, timezone: str, now: float) -> None:
    if (cron is None) == (every_seconds is None):
        raise errors.Invalid("give when to fire: either cron or every_seconds", field="cron")
    zone(timezone)
    wrong = None if cron is None else problem(cron, now, timezone)
    if wrong is not None:
        raise errors.Invalid(f"cron: {cron!r} cannot be used: {wrong}", field="cron")


def _find(tx: Transaction, name: str) -> Row:
    return _there(tx.schedule(name=checks.findable(name)), name)


def _hold(tx: Transaction, name: str) -> Row:
    """The same for who changes it; other dispatchers wait until this transaction ends."""
    return _there(tx.schedule_held(name=checks.findable(name)), name)


def _there(row: tuple[Any, ...] | None, name: str) -> Row:
    if row is None:
        raise errors.NotFound(f"there is no schedule {name!r}")
    return Row(*row)


def _save(tx: Transaction, row: Row) -> None:
    values = row._asdict()
    for name in ("name", "created_at", "last_task_id", "last_flow_id"):
        del values[name]
    tx.change_schedule(**values)
    if not row.paused:
        tx.due(row.next_at)


def _next_runs(row: Row, now: float) -> list[float]:
    """None while it is paused, or its time zone not known."""
    if row.paused:
        return []
    try:
        return row.timetable.upcoming(max(now, math.nextafter(row.next_at, 0.0)), NEXT_RUNS)
    except errors.Invalid:
        return []


def _view(row: Row, now: float) -> ScheduleView:
    view = ScheduleView(
        name=row.name,
        cron=row.cron,
        every_seconds=row.every_seconds,
        timezone=row.timezone,
        missed=row.missed,
        overlap=row.overlap,
        paused=bool(row.paused),
        created_at=iso(row.created_at) or "",
        next_runs=[iso(slot) or "" for slot in _next_runs(row, now)],
    )
    setattr(view, row.kind, msgspec.Raw(row.body))
    if row.last_task_id is not None:
        view.last_task_id = row.last_task_id
    if row.last_flow_id is not None:
        view.last_flow_id = row.last_flow_id
    return view


def _place(before: str | None) -> tuple[float, int]:
    """What a page of slots ends before: a moment, or a slot, as the `next` of another page. Invalid."""
    if before is None:
        return LATEST, 0
    at, between, by_hand = before.partition("_")
    if not between:
        return checks.moment(before, "before"), 0
    try:
        place = float(at), int(by_hand)
    except ValueError:
        place = math.nan, 0
    if not (math.isfinite(place[0]) and 0 <= place[1] <= INTEGER_MAX):
        raise errors.Invalid("before must be a moment, or the `next` of an answer before", field="before")
    return place


def _slot_view(slot: tuple[Any, ...]) -> SlotView:
    slot_at, by_hand, fired_at, outcome, task_id, flow_id, message = slot
    return SlotView(iso(slot_at) or "", iso(fired_at) or "", outcome, bool(by_hand), task_id, flow_id, message)
