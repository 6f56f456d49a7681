"""Schedules in the ledger: paused, run by hand, changed, removed, listed."""

from __future__ import annotations

import msgspec
import pytest

from shared import errors
from shared.schedules import ScheduleChange, ScheduleFilter, SlotFilter
from tests.support.builder import Builder
from tests.support.clockwork import DAY, MINUTE, Clockwork
from tests.support.waiting import Call
from tests.support.writer_held import WriterHeld


def test_paused_it_fires_nothing_and_resumed_it_makes_nothing_up(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, missed="all")

    assert clockwork.schedules.pause("s", True).next_runs == []
    clockwork.pass_time(10 * MINUTE)
    assert clockwork.ticks() == 0
    clockwork.schedules.pause("s", False)
    clockwork.pass_time(MINUTE)

    assert clockwork.ticks() == 1


def test_run_by_hand_takes_no_slot_away(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    tasks.advance(60)

    assert clockwork.schedules.fire_now("s") == {"task_id": 1}
    assert clockwork.schedules.fire_now("s") == {"task_id": 2}
    clockwork.schedules.fire()

    assert clockwork.ticks() == 3
    history = clockwork.schedules.history("s", SlotFilter())["history"]
    assert [(slot.outcome, slot.by_hand, slot.task_id) for slot in history] == [
        ("fired", True, 2), ("fired", True, 1), ("fired", False, 3),
    ]  # fmt: skip


def test_two_who_run_it_in_the_same_transaction_both_get_a_task(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    with WriterHeld(tasks.dispatcher.database) as held:
        calls = [Call(clockwork.schedules.fire_now, "s") for _ in range(2)]
        held.wait_for_queued(2)

    assert sorted(call.result()["task_id"] for call in calls) == [1, 2]


def test_a_changed_timetable_begins_anew(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    tasks.advance(30)

    view, _ = clockwork.schedules.change("s", ScheduleChange(every_seconds=600.0))
    clockwork.pass_time(599)
    assert clockwork.ticks() == 0
    clockwork.pass_time(1)

    assert (view.every_seconds, clockwork.ticks()) == (600.0, 1)


def test_changing_what_it_submits_leaves_the_timetable(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    tasks.advance(30)
    change = msgspec.json.decode(
        b'{"task": {"type": "tick", "priority": 9}, "missed": "all"}', type=ScheduleChange
    )

    view, _ = clockwork.schedules.change("s", change)
    clockwork.pass_time(30)

    assert (view.missed, tasks.view(1).priority) == ("all", 9)


def test_removing_it_leaves_what_it_has_submitted(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.pass_time(MINUTE)

    clockwork.schedules.remove("s")
    clockwork.pass_time(MINUTE)

    assert clockwork.ticks() == 1
    with pytest.raises(errors.NotFound):
        clockwork.schedules.show("s")
    assert tasks.dispatcher.rows("SELECT * FROM schedule_slots") == []


def test_schedules_are_listed_by_name_and_their_history_newest_first(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, name="b")
    Clockwork(tasks, name="a")
    clockwork.pass_time(3 * MINUTE)

    first = clockwork.schedules.page(ScheduleFilter(limit=1))
    second = clockwork.schedules.page(ScheduleFilter(limit=1, after=first["next"]))
    newest = clockwork.schedules.history("b", SlotFilter(limit=2))
    oldest = clockwork.schedules.history("b", SlotFilter(limit=2, before=newest["next"]))

    assert [view.name for view in first["schedules"] + second["schedules"]] == ["a", "b"]
    assert second["next"] is None
    assert [len(newest["history"]), len(oldest["history"]), oldest["next"]] == [2, 1, None]


def test_a_name_is_taken_once(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)

    with pytest.raises(errors.Conflict):
        Clockwork(tasks)

    assert len(clockwork.schedules.page(ScheduleFilter())["schedules"]) == 1


def test_old_slots_are_forgotten(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.pass_time(MINUTE)
    tasks.cancel(1)

    before = clockwork.outcomes()
    tasks.advance(40 * DAY)
    tasks.dispatcher.ledger.prune()

    assert (before, clockwork.outcomes()) == (["fired"], [])


def test_old_slots_are_forgotten_where_nothing_else_is_old(tasks: Builder) -> None:
    clockwork = Clockwork(tasks)
    clockwork.pass_time(MINUTE)  # its task lives on

    before = clockwork.outcomes()
    tasks.advance(40 * DAY)
    tasks.dispatcher.ledger.prune()

    assert (before, clockwork.outcomes()) == (["fired"], [])
    assert clockwork.ticks() == 1


def test_very_many_old_slots_are_forgotten_bite_by_bite(tasks: Builder) -> None:
    clockwork = Clockwork(tasks, missed="all", overlap="skip", every_seconds=1)
    clockwork.sleep(600)
    tasks.advance(40 * DAY)

    left = []
    for _ in range(3):
        left.append(len(clockwork.outcomes()))
        tasks.dispatcher.ledger.prune()

    assert left == [600, 100, 0]
