"""Time: what counts as silence, what a jump of the wall clock may do, grace, leases, pauses."""

from __future__ import annotations

from typing import Any

import pytest

from shared.backoff import Backoff
from shared.lifecycle import TaskStatus
from tests.support.builder import Builder
from tests.support.messages import crashed, failed, holding


@pytest.mark.parametrize("seconds", [-86400.0 * 3650, 86400.0 * 3650])
def test_a_wall_clock_jump_reclaims_nothing(tasks: Builder, seconds: float) -> None:
    grant = tasks.start()

    tasks.dispatcher.clock.jump_wall(seconds)
    tasks.dispatcher.monitor.run_once()

    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS


@pytest.mark.parametrize("seconds", [-86400.0, 86400.0])
def test_a_lease_granted_after_a_jump_lasts_as_long_as_any(tasks: Builder, seconds: float) -> None:
    tasks.dispatcher.clock.jump_wall(seconds)
    tasks.start()
    tasks.advance(99)
    tasks.say("w1")
    early = tasks.dispatcher.ledger.reclaim_expired()
    tasks.advance(2)

    assert (early, tasks.dispatcher.ledger.reclaim_expired()) == (0, 1)


def test_nobody_is_judged_silent_in_the_time_of_grace(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.dispatcher.restart()
    tasks.advance(4.9)

    in_grace = tasks.dispatcher.ledger.reclaim_silent()
    tasks.advance(0.1)
    after_it = tasks.dispatcher.ledger.reclaim_silent()

    assert (in_grace, after_it) == (0, 1)
    assert tasks.counters(grant.task_id) == (1, 0, 1, 0)


def test_a_restart_of_the_dispatcher_costs_no_execution(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.dispatcher.restart()
    tasks.advance(4)

    tasks.hold(holding(grant, running=True))
    tasks.advance(1.5)
    tasks.dispatcher.monitor.run_once()

    assert (tasks.status(grant.task_id), tasks.counters(grant.task_id)) == ("in-progress", (1, 0, 0, 0))


def test_a_worker_is_silent_only_after_the_time_out(tasks: Builder) -> None:
    tasks.start()
    tasks.advance(2.0)
    at_the_limit = tasks.dispatcher.ledger.reclaim_silent()
    tasks.advance(0.01)

    assert (at_the_limit, tasks.dispatcher.ledger.reclaim_silent()) == (0, 1)


def test_any_message_counts_as_a_heartbeat(tasks: Builder) -> None:
    grant = tasks.start()
    for _ in range(5):
        tasks.advance(1.5)
        tasks.claim("w1")
        tasks.dispatcher.ledger.reclaim_silent()

    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS


def test_a_grant_that_nobody_renews_is_reclaimed_when_its_lease_is_over(tasks: Builder) -> None:
    grant = tasks.start()
    reclaimed = []
    for _ in range(101):
        tasks.advance(1)
        tasks.say("w1")
        reclaimed.append(tasks.dispatcher.ledger.reclaim_expired())

    assert (sum(reclaimed), reclaimed[-1]) == (1, 1)
    assert tasks.status(grant.task_id) == TaskStatus.PENDING


def test_a_renewed_lease_is_never_reclaimed(tasks: Builder) -> None:
    grant = tasks.start()
    for _ in range(250):
        tasks.advance(1)
        tasks.hold(holding(grant))
        tasks.dispatcher.monitor.run_once()

    assert (tasks.status(grant.task_id), tasks.counters(grant.task_id)[0]) == ("in-progress", 1)


def test_leases_that_ran_out_while_nothing_could_be_stored_get_the_grace_too(tasks: Builder) -> None:
    """A full disk for longer than a lease: the workers live, their heartbeats could not be kept."""
    grant = tasks.start()
    tasks.advance(150)
    tasks.dispatcher.clock.grace()

    reclaimed = tasks.dispatcher.ledger.reclaim_expired()
    tasks.hold(holding(grant))

    assert (reclaimed, tasks.status(grant.task_id)) == (0, "in-progress")


def test_a_scheduled_task_is_promoted_when_it_is_due(tasks: Builder) -> None:
    task_id = tasks.submit(delay_seconds=60.0)

    early = tasks.dispatcher.ledger.promote()
    tasks.advance(60)
    late = tasks.dispatcher.ledger.promote()

    assert (early, late) == (1_800_000_060.0, None)
    assert (tasks.status(task_id), tasks.view(task_id).run_at) == ("pending", None)


def test_a_run_at_in_the_past_means_now(tasks: Builder) -> None:
    assert tasks.status(tasks.submit(run_at="2001-01-01T00:00:00+01:00")) == TaskStatus.PENDING


def test_run_at_follows_the_wall_clock(tasks: Builder) -> None:
    task_id = tasks.submit(run_at="2027-01-16T08:00:00Z")

    tasks.dispatcher.clock.jump_wall(86400)
    tasks.dispatcher.ledger.promote()

    assert tasks.status(task_id) == TaskStatus.PENDING


def test_a_failed_task_waits_as_long_as_it_asked(tasks: Builder) -> None:
    grant = tasks.start()

    tasks.report(failed(grant, retry_after_seconds=3600.0))

    assert tasks.view(grant.task_id).run_at == "2027-01-15T09:00:00.000Z"


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        ({"kind": "fixed", "base_seconds": 7.0}, [7, 7, 7]),
        ({"kind": "linear", "base_seconds": 7.0}, [7, 14, 21]),
        ({"kind": "exponential", "base_seconds": 1.0, "cap_seconds": 3.0}, [1, 2, 3]),
    ],
)
def test_the_pauses_are_those_of_the_tasks_backoff(tasks: Builder, policy: Any, pauses: list[int]) -> None:
    tasks.submit(backoff=Backoff(**policy, jitter=False))
    seen = []
    for _ in pauses:
        tasks.report(failed(tasks.claim_one()))
        due = tasks.dispatcher.ledger.promote() or 0.0
        seen.append(round(due - tasks.dispatcher.clock.wall()))
        tasks.advance(due - tasks.dispatcher.clock.wall())
        tasks.dispatcher.ledger.promote()

    assert seen == pauses


def test_pauses_between_crashes_begin_with_the_second(tasks: Builder) -> None:
    tasks.submit(backoff=Backoff(kind="linear", base_seconds=7.0, jitter=False))
    tasks.report(crashed(tasks.claim_one()))
    tasks.report(crashed(tasks.claim_one()))

    assert tasks.dispatcher.ledger.promote() == tasks.dispatcher.clock.wall() + 7


def test_max_retries_ends_a_task(tasks: Builder) -> None:
    task_id = tasks.submit(max_retries=2)
    for _ in range(3):
        tasks.report(failed(tasks.claim_one()))
        tasks.advance(10)
        tasks.dispatcher.ledger.promote()

    view = tasks.view(task_id)
    assert (view.status, view.failures, view.attempt) == ("failed", 3, 3)
    assert b"no luck" in bytes(view.error)


@pytest.mark.parametrize(("submitted", "declared", "status"), [(None, 0, "failed"), (5, 0, "scheduled")])
def test_the_tasks_own_retries_count_if_the_submitter_said_nothing(
    tasks: Builder, submitted: int | None, declared: int, status: str
) -> None:
    grant = tasks.start(max_retries=submitted)

    tasks.report(failed(grant, max_retries=declared))

    assert tasks.status(grant.task_id) == status


def test_what_must_not_be_retried_fails_at_once(tasks: Builder) -> None:
    grant = tasks.start()

    tasks.report(failed(grant, retryable=False))

    assert (tasks.status(grant.task_id), tasks.counters(grant.task_id)) == ("failed", (1, 1, 0, 0))
