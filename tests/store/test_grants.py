"""A grant's life: claim, renew, report, repeat; and what becomes of it when answers are lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.lifecycle import TaskStatus
from shared.protocol import Grant, Holding, Result, TaskAttempt
from tests.support import messages
from tests.support.builder import Builder
from tests.support.messages import checkpoint, completed, crashed, failed, holding, released


def _names(grant: Grant) -> list[TaskAttempt]:
    return [TaskAttempt(grant.task_id, grant.attempt)]


def test_a_claim_hands_out_all_that_the_worker_needs(tasks: Builder) -> None:
    task_id = tasks.submit("prime", {"limit": 10}, timeout_seconds=30.0)

    grant = tasks.claim_one()

    assert (grant.task_id, grant.attempt, grant.type) == (task_id, 1, "prime")
    assert (bytes(grant.payload), grant.timeout_seconds) == (b'{"limit":10}', 30.0)
    assert (grant.lease_seconds, grant.checkpoint) == (100.0, None)


def test_a_task_goes_from_pending_over_in_progress_to_completed(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.advance(0.5)

    tasks.report(completed(grant, {"answer": 42}, elapsed_seconds=0.5))

    view = tasks.view(grant.task_id)
    assert (view.status, view.progress, view.elapsed_seconds) == ("completed", 1, 0.5)
    assert (bytes(view.result), bytes(view.error)) == (b'{"answer":42}', b"null")
    assert tasks.outcomes(grant.task_id) == ["completed"]


@pytest.mark.parametrize("report", [completed, failed, crashed, released])
def test_a_repeat_of_the_winning_report_gets_the_same_answer(tasks: Builder, report: object) -> None:
    winning: Result = report(tasks.start())  # type: ignore[operator]
    first = tasks.report(winning)
    before = tasks.dispatcher.dump()

    again = tasks.report(winning)

    assert again == first
    assert again.lost == []
    assert tasks.dispatcher.dump() == before


@pytest.mark.parametrize("late", [failed, crashed, released, lambda grant: completed(grant, "another")])
def test_the_same_grant_with_another_outcome_is_lost(tasks: Builder, late: object) -> None:
    grant = tasks.start()
    tasks.report(completed(grant, "the first"))
    before = tasks.dispatcher.dump()

    answer = tasks.report(late(grant))  # type: ignore[operator]

    assert answer.lost == _names(grant)
    assert tasks.dispatcher.dump() == before


def test_two_contradicting_reports_in_one_message_leave_the_first(tasks: Builder) -> None:
    grant = tasks.start()

    answer = tasks.report(completed(grant, "first"), completed(grant, "second"))

    assert bytes(tasks.view(grant.task_id).result) == b'"first"'
    assert answer.lost == _names(grant)


@pytest.mark.parametrize("stale_first", [True, False])
def test_a_stale_result_beside_the_valid_one_is_lost_and_not_recorded(tasks: Builder, stale_first: bool) -> None:
    stale = tasks.start()
    tasks.report(released(stale))
    valid = tasks.claim_one()
    reports = [completed(stale, "stale"), completed(valid, "valid")]

    answer = tasks.report(*(reports if stale_first else reports[::-1]))

    assert bytes(tasks.view(valid.task_id).result) == b'"valid"'
    assert answer.lost == _names(stale)


def test_a_polite_stop_spends_nothing_however_often(tasks: Builder) -> None:
    task_id = tasks.submit(max_retries=0, crash_limit=1)

    for _ in range(10):
        tasks.report(released(tasks.claim_one()))

    assert (tasks.status(task_id), tasks.counters(task_id)) == ("pending", (10, 0, 0, 10))


def test_a_late_result_of_a_task_that_somebody_else_holds_is_lost(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.fall_silent()
    successor = tasks.claim_one("w2")

    answer = tasks.report(completed(grant, "late"))

    assert answer.lost == _names(grant)
    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS
    assert tasks.report(completed(successor, "in time"), worker="w2").lost == []


def test_a_restarted_worker_delivers_what_its_predecessor_finished(tasks: Builder) -> None:
    grant = tasks.start("before the restart")

    answer = tasks.report(completed(grant), worker="after the restart")

    assert answer.lost == []
    assert tasks.status(grant.task_id) == TaskStatus.COMPLETED


def test_a_restarted_worker_may_hold_what_its_predecessor_held(tasks: Builder) -> None:
    grant = tasks.start("before")

    answer = tasks.hold(holding(grant, running=True), worker="after")
    tasks.fall_silent(others=["after"])

    assert answer.lost == []
    assert (tasks.view(grant.task_id).status, tasks.view(grant.task_id).worker) == ("in-progress", "after")


def test_a_grant_missing_from_two_lists_is_reclaimed(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.hold()
    tasks.advance(1)

    tasks.hold()

    assert tasks.status(grant.task_id) == TaskStatus.PENDING
    assert tasks.counters(grant.task_id) == (1, 0, 0, 0)
    assert tasks.outcomes(grant.task_id) == ["reclaimed"]


def test_a_lost_answer_costs_two_heartbeats(tasks: Builder) -> None:
    lost_in_the_network = tasks.start()
    for _ in range(2):
        tasks.advance(1)
        tasks.hold()

    again = tasks.claim_one()

    assert (again.task_id, again.attempt) == (lost_in_the_network.task_id, 2)


def test_two_lists_closer_than_a_heartbeat_count_as_one(tasks: Builder) -> None:
    grant = tasks.start()
    for _ in range(5):
        tasks.hold()
        tasks.advance(0.1)

    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS


def test_nothing_is_missing_while_an_answer_comes_in(tasks: Builder) -> None:
    """What was missing before is not any more: only two lists after the answer can tell."""
    grant = tasks.start("w1")
    tasks.hold()
    for _ in range(3):
        tasks.advance(1.0)
        tasks.say(holding=[], receiving=True)
    tasks.advance(1.0)
    tasks.hold()
    kept = tasks.status(grant.task_id)

    tasks.advance(1.0)
    tasks.hold()

    assert (kept, tasks.status(grant.task_id)) == ("in-progress", "pending")


def test_a_grant_named_again_is_not_missing(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.hold()
    tasks.advance(1)
    tasks.hold(holding(grant))
    tasks.advance(1)

    tasks.hold()

    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS


def test_a_message_without_a_list_says_nothing_about_grants(tasks: Builder) -> None:
    grant = tasks.start()
    for _ in range(5):
        tasks.advance(1)
        tasks.say("w1")

    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS


def test_a_lease_may_be_named_as_a_whole(tasks: Builder) -> None:
    ids = tasks.submit_many(3)
    grants = tasks.claim(want=3)
    entry = Holding(grants[0].lease_id, task_ids=[*ids, 999], running=[ids[1]])
    tasks.advance(60)

    answer = tasks.hold(entry)

    assert [lost.task_id for lost in answer.lost] == [999]
    assert tasks.dispatcher.rows("SELECT running, lease_expires_at FROM tasks ORDER BY task_id") == [
        (0, 1160.0),
        (1, 1160.0),
        (0, 1160.0),
    ]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_list_with_an_old_and_the_present_grant_of_a_task_keeps_the_present_one(
    tasks: Builder, newest_first: bool
) -> None:
    old = tasks.start()
    tasks.fall_silent()
    present = tasks.claim_one("w1")
    entries = [holding(old), holding(present, running=True)]
    entries = entries[::-1] if newest_first else entries

    answers = [tasks.hold(*entries)]
    tasks.advance(1)
    answers.append(tasks.hold(*entries))

    assert [answer.lost for answer in answers] == [_names(old), _names(old)]
    assert tasks.counters(present.task_id)[0] == 2
    assert tasks.status(present.task_id) == TaskStatus.IN_PROGRESS


def test_a_heartbeat_carries_progress_and_message(tasks: Builder) -> None:
    grant = tasks.start()

    tasks.hold(holding(grant, running=True, progress=0.25, message="a quarter" + "!" * 2000))

    view = tasks.view(grant.task_id)
    assert (view.progress, len(view.message or "")) == (0.25, 1024)


def test_a_completed_task_shows_no_message_of_its_way(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.hold(holding(grant, running=True, progress=0.5, message="row 2"))

    tasks.report(completed(grant))

    view = tasks.view(grant.task_id)
    assert (view.progress, view.message) == (1, None)


@pytest.mark.parametrize("report", [failed, crashed, released])
def test_the_next_attempt_does_not_show_the_message_of_the_one_before(
    tasks: Builder, report: Callable[[Grant], Result]
) -> None:
    grant = tasks.start(max_retries=3)
    tasks.hold(holding(grant, running=True, progress=0.5, message="row 2"))

    tasks.report(report(grant))

    view = tasks.view(grant.task_id)
    assert (view.progress, view.message) == (None, None)


def test_a_reclaimed_task_shows_no_message_of_its_lost_worker(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.hold(holding(grant, running=True, progress=0.5, message="row 2"))

    tasks.fall_silent()

    assert tasks.view(grant.task_id).message is None


def test_a_task_that_failed_for_good_shows_where_it_was(tasks: Builder) -> None:
    grant = tasks.start(max_retries=0)
    tasks.hold(holding(grant, running=True, progress=0.5, message="row 2"))

    tasks.report(failed(grant))

    assert tasks.view(grant.task_id).message == "row 2"


def test_a_heartbeat_with_senseless_progress_still_renews(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.advance(60)

    answer = tasks.hold(holding(grant, running=True, progress=1.7))

    assert (answer.lost, answer.refused, tasks.view(grant.task_id).progress) == ([], [], None)


def test_a_cancelled_task_is_named_until_its_worker_has_let_go(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.save(checkpoint(grant, 1, "kept for a revival"))
    tasks.cancel(grant.task_id)

    answers = [tasks.hold(holding(grant)), tasks.hold(holding(grant)), tasks.hold()]

    assert [answer.cancel for answer in answers] == [_names(grant), _names(grant), []]
    assert tasks.report(completed(grant)).lost == _names(grant)
    assert bytes(tasks.dispatcher.records.checkpoint(grant.task_id)["state"]) == b'"kept for a revival"'


def test_a_goodbye_gives_back_what_is_held_and_counts_nothing(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.hold(holding(grant, running=True))

    tasks.say("w1", state="stopped")

    assert tasks.status(grant.task_id) == TaskStatus.PENDING
    assert tasks.counters(grant.task_id) == (1, 0, 0, 0)
    assert tasks.dispatcher.records.worker("w1").state == "stopped"


def test_a_goodbye_may_carry_the_last_results(tasks: Builder) -> None:
    grant = tasks.start()

    answer = tasks.say("w1", state="stopped", results=[completed(grant)])

    assert answer.lost == []
    assert tasks.status(grant.task_id) == TaskStatus.COMPLETED


def test_nothing_is_held_by_a_worker_that_said_goodbye(tasks: Builder) -> None:
    grant = tasks.start()

    tasks.say("w1", state="stopped", holding=[holding(grant)])

    assert tasks.status(grant.task_id) == TaskStatus.PENDING


def test_a_draining_worker_keeps_what_it_holds_and_claims_nothing(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.submit()

    answer = tasks.say("w1", state="draining", holding=[holding(grant)], want=1)

    assert (answer.tasks, answer.lost) == ([], [])
    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS


def test_a_bad_item_is_refused_and_the_rest_stands(tasks: Builder) -> None:
    tasks.submit_many(3)
    large, good, strange = tasks.claim(want=3)
    reports = [
        completed(large, b'"' + b"x" * (1 << 20) + b'"'),
        completed(good),
        completed(strange, elapsed_seconds=-1.0),
    ]

    answer = tasks.report(*reports)

    assert [(refused.task_id, refused.error["code"]) for refused in answer.refused] == [
        (large.task_id, "too_large"),
        (strange.task_id, "invalid"),
    ]
    assert [tasks.status(grant.task_id) for grant in (large, good, strange)] == [
        "in-progress",
        "completed",
        "in-progress",
    ]


def test_an_error_that_nobody_can_read_is_refused_alone(tasks: Builder) -> None:
    bad, good = tasks.start(), tasks.start("w2")
    report = failed(bad)
    report.error = messages.raw(b'{"message": "\\ud800"}')

    answer = tasks.report(report, completed(good))

    assert [refused.task_id for refused in answer.refused] == [bad.task_id]
    assert tasks.status(good.task_id) == TaskStatus.COMPLETED
