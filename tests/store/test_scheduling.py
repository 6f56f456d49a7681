"""Queues, deadlines, unique keys, repeated requests, logs, history, many tasks at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dispatcher import dead_letters, idempotency
from dispatcher.idempotency import Answer
from shared import errors
from shared.operating import Drop, HistoryFilter, LogQuery, ReviveMany
from shared.protocol import LOG_CHARS_MAX, LOG_LINES_MAX, AttemptLog, LogLine, Submission
from tests.support.builder import Builder
from tests.support.messages import completed, crashed, failed, fence, holding, raw, released
from tests.support.waiting import Call

SOON = "2027-01-15T08:00:05Z"  # five seconds after a test's clock begins


def ids(grants: object) -> list[int]:
    return [grant.task_id for grant in grants]  # type: ignore[attr-defined]


def test_a_worker_gets_tasks_of_its_queues_only(tasks: Builder) -> None:
    night, day = tasks.submit(queue="night", priority=1), tasks.submit()

    assert ids(tasks.claim("w1", want=9, queues=["default"])) == [day]
    assert ids(tasks.claim("w2", want=9)) == [night]


def test_priority_counts_over_queues_and_types(tasks: Builder) -> None:
    low = tasks.submit(queue="a")
    high = tasks.submit("prime", queue="b", priority=3)
    middle = tasks.submit(queue="b", priority=2)

    assert ids(tasks.claim(want=9)) == [high, middle, low]


# --- deadlines


def test_a_task_is_never_granted_after_its_deadline(tasks: Builder) -> None:
    late, plain = tasks.submit(deadline=SOON), tasks.submit()
    tasks.advance(5)

    claimed = tasks.claim(want=1)

    view = tasks.view(late)
    assert (ids(claimed), view.status) == ([plain], "failed")
    assert b"DeadlineMissed" in bytes(view.error)


@pytest.mark.parametrize("status", ["pending", "scheduled"])
def test_a_missed_deadline_ends_a_task_whether_anybody_asks_or_not(tasks: Builder, status: str) -> None:
    task_id = tasks.submit(deadline=SOON, delay_seconds=9 if status == "scheduled" else None)
    ledger = tasks.dispatcher.ledger
    next_at = ledger.expire()
    tasks.advance(5)

    assert (next_at, ledger.expire(), tasks.status(task_id)) == (1_800_000_005.0, None, "failed")


def test_a_grant_says_how_long_it_may_still_be_started(tasks: Builder) -> None:
    tasks.submit(deadline=SOON, stall_seconds=30)
    tasks.advance(2)

    (grant,) = tasks.claim()

    assert (grant.start_within_seconds, grant.stall_seconds) == (3.0, 30.0)


def test_a_task_that_runs_may_go_on_after_its_deadline(tasks: Builder) -> None:
    tasks.submit(deadline=SOON)
    (grant,) = tasks.claim()
    tasks.advance(9)
    tasks.dispatcher.ledger.expire()

    answer = tasks.report(completed(grant))

    assert (answer.lost, tasks.status(grant.task_id)) == ([], "completed")


@pytest.mark.parametrize("how", ["released", "crashed", "silent", "failed"])
def test_a_task_that_was_started_in_time_goes_on_after_an_interruption(tasks: Builder, how: str) -> None:
    task_id = tasks.submit(deadline=SOON, max_retries=3)
    (grant,) = tasks.claim()
    tasks.hold(holding(grant, running=True))
    tasks.advance(9)

    if how == "silent":
        tasks.fall_silent()
    else:
        make = {"released": released, "crashed": crashed, "failed": failed}[how]
        tasks.report(make(grant, elapsed_seconds=8.0))
    tasks.advance(60)
    tasks.dispatcher.ledger.promote()
    tasks.dispatcher.ledger.expire()

    went_on = ids(tasks.claim("w2")) == [task_id]
    assert went_on is (how != "failed"), "a retry after a failure is a start of its own"
    if not went_on:
        assert b"before attempt 2 could start" in bytes(tasks.view(task_id).error)


def test_a_grant_that_waited_in_its_worker_has_not_kept_its_deadline(tasks: Builder) -> None:
    late, beside = tasks.submit(deadline=SOON), tasks.submit()
    grants = tasks.claim(want=2)
    tasks.advance(9)

    tasks.report(*(released(grant, elapsed_seconds=0.0) for grant in grants))

    assert (ids(tasks.claim("w2")), tasks.status(late)) == ([beside], "failed")


def test_a_revived_task_is_not_ended_by_the_deadline_it_missed(tasks: Builder) -> None:
    task_id = tasks.submit(deadline=SOON)
    tasks.advance(9)
    tasks.dispatcher.ledger.expire()

    tasks.revive(task_id)

    assert ids(tasks.claim()) == [task_id]


# --- one live task per key


def test_a_key_belongs_to_one_live_task(tasks: Builder) -> None:
    (first,) = tasks.submit_many(1, unique_key="k")
    again = tasks.submit(unique_key="k")
    tasks.finish(tasks.claim_one())
    later = tasks.submit(unique_key="k")

    assert (again, later) == (first, first + 1)


def test_in_a_batch_its_id_is_that_of_the_one_that_lives(tasks: Builder) -> None:
    live = tasks.submit(unique_key="live")
    batch = [Submission("noop", unique_key=key) for key in ("new", "live", "new", None)]

    submitted = tasks.dispatcher.ledger.submit(batch)

    assert submitted.ids == [live + 1, live, live + 1, live + 2]
    assert submitted.existing == {live}


def test_a_hundred_at_once_make_one_task(tasks: Builder) -> None:
    calls = [Call(tasks.submit, unique_key="k") for _ in range(100)]

    assert len({call.result() for call in calls}) == 1


def test_a_task_whose_key_is_taken_is_not_revived(tasks: Builder) -> None:
    first = tasks.submit(unique_key="k")
    tasks.cancel(first)
    second = tasks.submit(unique_key="k")

    with pytest.raises(errors.Conflict, match=f"task {second} is live"):
        tasks.revive(first)
    assert tasks.dispatcher.ledger.dead_letters.revive(ReviveMany(ids=[first])) == 0
    tasks.cancel(second)
    tasks.revive(first)
    assert tasks.status(first) == "pending"


def test_a_task_that_lives_is_refused_a_second_life_for_that_not_for_its_own_key(tasks: Builder) -> None:
    live = tasks.submit(unique_key="k")

    with pytest.raises(errors.Conflict, match=f"task {live} is pending"):
        tasks.revive(live)


# --- requests that come again


def submit_once(tasks: Builder, key: str, body: bytes) -> Answer:
    request = idempotency.repeatable(key, body)
    submit = tasks.dispatcher.ledger.submit_once
    return submit(request, [Submission("noop")], False, lambda made: Answer(201, str(made.ids[0]).encode()))


def test_a_repeated_request_stores_nothing_and_is_answered_as_the_first(tasks: Builder) -> None:
    first = submit_once(tasks, "k", b"{}")
    tasks.dispatcher.restart()
    again = submit_once(tasks, "k", b"{}")
    other = submit_once(tasks, "l", b"{}")

    assert (again, other.body != first.body) == (first._replace(replayed=True), True)
    with pytest.raises(errors.Invalid, match="another body"):
        submit_once(tasks, "k", b"{ }")


def test_requests_at_the_same_moment_store_one_task(tasks: Builder) -> None:
    calls = [Call(submit_once, tasks, "k", b"{}") for _ in range(20)]

    assert len({call.result().body for call in calls}) == 1
    assert sum(not call.result().replayed for call in calls) == 1


def test_a_request_that_was_refused_may_come_again_with_its_key(tasks: Builder) -> None:
    request = idempotency.repeatable("k", b"{}")

    def fail(submitted: object) -> Answer:
        raise errors.Invalid("no")

    with pytest.raises(errors.Invalid):
        tasks.dispatcher.ledger.submit_once(request, [Submission("noop")], False, fail)

    assert not submit_once(tasks, "k", b"{}").replayed


def test_a_key_is_forgotten_after_a_day(tasks: Builder) -> None:
    submit_once(tasks, "k", b"{}")
    tasks.advance(86401)
    tasks.dispatcher.ledger.prune()

    assert not submit_once(tasks, "k", b"{ }").replayed


def test_very_many_keys_are_forgotten_bite_by_bite(tasks: Builder) -> None:
    kept = {"body_hash": "", "answer": b""}
    tasks.dispatcher.database.write(
        lambda tx: [tx.reserve_key(key=f"k{n}", now=tx.now, **kept) for n in range(600)]
    )
    tasks.advance(86401)

    left = []
    for _ in range(3):
        left.append(tasks.dispatcher.rows("SELECT COUNT(*) FROM idempotency")[0][0])
        tasks.dispatcher.ledger.prune()

    assert left == [600, 100, 0]


# --- many at once


def dead(tasks: Builder, count: int, kind: str = "noop", error: str = "ValueError", **fields: Any) -> list[int]:
    made = tasks.submit_many(count, kind, max_retries=0, **fields)
    reports = [failed(grant) for grant in tasks.claim(want=count)]
    for report in reports:
        report.error = raw({"type": error, "message": "no luck"})
    tasks.report(*reports)
    return made


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"type": "a"}, "a"),
        ({"queue": "q"}, "b"),
        ({"tag": "t"}, "c"),
        ({"error_type": "KeyError"}, "d"),
        ({"status": "cancelled"}, "e"),
        ({"tag": "t", "error_type": "KeyError"}, ""),
        ({"status": "failed"}, "abcd"),
        ({"status": "failed", "error_type": "ValueError"}, "abc"),
    ],
)
@pytest.mark.parametrize("what", ["revive", "drop"])
def test_a_filter_finds_what_fits_and_nothing_else(
    tasks: Builder, wanted: dict[str, str], found: str, what: str
) -> None:
    made = {
        "a": dead(tasks, 2, "a"),
        "b": dead(tasks, 2, queue="q"),
        "c": dead(tasks, 2, tags=["t"]),
        "d": dead(tasks, 2, error="KeyError"),
        "e": tasks.submit_many(2),
    }
    for task_id in made["e"]:
        tasks.cancel(task_id)
    letters = tasks.dispatcher.ledger.dead_letters
    expected = {task_id for name in found for task_id in made[name]}

    n = letters.revive(ReviveMany(**wanted)) if what == "revive" else letters.drop(Drop(**wanted))  # type: ignore[arg-type]

    left = {row[0] for row in tasks.dispatcher.rows("SELECT task_id FROM tasks WHERE finished_at IS NOT NULL")}
    everything = {task_id for those in made.values() for task_id in those}
    assert (n, left) == (len(expected), everything - expected)


def test_more_than_a_bite_is_done_whole(tasks: Builder) -> None:
    count = dead_letters.BITE * 2 + 1
    for task_id in tasks.submit_many(count):
        tasks.cancel(task_id)
    letters = tasks.dispatcher.ledger.dead_letters

    assert letters.revive(ReviveMany(status="cancelled")) == count
    assert letters.drop(Drop(type="noop")) == 0  # they live


def test_to_ask_for_nothing_is_refused(tasks: Builder) -> None:
    letters = tasks.dispatcher.ledger.dead_letters

    with pytest.raises(errors.Invalid):
        letters.drop(Drop())
    with pytest.raises(errors.Invalid):
        letters.revive(ReviveMany(from_scratch=True))
    with pytest.raises(errors.Invalid):
        letters.drop(Drop(ids=[1], type="noop"))


# --- logs and history


def test_log_lines_are_kept_per_attempt_while_it_holds_its_grant(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.say(logs=[AttemptLog(**fence(grant), lines=[LogLine("one\0", age_seconds=2.0)])])
    tasks.report(completed(grant, log=[LogLine("two", "warning")]))
    late = tasks.say(logs=[AttemptLog(**fence(grant), lines=[LogLine("three")])])

    page = tasks.dispatcher.records.history.logs(grant.task_id, LogQuery())

    shown = [(line.attempt, line.at, line.level, line.message) for line in page["lines"]]
    assert shown == [
        (1, "2027-01-15T07:59:58.000Z", "info", "one"),
        (1, "2027-01-15T08:00:00.000Z", "warning", "two"),
    ]
    assert ids(late.lost) == [grant.task_id]


def test_of_a_long_log_the_newest_lines_are_kept(tasks: Builder) -> None:
    grant = tasks.start()
    history = tasks.dispatcher.records.history
    for first in (0, 600, 1200):
        lines = [LogLine(f"{number}") for number in range(first, first + 600)]
        tasks.say(logs=[AttemptLog(**fence(grant), lines=lines)])
    tasks.say(logs=[AttemptLog(**fence(grant), lines=[LogLine("x" * 9999)])])

    page = history.logs(grant.task_id, LogQuery())

    assert len(page["lines"]) == LOG_LINES_MAX
    assert page["lines"][0].message == str(1801 - LOG_LINES_MAX)
    assert len(page["lines"][-1].message) == LOG_CHARS_MAX
    assert history.logs(grant.task_id, LogQuery(after=page["next"])) == {"lines": [], "next": page["next"]}
    assert history.logs(grant.task_id, LogQuery(attempt=2))["lines"] == []


def test_history_tells_every_ended_attempt_once_newest_first(tasks: Builder) -> None:
    for number in range(7):
        grant = tasks.start(queue=f"q{number % 2}", max_retries=1)
        tasks.report(failed(grant) if number % 3 == 0 else completed(grant))
        tasks.advance(number % 2)  # some end at the same moment
        if number % 3 == 0:
            tasks.cancel(grant.task_id)
    history = tasks.dispatcher.records.history

    pages, after = [], None
    while True:
        page = history.attempts(HistoryFilter(limit=2, after=after))
        pages += page["attempts"]
        after = page["next"]
        if after is None:
            break

    assert [view.task_id for view in pages] == [7, 6, 5, 4, 3, 2, 1]
    assert [view.outcome for view in pages if view.task_id in (1, 4, 7)] == ["failed"] * 3
    assert {view.task_id for view in history.attempts(HistoryFilter(queue="q1"))["attempts"]} == {2, 4, 6}
    assert {view.task_id for view in history.attempts(HistoryFilter(outcome="failed"))["attempts"]} == {1, 4, 7}
    assert history.attempts(HistoryFilter(worker="nobody"))["attempts"] == []
    with pytest.raises(errors.Invalid):
        history.attempts(HistoryFilter(after="nonsense"))


# --- the moment a task is due


def test_a_task_that_falls_due_wakes_the_monitor_and_the_worker_that_waits(tasks: Builder) -> None:
    """No period is waited for: what the writer tells the monitor wakes it, and it promotes at once."""
    monitor, clock = tasks.dispatcher.monitor, tasks.dispatcher.clock
    periods = [duty._replace(period_seconds=3600.0) for duty in monitor.duties]
    first_pass = threading.Event()
    monitor.duties = (*periods, periods[0]._replace(name="last", run=first_pass.set))
    monitor.start()
    assert first_pass.wait(10)
    task_id = tasks.submit(delay_seconds=0.5)
    call = Call(tasks.claim, "w1", wait_seconds=10.0)

    clock.advance(0.5)
    monitor._wake.set()  # the fake clock wakes nobody by itself

    assert ids(call.result()) == [task_id]
    monitor.stop()
