"""Every status with every verb of shared/lifecycle.py: listed arrows land, all others change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dispatcher import kin
from dispatcher.registry import Worker
from dispatcher.transaction import Transaction
from shared import errors
from shared.lifecycle import TRANSITIONS, VERBS, TaskStatus
from shared.protocol import ExchangeAnswer, Grant, Result, WorkerInfo
from tests.support import messages
from tests.support.builder import Builder

ARROWS = {arrow.verb: arrow for arrow in TRANSITIONS if arrow.verb != "submit"}
PAIRS = [(verb, status) for verb in ARROWS for status in TaskStatus]
LISTED = [(verb, status) for verb, status in PAIRS if status in ARROWS[verb].sources]
UNLISTED = [pair for pair in PAIRS if pair not in LISTED]

Verb = Callable[[Builder, int, Grant], bool]  # was it taken?


def _accepted(answer: ExchangeAnswer) -> bool:
    return not (answer.lost or answer.cancel or answer.refused)


def _reporting(report: Callable[[Grant], Result]) -> Verb:
    return lambda tasks, task_id, grant: _accepted(tasks.report(report(grant), worker="maker"))


def _asking(call: Callable[[Builder, int], Any]) -> Verb:
    def run(tasks: Builder, task_id: int, grant: Grant) -> bool:
        try:
            call(tasks, task_id)
        except errors.Conflict:
            return False
        return True

    return run


def _promote(tasks: Builder, task_id: int, grant: Grant) -> bool:
    before = tasks.status(task_id)
    tasks.advance(11)
    tasks.dispatcher.ledger.promote()
    return tasks.status(task_id) != before


def _expire(tasks: Builder, task_id: int, grant: Grant) -> bool:
    tasks.advance(9)  # no retry is due yet, but the deadline has passed
    before = tasks.status(task_id)
    tasks.dispatcher.ledger.expire()
    return tasks.status(task_id) != before


def _unblock(tasks: Builder, task_id: int, grant: Grant) -> bool:
    """Its parents end; of a task without parents, as if they had."""
    before = tasks.status(task_id)
    for parent_id in tasks.view(task_id).depends_on or ():
        tasks.cancel(parent_id)
    tasks.dispatcher.database.write(lambda tx: kin.unblock(tx, [task_id], 1))
    return tasks.status(task_id) != before


def _renew(tasks: Builder, task_id: int, grant: Grant) -> bool:
    return _accepted(tasks.hold(messages.holding(grant, running=True), worker="maker"))


def _checkpoint(tasks: Builder, task_id: int, grant: Grant) -> bool:
    return _accepted(tasks.save(messages.checkpoint(grant, 2, {"at": 2}, output=("c",)), worker="maker"))


def _readopt(tasks: Builder, task_id: int, grant: Grant) -> bool:
    tasks.say("maker")  # whoever is heard is no longer dead

    def run(tx: Transaction) -> bool:
        worker = Worker(WorkerInfo("maker"), tx.worker(worker_id="maker")[0])
        return tasks.dispatcher.ledger.leases.readopt(
            tx, worker, task_id, grant.attempt, grant.lease_id, running=False
        )

    return bool(tasks.dispatcher.database.write(run))


DO: dict[str, Verb] = {
    "unblock": _unblock,
    "promote": _promote,
    "expire": _expire,
    "claim": lambda tasks, task_id, grant: bool(tasks.claim("other")),
    "renew": _renew,
    "checkpoint": _checkpoint,
    "complete": _reporting(lambda grant: messages.completed(grant, "another result")),
    "fail": _reporting(lambda grant: messages.failed(grant, "another reason")),
    "crash": _reporting(messages.crashed),
    "release": _reporting(messages.released),
    "reclaim": lambda tasks, task_id, grant: bool(tasks.fall_silent()),
    "readopt": _readopt,
    "cancel": _asking(lambda tasks, task_id: tasks.cancel(task_id)),
    "revive": _asking(lambda tasks, task_id: tasks.revive(task_id)),
}


def _made(tasks: Builder, verb: str, status: TaskStatus) -> tuple[int, Grant | None]:
    """What the verb is tried on: to expire, a task with a deadline; to readopt, one that was reclaimed."""
    if verb == "readopt" and status in ARROWS[verb].sources:
        return tasks.reclaimed(status)
    deadline = {"deadline": "2027-01-15T08:00:05Z"} if verb == "expire" else {}
    return tasks.in_status(status, **deadline)


def test_every_verb_of_the_table_is_tried() -> None:
    assert {"submit", *DO} == set(VERBS)


@pytest.mark.parametrize(("verb", "status"), LISTED)
def test_a_listed_arrow_lands(tasks: Builder, verb: str, status: TaskStatus) -> None:
    task_id, grant = _made(tasks, verb, status)

    assert DO[verb](tasks, task_id, grant)

    assert tasks.status(task_id) in ARROWS[verb].targets


@pytest.mark.parametrize(("verb", "status"), UNLISTED)
def test_what_is_not_listed_changes_nothing(tasks: Builder, verb: str, status: TaskStatus) -> None:
    task_id, grant = _made(tasks, verb, status)
    before = tasks.dispatcher.dump()

    assert not DO[verb](tasks, task_id, grant)

    assert tasks.dispatcher.dump() == before


@pytest.mark.parametrize(("delay_seconds", "status"), [(None, TaskStatus.PENDING), (5.0, TaskStatus.SCHEDULED)])
def test_submit_makes_a_task_pending_or_scheduled(
    tasks: Builder, delay_seconds: float | None, status: TaskStatus
) -> None:
    task_id = tasks.submit(delay_seconds=delay_seconds)

    assert tasks.status(task_id) == status
    assert status in next(arrow.targets for arrow in TRANSITIONS if arrow.verb == "submit")


@pytest.mark.parametrize("verb", ["checkpoint", "complete", "fail", "crash", "release"])
@pytest.mark.parametrize("wrong", ["attempt", "lease_id", "task_id"])
def test_each_part_of_the_fence_is_needed(tasks: Builder, verb: str, wrong: str) -> None:
    task_id, grant = tasks.in_status(TaskStatus.IN_PROGRESS)
    other = tasks.start("other")
    forged = _forged(grant, other, wrong)
    before = tasks.dispatcher.dump()

    taken = DO[verb](tasks, task_id, forged)

    changes = {name for name, rows in tasks.dispatcher.dump().items() if rows != before[name]}
    assert (taken, changes) == (False, set())


@pytest.mark.parametrize("wrong", ["attempt", "lease_id", "task_id"])
def test_each_part_of_the_fence_is_needed_to_renew(tasks: Builder, wrong: str) -> None:
    _, grant = tasks.in_status(TaskStatus.IN_PROGRESS)
    forged = _forged(grant, tasks.start("other"), wrong)
    expiries = "SELECT task_id, lease_expires_at, running FROM tasks ORDER BY 1"
    before = tasks.dispatcher.rows(expiries)
    tasks.advance(1)

    answer = tasks.hold(messages.holding(forged, running=True), worker="maker")

    assert [(lost.task_id, lost.attempt) for lost in answer.lost] == [(forged.task_id, forged.attempt)]
    assert tasks.dispatcher.rows(expiries) == before


def _forged(grant: Grant, other: Grant, wrong: str) -> Grant:
    right = {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}
    wrongs = {"task_id": other.task_id, "attempt": grant.attempt + 1, "lease_id": "made up"}
    return Grant(**right | {wrong: wrongs[wrong]}, lease_seconds=100.0, type="noop")
