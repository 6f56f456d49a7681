"""Schedules in the ledger: each slot fires once, whatever the dispatcher and the clock do."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest

from dispatcher import firing
from shared import errors
from shared.protocol import Submission
from shared.schedules import ScheduleChange, SlotFilter
from tests.support import messages
from tests.support.builder import Builder
from tests.support.clockwork import DAY, MINUTE, Clockwork
from tests.support.waiting import wait_until


def test_it_fires_at_each_slot_and_the_first_is_after_one_period(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)

    clockwork.pass_time(59)
    assert clockwork.ticks() == 0
    clockwork.pass_time(1)
    assert clockwork.ticks() == 1
    clockwork.pass_time(5 * MINUTE)

    assert clockwork.ticks() == 6
    assert clockwork.outcomes() == ["fired"] * 6


def test_the_monitor_is_told_when_the_next_slot_is(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    began = tasks.dispatcher.clock.wall()

    assert clockwork.schedules.fire() == began + 60
    tasks.advance(60)
    assert clockwork.schedules.fire() == began + 120


def test_the_monitor_wakes_at_the_slot(tasks: Builder) -> None:
    tasks.dispatcher.monitor.start()
    clockwork = Clockwork(tasks)

    tasks.advance(60)

    wait_until(clockwork.ticks, "the schedule to fire")
    tasks.dispatcher.monitor.stop()


def test_what_it_submits_is_a_task_like_any_other(tasks: Builder) -> None:
    task = {"type": "tick", "payload": {"n": 1}, "priority": 7, "delay_seconds": 5, "tags": ["nightly"]}
    clockwork = Clockwork(tasks, task=task)

    clockwork.pass_time(60)

    view = tasks.view(1)
    assert (view.type, view.status, view.priority, view.tags) == ("tick", "scheduled", 7, ["nightly"])
    assert msgspec.json.decode(view.payload) == {"n": 1}


def test_a_flow_is_fired_whole(tasks: Builder) -> None:
    flow = {
        "name": "report",
        "tasks": [{"key": "a", "type": "tick"}, {"key": "b", "type": "tick", "depends_on": ["a"]}],
    }
    clockwork = Clockwork(tasks, flow=flow)

    clockwork.pass_time(2 * MINUTE)

    assert tasks.dispatcher.rows("SELECT name FROM flows") == [("report",), ("report",)]
    assert tasks.dispatcher.rows("SELECT flow_id FROM schedule_slots ORDER BY 1") == [(1,), (2,)]
    assert clockwork.ticks() == 4


# --- days without a dispatcher


@pytest.mark.parametrize(
    ("missed", "ticks"),
    [("once", 1), ("skip", 0), ("all", 24)],
)
def test_a_day_without_a_dispatcher(tasks: Builder, missed: str, ticks: int) -> None:
    clockwork = Clockwork(tasks, cron="30 * * * *", missed=missed)

    clockwork.sleep(DAY + 600)

    assert clockwork.ticks() == ticks
    clockwork.pass_time(2 * 3600)
    assert clockwork.ticks() == ticks + 2
    clockwork.check_that_no_slot_came_twice()


def test_of_very_many_missed_slots_the_newest_thousand_are_made_up(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, missed="all")

    clockwork.sleep(DAY)

    assert clockwork.ticks() == 1000
    oldest = tasks.dispatcher.rows("SELECT MIN(slot_at) FROM schedule_slots")[0][0]
    assert oldest == pytest.approx(tasks.dispatcher.clock.wall() - 999 * 60)
    (line,) = tasks.dispatcher.events("schedule_missed")
    assert line["name"] == "s"


def test_a_slot_reached_within_a_minute_was_not_missed(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, every_seconds=3600, missed="skip")

    clockwork.sleep(3600 + 30)

    assert clockwork.outcomes() == ["fired"]


def test_a_missed_slot_leaves_its_mark(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, every_seconds=3600, missed="skip")

    clockwork.sleep(3600 + 90)

    assert clockwork.outcomes() == ["missed"]


@pytest.mark.parametrize("after", range(4))
def test_a_dispatcher_that_dies_between_the_bites_makes_up_the_rest_once(tasks: Builder, after: int) -> None:
    clockwork = Clockwork(tasks, missed="all")
    tasks.advance(350 * MINUTE)
    real, calls = tasks.dispatcher.database.write, []

    def dying(run: Any) -> Any:
        calls.append(run)
        if len(calls) > after:
            raise errors.DatabaseUnavailable
        return real(run)

    tasks.dispatcher.database.write = dying  # type: ignore[method-assign]
    with pytest.raises(errors.DatabaseUnavailable):
        clockwork.schedules.fire()
    assert clockwork.ticks() == 100 * after
    tasks.dispatcher.restart()
    clockwork.schedules.fire()

    assert clockwork.ticks() == 350
    clockwork.check_that_no_slot_came_twice()


# --- clocks


def test_a_clock_that_jumps_a_day_ahead_and_back_fires_no_slot_twice(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.pass_time(10 * MINUTE)

    tasks.dispatcher.clock.jump_wall(DAY)
    clockwork.schedules.fire()
    assert clockwork.ticks() == 11
    tasks.dispatcher.clock.jump_wall(-DAY)
    clockwork.pass_time(10 * MINUTE)

    assert clockwork.ticks() == 21
    clockwork.check_that_no_slot_came_twice()


def test_a_clock_that_jumps_back_repeats_no_slot(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.pass_time(10 * MINUTE)

    tasks.dispatcher.clock.jump_wall(-5 * MINUTE)
    clockwork.pass_time(5 * MINUTE)

    assert clockwork.ticks() == 10
    clockwork.pass_time(MINUTE)
    assert clockwork.ticks() == 11


def test_a_clock_that_was_set_back_while_nobody_ran_holds_nothing_up(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    tasks.dispatcher.clock.jump_wall(100 * DAY)
    clockwork.schedules.fire()

    clockwork.sleep(-100 * DAY)
    clockwork.pass_time(5 * MINUTE)

    assert clockwork.ticks() == 1 + 5


@pytest.mark.parametrize("day", [datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)])
def test_over_a_change_of_the_clock_a_night_task_runs_once_every_night(tasks: Builder, day: datetime) -> None:
    tasks.dispatcher.clock.jump_wall(day.timestamp() - tasks.dispatcher.clock.wall())
    clockwork = Clockwork(tasks, cron="30 2 * * *", timezone="Europe/Berlin")

    for _ in range(4 * 24):
        tasks.advance(3600)
        clockwork.schedules.fire()

    assert clockwork.ticks() == 4
    clockwork.check_that_no_slot_came_twice()


def test_two_monitors_that_found_the_same_slot_due_fire_it_once(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.schedules.fire()
    tasks.advance(60)
    now = tasks.dispatcher.clock.wall()
    with tasks.dispatcher.database.read() as tx:
        row = firing.Row(*tx.due_schedules(now=now, n=1).fetchall()[0])
    plans = [firing.plan(row, now), firing.plan(row, now)]

    for (plan,) in plans:
        tasks.dispatcher.database.write(partial(lambda tx, plan: firing.fire(tx, plan), plan=plan))

    assert clockwork.ticks() == 1


def test_a_slot_with_a_row_fires_for_nobody(tasks: Builder) -> None:
    """As if the other monitor's transaction had come between this one's look and its own insert."""
    clockwork = Clockwork(tasks)
    clockwork.schedules.fire()
    tasks.advance(60)
    tasks.dispatcher.database.write(lambda tx: tx.take_slot(schedule_id=1, slot_at=tx.now, now=tx.now))
    tasks.dispatcher.database.write(
        lambda tx: tx.note_slot(
            schedule_id=1, slot_at=tx.now, by_hand=0, outcome="skipped", task_id=None, flow_id=None, message=None
        )
    )

    clockwork.schedules.fire()

    assert clockwork.ticks() == 0


# --- overlap


@pytest.mark.parametrize(("overlap", "ticks"), [("allow", 3), ("skip", 1)])
def test_what_has_not_ended_may_hold_back_the_next(tasks: Builder, overlap: str, ticks: int) -> None:
    clockwork = Clockwork(tasks, overlap=overlap)

    clockwork.pass_time(3 * MINUTE)

    assert clockwork.ticks() == ticks
    assert clockwork.outcomes() == ["fired", *(["fired" if overlap == "allow" else "skipped"] * 2)]


def test_once_it_has_ended_the_next_fires(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, overlap="skip")
    clockwork.pass_time(2 * MINUTE)

    tasks.say("w1", results=[messages.completed(tasks.claim_one())])
    clockwork.pass_time(MINUTE)

    assert clockwork.outcomes() == ["fired", "skipped", "fired"]


def test_a_flow_that_has_not_ended_holds_back_the_next(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, overlap="skip", flow={"tasks": [{"key": "a", "type": "tick"}]})
    clockwork.pass_time(2 * MINUTE)

    tasks.dispatcher.ledger.flows.cancel(1)
    clockwork.pass_time(MINUTE)

    assert clockwork.outcomes() == ["fired", "skipped", "fired"]


@pytest.mark.parametrize(
    "what", [{"task": {"type": "tick"}}, {"flow": {"tasks": [{"key": "a", "type": "tick"}]}}], ids=["task", "flow"]
)
def test_of_missed_slots_that_are_made_up_at_once_the_first_holds_back_the_others(
    tasks: Builder, what: dict[str, Any]
) -> None:
    clockwork = Clockwork(tasks, overlap="skip", missed="all", **what)

    clockwork.sleep(3 * MINUTE)

    assert clockwork.outcomes() == ["fired", "skipped", "skipped"]


# --- changes


@pytest.mark.parametrize(("missed", "fired"), [("all", 3), ("once", 1)])
def test_a_change_of_something_else_loses_no_slot_that_is_due(tasks: Builder, missed: str, fired: int) -> None:
    clockwork = Clockwork(tasks, missed=missed)
    tasks.advance(3 * MINUTE)

    clockwork.schedules.change("s", ScheduleChange(overlap="allow"))
    clockwork.schedules.fire()

    assert clockwork.outcomes() == ["fired"] * fired


def test_a_new_timetable_begins_now(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, missed="all")
    tasks.advance(3 * MINUTE)

    clockwork.schedules.change("s", ScheduleChange(every_seconds=30.0))
    clockwork.pass_time(MINUTE)

    assert clockwork.outcomes() == ["fired"] * 2


def test_what_is_changed_while_a_slot_is_due_fires_as_it_is_now(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    tasks.advance(60)
    now = tasks.dispatcher.clock.wall()
    with tasks.dispatcher.database.read() as tx:
        (plan,) = firing.plan(firing.Row(*tx.due_schedules(now=now, n=1).fetchall()[0]), now)

    clockwork.schedules.change("s", ScheduleChange(task=Submission("other")))
    tasks.dispatcher.database.write(lambda tx: firing.fire(tx, plan))
    clockwork.schedules.fire()

    assert tasks.dispatcher.rows("SELECT type FROM tasks") == [("other",)]
    assert clockwork.outcomes() == ["fired"]


# --- history


def test_the_history_page_by_page_tells_every_slot_once(tasks: Builder) -> None:
    tasks.advance(0.0004)  # slots lie between the milliseconds that clients see
    clockwork = Clockwork(tasks, every_seconds=1.0001)
    for _ in range(3):
        clockwork.schedules.fire_now("s")
    for _ in range(3):
        tasks.advance(1.1)
        clockwork.schedules.fire()

    seen: list[Any] = []
    before: str | None = None
    while not seen or before is not None:
        page = clockwork.schedules.history("s", SlotFilter(limit=1, before=before))
        seen += page["history"]
        before = page["next"]

    assert [slot.task_id for slot in seen] == [6, 5, 4, 3, 2, 1]
    assert seen == clockwork.schedules.history("s", SlotFilter())["history"]


def test_the_history_ends_before_a_moment(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.pass_time(3 * MINUTE)
    newest = clockwork.schedules.history("s", SlotFilter(limit=1))["history"][0]

    older = clockwork.schedules.history("s", SlotFilter(before=newest.slot_at))["history"]

    assert [slot.task_id for slot in older] == [2, 1]


@pytest.mark.parametrize("before", ["x", "x_1", "1_x", "nan_1", "inf_0", "1.0_-1", "1_99999999999999999999", "_"])
def test_a_page_of_history_before_nothing_is_refused(tasks: Builder, before: str) -> None:
    clockwork = Clockwork(tasks)

    with pytest.raises(errors.Invalid) as refused:
        clockwork.schedules.history("s", SlotFilter(before=before))

    assert refused.value.details["field"] == "before"
