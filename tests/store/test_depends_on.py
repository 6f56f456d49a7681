"""depends_on of tasks outside of flows: parents are named by their ids."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared import errors
from shared.operating import Drop
from shared.protocol import Grant, Result
from tests.support import messages
from tests.support.builder import Builder
from tests.support.flows import told


def test_the_key_of_a_parent_is_its_id(tasks: Builder) -> None:
    parent = tasks.start()
    child = tasks.submit(depends_on=[parent.task_id])
    assert tasks.status(child) == "blocked"

    tasks.report(messages.completed(parent, [1, 2]))

    grant = tasks.claim_one()
    assert grant.task_id == child
    assert told(grant) == {str(parent.task_id): {"status": "completed", "result": [1, 2], "error": None}}


def test_a_parent_may_have_ended_before_its_child_came(tasks: Builder) -> None:
    parent = tasks.start()
    tasks.report(messages.completed(parent, "early"))

    child = tasks.submit(depends_on=[parent.task_id])

    assert tasks.status(child) == "pending"
    assert told(tasks.claim_one())[str(parent.task_id)]["result"] == "early"


@pytest.mark.parametrize(("run_if", "status"), [("all_completed", "cancelled"), ("all_finished", "pending")])
def test_a_parent_that_has_failed_already_decides_at_once(tasks: Builder, run_if: str, status: str) -> None:
    parent = tasks.start(max_retries=0)
    tasks.report(messages.failed(parent))

    child = tasks.submit(depends_on=[parent.task_id], run_if=run_if)

    assert tasks.status(child) == status


def test_an_unknown_parent_is_refused_by_its_field(tasks: Builder) -> None:
    with pytest.raises(errors.Invalid) as refusal:
        tasks.submit(depends_on=[4711])

    assert refusal.value.details == {"field": "tasks[0].depends_on[0]"}
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(0,)]


def test_chains_of_plain_tasks_fail_together(tasks: Builder) -> None:
    parent = tasks.start(max_retries=0)
    child = tasks.submit(depends_on=[parent.task_id, parent.task_id])
    grandchild = tasks.submit(depends_on=[child])
    tidy = tasks.submit(depends_on=[grandchild, child], run_if="all_finished")

    tasks.report(messages.failed(parent))

    assert [tasks.status(task_id) for task_id in (child, grandchild, tidy)] == [
        "cancelled",
        "cancelled",
        "pending",
    ]


def test_a_parent_outlives_its_retention_for_the_sake_of_its_child(tasks: Builder) -> None:
    parent = tasks.start()
    child = tasks.submit(depends_on=[parent.task_id], delay_seconds=60 * 86400)
    tasks.report(messages.completed(parent, "kept"))
    tasks.advance(59 * 86400)
    tasks.dispatcher.ledger.prune()
    tasks.advance(2 * 86400)
    tasks.dispatcher.ledger.promote()

    grant = tasks.claim_one("w2")

    assert grant.task_id == child
    assert told(grant)[str(parent.task_id)]["result"] == "kept"
    tasks.report(messages.completed(grant), worker="w2")
    tasks.advance(40 * 86400)
    assert tasks.dispatcher.ledger.prune() == 2


def test_a_parent_is_kept_until_its_child_is_old(tasks: Builder) -> None:
    parent = tasks.start()
    tasks.report(messages.completed(parent, "kept"))
    tasks.advance(86400)
    child = tasks.submit(depends_on=[parent.task_id], max_retries=0)
    tasks.report(messages.failed(tasks.claim_one()))
    tasks.advance(29.5 * 86400)

    assert tasks.dispatcher.ledger.prune() == 0

    tasks.revive(child)
    assert told(tasks.claim_one())[str(parent.task_id)]["result"] == "kept"


@pytest.mark.parametrize(("report", "status"), [(messages.completed, "pending"), (messages.failed, "cancelled")])
def test_a_child_revived_in_spite_of_a_lost_parent_waits_for_the_others_only(
    tasks: Builder, report: Callable[[Grant], Result], status: str
) -> None:
    running, lost = tasks.start(max_retries=0), tasks.submit()
    tasks.cancel(lost)
    child = tasks.submit(depends_on=[running.task_id, lost])
    before = tasks.status(child)

    tasks.revive(child)
    revived = tasks.status(child)
    tasks.report(report(running))

    assert (before, revived, tasks.status(child)) == ("cancelled", "blocked", status)


def test_a_new_child_of_a_lost_parent_leaves_alone_what_was_revived_in_spite_of_it(tasks: Builder) -> None:
    lost, later = tasks.start(max_retries=0), tasks.submit(delay_seconds=60)
    revived = tasks.submit(depends_on=[lost.task_id, later])
    tasks.report(messages.failed(lost))
    tasks.revive(revived)

    new = tasks.submit(depends_on=[lost.task_id])

    assert (tasks.status(new), tasks.status(revived)) == ("cancelled", "blocked")


def test_a_parent_that_somebody_dropped_is_told_without_a_status_as_long_as_its_child_is_there(
    tasks: Builder,
) -> None:
    parent = tasks.start()
    tasks.report(messages.completed(parent, "gone"))
    child = tasks.submit(depends_on=[parent.task_id], max_retries=0)
    tasks.report(messages.failed(tasks.claim_one()))
    tasks.dispatcher.ledger.dead_letters.drop(Drop(ids=[parent.task_id]))

    tasks.revive(child)

    grant = tasks.claim_one()
    assert told(grant) == {str(parent.task_id): {"status": None, "result": None, "error": None}}
    tasks.finish(grant)
    tasks.dispatcher.ledger.dead_letters.drop(Drop(ids=[child]))
    assert tasks.dispatcher.rows("SELECT * FROM edges") == []
