"""Requests that wait: for work, for a task's end, and what happens when the dispatcher stops."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dispatcher.transaction import Transaction
from shared.protocol import ExchangeAnswer
from tests.support.builder import Builder
from tests.support.messages import completed, crashed, holding
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until
from tests.support.writer_held import WriterHeld


def _park(tasks: Builder, worker: str, want: int = 1, wait_seconds: float = LIMIT_SECONDS, **parts: Any) -> Call:
    """A claim under way that waits for work."""
    database = tasks.dispatcher.database
    before = len(database._parked)
    call = Call(tasks.say, worker, want=want, wait_seconds=wait_seconds, **parts)
    wait_until(lambda: len(database._parked) > before, f"{worker} to be parked")
    return call


def _ids(answer: ExchangeAnswer) -> list[int]:
    return [grant.task_id for grant in answer.tasks]


def test_a_parked_claim_takes_a_new_task_in_the_transaction_that_makes_it(tasks: Builder) -> None:
    call = _park(tasks, "w1")

    task_id = tasks.submit()
    status_at_once = tasks.status(task_id)

    assert (status_at_once, _ids(call.result())) == ("in-progress", [task_id])


def test_parked_claims_are_served_in_the_order_in_which_they_came(tasks: Builder) -> None:
    calls = [_park(tasks, f"w{number}") for number in range(3)]

    ids = tasks.submit_many(3)

    assert [_ids(call.result()) for call in calls] == [[task_id] for task_id in ids]


def test_a_parked_claim_is_passed_over_by_work_it_cannot_do(tasks: Builder) -> None:
    picky = _park(tasks, "picky", types=["prime"])
    other = _park(tasks, "other", types=["noop"])

    noop, prime = tasks.submit("noop"), tasks.submit("prime")

    assert (_ids(other.result()), _ids(picky.result())) == ([noop], [prime])


@pytest.mark.parametrize("what", ["revive", "promote", "crash", "reclaim"])
def test_whatever_makes_a_task_pending_serves_the_parked(tasks: Builder, what: str) -> None:
    task_id = tasks.submit(delay_seconds=5.0) if what == "promote" else tasks.start("w1").task_id
    make_pending = {
        "revive": lambda: (tasks.cancel(task_id), tasks.revive(task_id)),
        "promote": lambda: (tasks.advance(6), tasks.say("parked"), tasks.dispatcher.ledger.promote()),
        "crash": lambda: tasks.report(crashed(_grant(tasks, task_id))),
        "reclaim": lambda: tasks.fall_silent(others=["parked"]),
    }
    call = _park(tasks, "parked")

    make_pending[what]()

    assert _ids(call.result()) == [task_id]


def _grant(tasks: Builder, task_id: int) -> Any:
    ((attempt, lease_id),) = tasks.dispatcher.rows(
        "SELECT attempt, lease_id FROM tasks WHERE task_id = ?", task_id
    )
    return type("Named", (), {"task_id": task_id, "attempt": attempt, "lease_id": lease_id})


def test_a_parked_request_of_a_silent_worker_is_granted_nothing(tasks: Builder) -> None:
    call = _park(tasks, "silent", wait_seconds=0.3)
    tasks.fall_silent()

    task_id = tasks.submit()

    assert (_ids(call.result()), tasks.status(task_id)) == ([], "pending")


def test_a_parked_request_of_a_silent_worker_does_not_stand_in_the_way(tasks: Builder) -> None:
    _park(tasks, "silent", wait_seconds=0.3)
    living = _park(tasks, "living")
    tasks.fall_silent(others=["living"])

    task_id = tasks.submit()

    assert tasks.view(task_id).worker == "living"
    assert _ids(living.result()) == [task_id]


@pytest.mark.parametrize("dispatcher_settings", [{"parked_requests_max": 3}])
def test_more_parked_requests_than_allowed_are_answered_at_once(tasks: Builder) -> None:
    parked = [_park(tasks, f"w{number}") for number in range(tasks.dispatcher.settings.parked_requests_max)]

    answer = tasks.say("one too many", want=1, wait_seconds=LIMIT_SECONDS)

    assert (answer.tasks, answer.poll_after_seconds) == ([], 1.0)
    tasks.dispatcher.database.release_waiters()
    assert [_ids(call.result()) for call in parked] == [[], [], []]


def test_a_wait_that_found_nothing_ends_in_time_and_says_when_to_come_back(tasks: Builder) -> None:
    answer = tasks.say("w1", want=1, wait_seconds=0.05)

    assert (answer.tasks, answer.poll_after_seconds) == ([], 0.0)
    assert len(tasks.dispatcher.database._parked) == 0


def test_a_stopping_dispatcher_answers_the_parked_emptily(tasks: Builder) -> None:
    calls = [
        _park(tasks, "w1"),
        Call(tasks.dispatcher.records.task, tasks.submit("other", delay_seconds=9.0), 9.0),
    ]
    wait_until(lambda: tasks.dispatcher.database._ends, "the client to wait")

    tasks.dispatcher.database.release_waiters()

    assert (_ids(calls[0].result()), calls[1].result().status) == ([], "scheduled")


def test_a_client_hears_of_the_end_it_waits_for(tasks: Builder) -> None:
    grant = tasks.start()
    call = Call(tasks.dispatcher.records.task, grant.task_id, LIMIT_SECONDS)
    wait_until(lambda: tasks.dispatcher.database._ends, "the client to wait")

    tasks.report(completed(grant))

    assert call.result().status == "completed"


def test_the_monitor_serves_parked_claims_that_missed_their_work(tasks: Builder) -> None:
    call = _park(tasks, "w1")
    database = tasks.dispatcher.database
    missed = database._parked.popleft()
    task_id = tasks.submit()
    database._parked.append(missed)

    tasks.dispatcher.database.serve_parked()

    assert _ids(call.result()) == [task_id]


def test_a_claim_and_a_submission_in_one_commit_meet(tasks: Builder) -> None:
    """The claim comes first and finds nothing; the task arrives later in the same transaction."""
    with WriterHeld(tasks.dispatcher.database) as held:
        claim = Call(tasks.say, "w1", want=1, wait_seconds=LIMIT_SECONDS)
        held.wait_for_queued(1)
        submission = Call(tasks.submit)
        held.wait_for_queued(2)

    assert tasks.view(submission.result()).status == "in-progress"
    assert _ids(claim.result()) == [1]


def test_a_worker_gets_back_at_once_what_just_crashed_in_its_hands(tasks: Builder) -> None:
    grant = tasks.start()

    answer = tasks.say("w1", results=[crashed(grant)], want=1)

    assert [(again.task_id, again.attempt) for again in answer.tasks] == [(grant.task_id, 2)]


def test_a_heartbeat_does_not_wait_behind_a_parked_claim(tasks: Builder) -> None:
    grant = tasks.start()
    call = _park(tasks, "w1")

    assert tasks.hold(holding(grant)).lost == []
    assert not call.done
    tasks.dispatcher.database.release_waiters()
    call.result()


def test_another_dispatchers_notice_between_a_look_and_its_parking_is_not_lost(tasks: Builder) -> None:
    database = tasks.dispatcher.database
    looks: list[None] = []

    def look(tx: Transaction, answer: object) -> str | None:
        looks.append(None)
        if len(looks) > 1:
            return "found"
        database._hear(Counter({"default/noop": 1}))
        return None

    _, found, _ = database.write_and_wait(lambda tx: None, look, LIMIT_SECONDS, None)

    assert found == "found"
