"""Counts, work totals and pruning: what /stats says is what the tables hold."""

from __future__ import annotations

import pytest

from dispatcher import submissions as storage
from dispatcher.ledger import BITE
from shared import errors
from shared.lifecycle import TaskStatus
from shared.operating import HistoryFilter
from tests.support.builder import Builder
from tests.support.messages import checkpoint, completed, crashed, failed, holding, released

DAY = 86400.0


def _work(tasks: Builder) -> dict[str, float]:
    return tasks.dispatcher.records.stats()["work"]


def test_the_counts_follow_every_move(tasks: Builder) -> None:
    for status in (s for s in TaskStatus if s not in (TaskStatus.BLOCKED, TaskStatus.PENDING)):
        tasks.in_status(status)
    tasks.submit_many(3)

    counts = tasks.dispatcher.records.stats()["tasks"]

    assert counts == {
        "blocked": 0, "scheduled": 1, "pending": 3, "in-progress": 1, "completed": 1, "failed": 1, "cancelled": 1,
        "total": 8,
    }  # fmt: skip


def test_a_completed_tasks_seconds_are_useful_resumed_ones_included(tasks: Builder) -> None:
    first = tasks.start()
    tasks.save(checkpoint(first, 1, elapsed_seconds=10.0))
    tasks.report(released(first, elapsed_seconds=12.0))
    tasks.report(completed(tasks.claim_one(), elapsed_seconds=5.0))

    assert _work(tasks) == {"useful_seconds": 15.0, "saved_seconds": 10.0, "lost_seconds": 2.0}
    assert tasks.view(first.task_id).elapsed_seconds == 15.0


def test_the_attempt_that_won_shows_the_seconds_that_its_worker_reported(tasks: Builder) -> None:
    first = tasks.start()
    tasks.save(checkpoint(first, 1, elapsed_seconds=0.1))
    tasks.report(released(first, elapsed_seconds=0.1))
    tasks.report(completed(tasks.claim_one("w2"), elapsed_seconds=0.2))

    records = tasks.dispatcher.records
    won = records.attempts(first.task_id)[-1]
    (told,) = records.history.attempts(HistoryFilter(outcome="completed"))["attempts"]

    assert (won.outcome, won.worker, won.elapsed_seconds, won.resumed_seq) == ("completed", "w2", 0.2, 1)
    assert (told.attempt, told.worker, told.elapsed_seconds, told.resumed_seq) == (2, "w2", 0.2, 1)
    assert tasks.view(first.task_id).elapsed_seconds == 0.1 + 0.2


@pytest.mark.parametrize("report", [failed, crashed, released])
def test_what_no_checkpoint_holds_is_lost(tasks: Builder, report: object) -> None:
    grant = tasks.start()
    tasks.save(checkpoint(grant, 1, elapsed_seconds=4.0))

    tasks.report(report(grant, elapsed_seconds=7.0))  # type: ignore[operator]

    (attempt,) = tasks.dispatcher.records.attempts(grant.task_id)
    assert (attempt.elapsed_seconds, attempt.lost_seconds) == (7.0, 3.0)
    assert _work(tasks) == {"useful_seconds": 0.0, "saved_seconds": 4.0, "lost_seconds": 3.0}


def test_a_silent_workers_task_has_worked_half_a_heartbeat_beyond_its_last_word(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.advance(1.5)
    tasks.hold(holding(grant, running=True))
    tasks.save(checkpoint(grant, 1, elapsed_seconds=1.0))

    tasks.fall_silent()

    (attempt,) = tasks.dispatcher.records.attempts(grant.task_id)
    assert (attempt.elapsed_seconds, attempt.lost_seconds) == (2.0, 1.0)


def test_a_waiting_task_of_a_silent_worker_has_lost_nothing(tasks: Builder) -> None:
    tasks.submit_many(2)
    tasks.claim(want=2)
    tasks.advance(1.5)
    tasks.say("w1")

    tasks.fall_silent()

    assert _work(tasks)["lost_seconds"] == 0.0


def test_readopting_takes_back_what_was_counted(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.advance(1.5)
    tasks.save(checkpoint(grant, 1, elapsed_seconds=1.0))
    before = _work(tasks)
    tasks.fall_silent()

    tasks.hold(holding(grant, running=True))

    assert _work(tasks) == before


def test_the_last_minutes_completions_are_counted(tasks: Builder) -> None:
    tasks.report(completed(tasks.start()))
    tasks.advance(30)
    tasks.report(completed(tasks.start()), completed(tasks.start()))

    within = tasks.dispatcher.records.stats()["completed_last_minute"]
    tasks.advance(31)
    later = tasks.dispatcher.records.stats()["completed_last_minute"]

    assert (within, later) == (3, 2)


def test_tasks_that_ended_long_ago_are_removed_with_all_that_is_theirs(tasks: Builder) -> None:
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED):
        tasks.in_status(status, payload={"limit": 1}, tags=["old"])
    tasks.advance(30 * DAY + 1)
    kept = tasks.submit(tags=["new"])

    pruned = [tasks.dispatcher.ledger.prune(), tasks.dispatcher.ledger.prune()]

    assert pruned == [3, 0]
    assert {table: len(rows) for table, rows in tasks.dispatcher.dump().items() if rows} == {"tasks": 1}
    assert tasks.dispatcher.rows("SELECT tag, task_id FROM task_tags") == [("new", kept)]
    assert tasks.dispatcher.records.stats()["tasks"]["total"] == 1


def test_live_tasks_are_never_removed(tasks: Builder) -> None:
    ids = [tasks.submit(delay_seconds=100 * DAY), tasks.start("w1").task_id, tasks.submit()]
    tasks.advance(300 * DAY)

    assert tasks.dispatcher.ledger.prune() == 0
    assert [tasks.status(task_id) for task_id in ids] == ["scheduled", "in-progress", "pending"]


def test_a_bite_of_pruning_has_a_size(tasks: Builder) -> None:
    tasks.submit_many(700)
    tasks.report(*(completed(grant) for grant in tasks.claim(want=700)))
    tasks.advance(31 * DAY)

    before = tasks.dispatcher.clock.wall() - 30 * DAY
    bite, _ = tasks.dispatcher.database.write(lambda tx: storage.prune(tx, before, BITE, storage.Ended()))

    assert bite == BITE == 500
    assert [tasks.dispatcher.ledger.prune() for _ in range(2)] == [200, 0]


def test_task_ids_are_never_used_again(tasks: Builder) -> None:
    tasks.report(completed(tasks.start()))
    tasks.advance(31 * DAY)
    tasks.dispatcher.monitor.run_once()
    tasks.dispatcher.restart()

    assert tasks.submit() == 2


def test_pruning_removes_workers_and_seconds_that_nobody_shows(tasks: Builder) -> None:
    tasks.report(completed(tasks.start("long gone")), worker="long gone")
    tasks.say("long gone", state="stopped")
    tasks.advance(31 * DAY)

    tasks.dispatcher.monitor.run_once()

    assert tasks.dispatcher.rows("SELECT worker_id FROM workers") == []
    assert tasks.dispatcher.rows("SELECT * FROM completions") == []


def test_a_worker_that_is_gone_is_shown_for_a_day(tasks: Builder) -> None:
    tasks.say("w1", state="stopped")
    tasks.advance(DAY - 1)
    shown = [worker.worker_id for worker in tasks.dispatcher.records.workers()]
    tasks.advance(2)

    assert (shown, tasks.dispatcher.records.workers()) == (["w1"], [])


def test_a_removed_worker_gives_back_what_it_held(tasks: Builder) -> None:
    grant = tasks.start("w1")
    with pytest.raises(errors.Conflict):
        tasks.dispatcher.ledger.forget_worker("w1")
    tasks.fall_silent()

    tasks.dispatcher.ledger.forget_worker("w1")

    assert tasks.dispatcher.records.workers() == []
    assert tasks.status(grant.task_id) == TaskStatus.PENDING
    with pytest.raises(errors.NotFound):
        tasks.dispatcher.ledger.forget_worker("w1")
