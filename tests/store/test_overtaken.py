"""Two dispatchers on one PostgreSQL: what one has read, the other changes before the first one writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from dispatcher.postgresql import PostgreSQL
from shared import errors
from shared.lifecycle import TaskStatus
from shared.protocol import Submission
from shared.schedules import ScheduleChange
from shared.settings import FEATURES
from tests.support.builder import Builder
from tests.support.clockwork import DAY, MINUTE, Clockwork
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.flows import Flow
from tests.support.messages import completed, failed
from tests.support.stores import PostgreSQLStore
from tests.support.waiting import Call, wait_until


@pytest.fixture(params=[FEATURES, frozenset({"notify", "prepare"})], ids=["pipeline", "one by one"])
def store(request: pytest.FixtureRequest, postgres: tuple[str, str]) -> Iterator[PostgreSQLStore]:
    made = PostgreSQLStore(*postgres, request.param)
    yield made
    made.drop()


def just_before(tasks: Builder, name: str, act: Callable[[], Any]) -> None:
    """Once, when this dispatcher is about to run a statement, something else happens."""
    engine = tasks.dispatcher.database.engine
    assert isinstance(engine, PostgreSQL)
    run = engine.statements[name]
    acts = [act]

    def run_late(connection: Any, **values: Any) -> Any:
        if acts:
            acts.pop()()
        return run(connection, **values)

    engine.statements = {**engine.statements, name: run_late}


def test_a_task_claimed_while_it_is_cancelled_ends_as_one_that_runs(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    task_id = first.submit()
    grants: list[Any] = []
    just_before(first, "cancel", lambda: grants.extend(second.claim("w1")))

    first.cancel(task_id)
    answer = second.report(completed(grants[0]))

    assert (first.status(task_id), first.outcomes(task_id)) == ("cancelled", ["cancelled"])
    assert [over.task_id for over in [*answer.lost, *answer.cancel]] == [task_id]


def test_a_task_cancelled_while_it_is_revived_is_counted_as_cancelled(pair: tuple[Builder, Builder]) -> None:
    """The counts are an invariant: a lane that seems to have no pending task is not looked at."""
    first, second = pair
    task_id, _ = first.in_status(TaskStatus.FAILED)

    def meanwhile() -> None:
        second.revive(task_id)
        second.cancel(task_id)

    just_before(first, "revive", meanwhile)

    first.revive(task_id)

    assert [grant.task_id for grant in second.claim("w1")] == [task_id]


def test_a_child_that_comes_while_a_flow_above_it_is_cancelled_is_unblocked(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    flow = Flow(first, {"key": "a"})
    depends_on = [flow.ids()["a"]]
    children: list[int] = []
    just_before(
        first, "cancel", lambda: children.append(second.submit(depends_on=depends_on, run_if="all_finished"))
    )

    flow.flows.cancel(flow.id)

    assert (flow.status, first.status(children[0])) == ("cancelled", "pending")


def test_a_flow_cancelled_by_two_at_once_is_counted_once(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    flow = Flow(first, {"key": "a"}, {"key": "parts", "map": {"over": {"result_of": "a", "field": "items"}}})
    just_before(first, "cancel_nodes", lambda: second.dispatcher.ledger.flows.cancel(flow.id))

    flow.flows.cancel(flow.id)

    assert (flow.status, flow.view.progress) == ("cancelled", 1.0)


def test_a_flow_revived_by_two_at_once_is_counted_once(pair: tuple[Builder, Builder]) -> None:
    """Only a fan-out is left to revive, so that no task's row keeps them apart."""
    first, second = pair
    flow = Flow(first, {"key": "a"}, {"key": "parts", "map": {"over": {"result_of": "a", "field": "items"}}})
    flow.flows.cancel(flow.id)
    first.revive(flow.ids()["a"] or 0)
    just_before(first, "reopen_nodes", lambda: second.dispatcher.ledger.flows.revive(flow.id))

    with pytest.raises(errors.Conflict):
        flow.flows.revive(flow.id)

    assert (flow.status, flow.view.progress) == ("running", 0.0)


def test_a_child_that_comes_while_its_parent_fails_is_cancelled(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    grant = first.start("w1", max_retries=0)
    children: list[int] = []
    just_before(first, "end_attempt", lambda: children.append(second.submit(depends_on=[grant.task_id])))

    first.report(failed(grant))

    assert (first.status(grant.task_id), first.status(children[0])) == ("failed", "cancelled")


def test_a_task_completed_while_it_is_reclaimed_stays_completed(
    pair: tuple[Builder, Builder], clock: FakeClock
) -> None:
    first, second = pair
    grant = second.start("w1")
    clock.advance(first.dispatcher.settings.lease_seconds + 1)
    second.say("w1")
    just_before(first, "end_attempt", lambda: second.report(completed(grant)))

    first.dispatcher.ledger.reclaim_expired()

    assert (first.status(grant.task_id), first.outcomes(grant.task_id)) == ("completed", ["completed"])


def test_a_claim_waits_for_who_declares_its_worker_dead(pair: tuple[Builder, Builder], clock: FakeClock) -> None:
    first, second = pair
    second.say("w1")
    first.submit()
    clock.advance(first.dispatcher.settings.heartbeat_timeout_seconds + 1)
    calls: list[Call] = []

    def claim_meanwhile() -> None:
        calls.append(Call(second.dispatcher.database.write, lambda tx: tx.claim_lanes(worker_id="w1").fetchall()))
        wait_until(lambda: calls[0].done or first.dispatcher.waits_for_a_lock, "it to wait or to be answered")

    just_before(first, "held_of_worker", claim_meanwhile)
    first.dispatcher.ledger.reclaim_silent()

    assert calls[0].result() == []


def meanwhile(tasks: Builder, name: str, act: Callable[[], Any]) -> list[Call]:
    """As just_before, for an act that may have to wait until this dispatcher's transaction is over."""
    calls: list[Call] = []

    def begin() -> None:
        calls.append(Call(act))
        wait_until(lambda: calls[0].done or tasks.dispatcher.waits_for_a_lock, "it to wait or to be done")

    just_before(tasks, name, begin)
    return calls


def test_a_schedule_changed_while_it_fires_keeps_its_new_timetable(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    clockwork = Clockwork(first, every_seconds=86400)
    first.advance(DAY)
    change = ScheduleChange(every_seconds=60.0)
    calls = meanwhile(first, "take_slot", lambda: second.dispatcher.ledger.schedules.change("s", change))

    clockwork.schedules.fire()
    answered, _ = calls[0].result()

    assert clockwork.outcomes() == ["fired"]
    assert clockwork.schedules.show("s").next_runs == answered.next_runs
    clockwork.pass_time(MINUTE)
    assert clockwork.outcomes() == ["fired", "fired"]


def test_a_schedule_that_fires_while_it_is_changed_fires_as_it_is_then(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    clockwork = Clockwork(first)
    clockwork.schedules.fire()
    first.advance(MINUTE)
    calls = meanwhile(second, "change_schedule", clockwork.schedules.fire)

    second.dispatcher.ledger.schedules.change("s", ScheduleChange(task=Submission("other")))
    calls[0].result()
    clockwork.schedules.fire()

    assert first.dispatcher.rows("SELECT type FROM tasks") == [("other",)]
    clockwork.pass_time(MINUTE)
    assert clockwork.outcomes() == ["fired", "fired"]


def test_of_two_changes_of_a_schedule_neither_undoes_the_other(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    schedules = Clockwork(first).schedules
    calls = meanwhile(first, "change_schedule", lambda: second.dispatcher.ledger.schedules.pause("s", True))

    schedules.change("s", ScheduleChange(missed="all"))
    calls[0].result()

    assert (schedules.show("s").missed, schedules.show("s").paused) == ("all", True)


def test_what_a_claim_found_is_forgotten_with_its_transaction(pair: tuple[Builder, Builder]) -> None:
    tasks, _ = pair
    engine, database = tasks.dispatcher.database.engine, tasks.dispatcher.database
    tasks.say("w1")
    parked = Call(tasks.say, "w1", want=1, wait_seconds=0.3)
    wait_until(lambda: database._parked, "the claim to wait")
    operation = database._parked[0]
    commit = engine.commit
    losses = [psycopg.errors.DeadlockDetected("the other one was faster")]

    def lose_once(*args: Any) -> None:
        if losses:
            wait_until(lambda: operation.wait_seconds == 0, "its time to be over")
            raise losses.pop()
        commit(*args)

    engine.commit = lose_once  # type: ignore[method-assign]
    tasks.submit()

    assert parked.result().tasks == []


def test_a_child_revived_while_its_parent_ends_may_run(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    parent_id = first.submit()
    child_id = first.submit(depends_on=[parent_id])
    first.cancel(child_id)
    grant = second.claim_one("w1")
    calls: list[Call] = []

    def end_meanwhile() -> None:
        calls.append(Call(second.report, completed(grant)))
        wait_until(lambda: calls[0].done or first.dispatcher.waits_for_a_lock, "the end to wait or to be stored")

    just_before(first, "block", end_meanwhile)
    first.revive(child_id)
    calls[0].result()

    assert (first.status(parent_id), first.status(child_id)) == ("completed", "pending")


def test_a_parent_that_ends_while_its_flow_is_revived_counts(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    flow = Flow(first, {"key": "runs"}, {"key": "lost"}, {"key": "child", "depends_on": ["runs", "lost"]})
    grant = second.claim_one("w1")
    assert grant.task_id == flow.task_ids["runs"]
    first.cancel(flow.task_ids["lost"] or 0)
    assert flow.statuses()["child"] == "cancelled"
    calls: list[Call] = []

    def end_meanwhile() -> None:
        calls.append(Call(second.report, completed(grant)))
        wait_until(lambda: calls[0].done or first.dispatcher.waits_for_a_lock, "the end to wait or to be stored")

    just_before(first, "ready_nodes", end_meanwhile)  # when the child's live parents have been counted
    flow.flows.revive(flow.id)
    calls[0].result()
    assert flow.statuses() == {"runs": "completed", "lost": "pending", "child": "blocked"}

    flow.complete("lost")

    assert flow.statuses()["child"] == "pending"


def test_a_task_revived_before_it_is_removed_stays(pair: tuple[Builder, Builder], clock: FakeClock) -> None:
    first, second = pair
    task_id, _ = first.in_status(TaskStatus.FAILED)
    clock.advance(first.dispatcher.settings.retention_days * 86400 + 10)
    just_before(first, "droppable", lambda: second.revive(task_id))  # when it has been found to be old

    first.dispatcher.ledger.prune()

    assert first.status(task_id) == "pending"


def test_a_task_that_is_being_removed_is_not_revived(pair: tuple[Builder, Builder], clock: FakeClock) -> None:
    first, second = pair
    task_id, _ = first.in_status(TaskStatus.FAILED)
    clock.advance(first.dispatcher.settings.retention_days * 86400 + 10)
    calls: list[Call] = []

    def revive_meanwhile() -> None:
        calls.append(Call(second.revive, task_id))
        wait_until(lambda: calls[0].done or first.dispatcher.waits_for_a_lock, "it to wait or to be stored")

    just_before(first, "drop_payload", revive_meanwhile)  # when it has been found to be old
    first.dispatcher.ledger.prune()

    with pytest.raises(errors.NotFound):  # it is too late: else it would have been answered and then removed
        calls[0].result()


def test_a_claim_that_raises_while_it_is_served_costs_nobody_else(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    second.say("w1")
    second.say("w2")
    database = second.dispatcher.database
    calls = [Call(second.say, "w1", want=1, wait_seconds=20)]
    wait_until(lambda: len(database._parked) == 1, "the first claim to wait")
    calls.append(Call(second.say, "w2", want=1, wait_seconds=20))
    wait_until(lambda: len(database._parked) == 2, "the second one")

    def fail_once() -> None:
        raise ValueError("a mistake in one claim")

    just_before(second, "claim", fail_once)
    task_id = first.submit()
    second.dispatcher.database.serve_parked()  # what is without notices, wakes too

    with pytest.raises(ValueError, match="a mistake in one claim"):
        calls[0].result()
    assert [grant.task_id for grant in calls[1].result().tasks] == [task_id]
    assert second.dispatcher.fatal == []


def test_a_second_look_serves_all_who_wait(postgres: tuple[str, str], clock: FakeClock) -> None:
    store = PostgreSQLStore(*postgres, FEATURES - {"notify"})
    dispatchers = [Dispatcher(store, clock), Dispatcher(store, clock)]
    first, second = map(Builder, dispatchers)
    for number in range(3):
        second.say(f"w{number}")
    calls = [Call(second.say, f"w{number}", want=1, wait_seconds=20) for number in range(3)]
    wait_until(lambda: len(second.dispatcher.database._parked) == 3, "the claims to wait")

    ids = first.submit_many(3)
    second.dispatcher.database.serve_parked()

    assert sorted(grant.task_id for call in calls for grant in call.result().tasks) == ids
    for dispatcher in dispatchers:
        dispatcher.close()
    store.check()
    store.drop()
