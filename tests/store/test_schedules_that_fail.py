"""Schedules that cannot fire: they say why, move on, and are in nobody's way."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from dispatcher import flows, slots
from dispatcher.transaction import Transaction
from shared import errors
from shared.schedules import ScheduleChange, SlotFilter, SlotView
from tests.support import messages
from tests.support.builder import Builder
from tests.support.clockwork import DAY, MINUTE, Clockwork

ONE_AT_A_TIME = {"tasks": [{"key": "a", "type": "tick", "unique_key": "k"}]}


def history(clockwork: Clockwork, name: str = "s") -> list[SlotView]:
    """Of a schedule, oldest first."""
    views: list[SlotView] = clockwork.schedules.history(name, SlotFilter())["history"]
    return views[::-1]


def test_what_is_refused_leaves_its_reason_and_the_next_slot_fires_again(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, flow=ONE_AT_A_TIME)

    clockwork.pass_time(2 * MINUTE)
    tasks.report(messages.completed(tasks.claim_one()))
    clockwork.pass_time(MINUTE)

    assert clockwork.outcomes() == ["fired", "failed", "fired"]
    assert "unique_key" in (history(clockwork)[1].message or "")
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM flows") == [(2,)]  # nothing half-made
    (line,) = tasks.dispatcher.events("schedule_failed")
    assert line["name"] == "s"


def test_a_thousand_missed_slots_that_are_refused_are_kept_as_failed(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, flow=ONE_AT_A_TIME, missed="all")

    clockwork.sleep(DAY)

    assert clockwork.outcomes() == ["fired", *["failed"] * 999]


def test_a_flow_with_a_key_that_is_taken_leaves_nothing(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, flow=ONE_AT_A_TIME)
    clockwork.schedules.fire_now("s")

    with pytest.raises(errors.Conflict, match="unique_key"):
        clockwork.schedules.fire_now("s")

    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM flows") == [(1,)]
    assert clockwork.outcomes() == ["fired"]


@pytest.mark.parametrize("missed", ["once", "all"])
def test_whatever_goes_wrong_with_one_the_others_fire(
    tasks: Builder, monkeypatch: pytest.MonkeyPatch, missed: str
) -> None:
    for number in range(5):
        Clockwork(tasks, name=f"good-{number}", missed=missed)
    clockwork = Clockwork(tasks, name="bad", missed=missed, flow={"tasks": [{"key": "a", "type": "other"}]})
    Clockwork(tasks, name="last", missed=missed)

    def store(tx: Transaction, name: str | None, *_: Any) -> None:
        tx.add_flow(name=name, now=tx.now)
        raise RuntimeError("half-made\0")

    monkeypatch.setattr(flows, "store", store)
    tasks.advance(3 * MINUTE)
    clockwork.schedules.fire()

    each = 1 if missed == "once" else 3
    assert clockwork.ticks() == 6 * each
    assert [(slot.outcome, slot.message) for slot in history(clockwork, "bad")] == [("failed", "half-made")] * each
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM flows") == [(0,)]
    assert len(tasks.dispatcher.events("schedule_failed")) == each


def test_a_slot_that_fails_costs_the_other_missed_ones_nothing(
    tasks: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork = Clockwork(tasks, missed="all", flow={"tasks": [{"key": "a", "type": "tick"}]})
    real, calls = flows.store, []

    def store(tx: Transaction, *rest: Any) -> Any:
        slots_taken = tx.slot_page(schedule_id=1, slot_at=slots.LATEST, by_hand=0, n=10).fetchall()
        calls.append(slots_taken[0][0])
        if calls[-1] == calls[0] + 2 * MINUTE:
            raise RuntimeError("not this one")
        return real(tx, *rest)

    monkeypatch.setattr(flows, "store", store)
    tasks.advance(5 * MINUTE)
    clockwork.schedules.fire()

    assert clockwork.outcomes() == ["fired", "fired", "failed", "fired", "fired"]
    clockwork.check_that_no_slot_came_twice()


def test_while_the_database_cannot_be_written_no_slot_is_lost(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    tasks.advance(MINUTE)
    real = tasks.dispatcher.database.write

    def fail(_: Any) -> None:
        raise errors.DatabaseUnavailable

    tasks.dispatcher.database.write = fail  # type: ignore[method-assign]
    with pytest.raises(errors.DatabaseUnavailable):
        clockwork.schedules.fire()
    tasks.dispatcher.database.write = real  # type: ignore[method-assign]
    clockwork.schedules.fire()

    assert clockwork.outcomes() == ["fired"]


@pytest.fixture
def no_berlin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the zone unknown, as on a machine with other tables of time zones."""

    def unknown(name: str) -> ZoneInfo:
        if name == "Europe/Berlin":
            raise ZoneInfoNotFoundError(name)
        return ZoneInfo(name)

    return lambda: monkeypatch.setattr(slots, "ZoneInfo", unknown)


def test_a_time_zone_that_is_not_known_any_more_holds_up_one_schedule(tasks: Builder, no_berlin: Any) -> None:
    Clockwork(tasks, name="bad", cron="* * * * *", timezone="Europe/Berlin", task={"type": "other"})
    clockwork = Clockwork(tasks)
    no_berlin()

    clockwork.sleep(MINUTE)
    clockwork.pass_time(9 * MINUTE)

    assert clockwork.ticks() == 10
    (slot,) = history(clockwork, "bad")
    assert slot.outcome == "failed"
    assert "Europe/Berlin" in (slot.message or "")
    assert clockwork.schedules.show("bad").next_runs == []


def test_a_schedule_whose_time_zone_is_known_again_goes_on(
    tasks: Builder, no_berlin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork = Clockwork(tasks, cron="0 * * * *", timezone="Europe/Berlin")
    clockwork.schedules.fire()
    no_berlin()
    clockwork.pass_time(3600)
    assert clockwork.outcomes() == ["failed"]

    monkeypatch.undo()
    clockwork.pass_time(2 * 3600)

    assert clockwork.outcomes() == ["failed", "fired", "fired"]


def test_another_time_zone_mends_it_at_once(tasks: Builder, no_berlin: Any) -> None:
    clockwork = Clockwork(tasks, cron="* * * * *", timezone="Europe/Berlin")
    no_berlin()
    clockwork.pass_time(MINUTE)

    clockwork.schedules.change("s", ScheduleChange(timezone="UTC"))
    clockwork.pass_time(2 * MINUTE)

    assert clockwork.outcomes() == ["failed", "fired", "fired"]
