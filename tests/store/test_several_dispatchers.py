"""Two dispatchers on one PostgreSQL: they share the work, wake each other, and one of them leads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Set

import pytest

from dispatcher.leadership import TERM_SECONDS, NotLeading
from dispatcher.ledger import Ledger
from dispatcher.transaction import Transaction
from shared import errors
from shared.lifecycle import ENDED
from shared.operating import LimitSetting
from shared.settings import FEATURES
from tests.support.builder import Builder
from tests.support.clockwork import MINUTE, Clockwork
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.messages import completed, holding
from tests.support.stores import PostgreSQLStore
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until
from tests.support.writer_held import WriterHeld

WITH_NOTICES = [{"notify", "prepare"}, {"notify"}]
WITHOUT = [{"prepare"}, set()]


def named(features: Set[str]) -> str:
    return "+".join(sorted(features)) or "neither"


@pytest.fixture(params=[*WITH_NOTICES[:1], *WITHOUT[1:]], ids=named)
def store(request: pytest.FixtureRequest, postgres: tuple[str, str]) -> Iterator[PostgreSQLStore]:
    made = PostgreSQLStore(*postgres, frozenset(request.param))
    yield made
    made.drop()


def leads(tasks: Builder) -> bool:
    return tasks.dispatcher.ledger.leadership.holds()


# --- sharing the work


def test_no_task_is_granted_twice(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    ids = [*first.submit_many(100), *second.submit_many(100)]
    calls = [
        Call(tasks.claim, f"w{number}-{index}", 10) for number in range(12) for index, tasks in enumerate(pair)
    ]

    grants = [grant for call in calls for grant in call.result()]

    assert sorted(grant.task_id for grant in grants) == sorted(ids)[: len(grants)]
    assert len({grant.task_id for grant in grants}) == len(grants) == 200


def test_ids_are_never_given_twice(pair: tuple[Builder, Builder]) -> None:
    calls = [Call(tasks.submit_many, 20) for _ in range(10) for tasks in pair]

    ids = [task_id for call in calls for task_id in call.result()]

    assert len(set(ids)) == len(ids) == 400


def test_of_one_unique_key_one_task_lives_wherever_it_is_submitted(pair: tuple[Builder, Builder]) -> None:
    calls = [Call(tasks.submit, unique_key="the same") for _ in range(20) for tasks in pair]

    ids = {call.result() for call in calls}

    assert len(ids) == 1
    assert pair[0].dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(1,)]


def test_a_limit_holds_for_claims_at_both(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    first.dispatcher.ledger.limits.put(LimitSetting(type="noop", max_running=3))
    first.submit_many(40)
    calls = [Call(tasks.claim, f"w{number}-{index}", 2) for number in range(8) for index, tasks in enumerate(pair)]

    grants = [grant for call in calls for grant in call.result()]

    assert len(grants) <= 3
    assert second.dispatcher.rows("SELECT COUNT(*) FROM tasks WHERE status = 'in-progress'") == [(len(grants),)]


def test_counts_of_all_are_one_truth(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    first.submit_many(10)
    grants = second.claim("w1", want=4)
    first.report(*(completed(grant) for grant in grants[:3]))

    views = [tasks.dispatcher.records.stats()["tasks"] for tasks in pair]

    assert views[0] == views[1]
    assert (views[0]["pending"], views[0]["in-progress"], views[0]["completed"]) == (6, 1, 3)


def test_a_worker_may_talk_to_any_of_them(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    grant = first.start("w1")

    kept = second.hold(holding(grant))
    answer = second.report(completed(grant))
    repeated = first.report(completed(grant))

    assert (kept.lost, answer.lost, repeated.lost) == ([], [], [])
    assert first.outcomes(grant.task_id) == ["completed"]


def test_the_same_report_at_both_at_once_counts_once(pair: tuple[Builder, Builder]) -> None:
    for _ in range(10):
        grant = pair[0].start("w1")
        calls = [Call(tasks.report, completed(grant)) for tasks in pair]

        assert [call.result().lost for call in calls] == [[], []]
        assert pair[0].outcomes(grant.task_id) == ["completed"]


# --- waiting


def park(tasks: Builder, worker: str = "w1") -> Call:
    call = Call(tasks.say, worker, want=1, wait_seconds=LIMIT_SECONDS)
    wait_until(lambda: tasks.dispatcher.database._parked, "the claim to be parked")
    return call


@pytest.mark.parametrize("store", WITH_NOTICES, indirect=True, ids=named)
def test_a_parked_claim_wakes_when_the_other_stores_work(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    wait_until(lambda: _listening(second.dispatcher) == 2, "both to listen")
    call = park(second)

    task_id = first.submit()

    assert [grant.task_id for grant in call.result(2.0).tasks] == [task_id]


def _listening(dispatcher: Dispatcher) -> int:
    query = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    return int(dispatcher.rows(query)[0][0])


@pytest.mark.parametrize("store", WITHOUT, indirect=True, ids=named)
def test_without_notices_the_second_look_wakes_it(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    call = park(second)
    task_id = first.submit()
    before = call.done

    second.dispatcher.database.serve_parked()

    assert not before
    assert [grant.task_id for grant in call.result(2.0).tasks] == [task_id]


@pytest.mark.parametrize("store", WITH_NOTICES[:1], indirect=True, ids=named)
def test_a_notice_that_nobody_can_use_wakes_nobody(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    wait_until(lambda: _listening(second.dispatcher) == 2, "both to listen")
    picky = Call(second.say, "picky", want=1, wait_seconds=0.5, types=["prime"])
    wait_until(lambda: second.dispatcher.database._parked, "the claim to be parked")

    task_id = first.submit("noop")

    assert picky.result().tasks == []
    assert first.status(task_id) == "pending"


def test_whoever_waits_for_an_end_hears_of_one_that_another_stored(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    grant = first.start("w1")
    database = second.dispatcher.database
    began = time.monotonic()
    has_ended = lambda: second.status(grant.task_id) in ENDED  # noqa: E731
    call = Call(database.wait_for_end, grant.task_id, has_ended, LIMIT_SECONDS)
    wait_until(lambda: database._ends, "somebody to wait")

    first.report(completed(grant))

    call.result()
    assert time.monotonic() - began < LIMIT_SECONDS / 2


@pytest.mark.parametrize("store", [*WITH_NOTICES[:1], FEATURES], indirect=True, ids=named)
def test_who_freezes_within_a_write_lets_go_of_its_rows(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    grant = first.start("w1")
    frozen, awake = threading.Event(), threading.Event()

    def freeze(tx: Transaction) -> None:
        tx.restart(task_id=grant.task_id)
        assert tx.task_state(task_id=grant.task_id)  # it has arrived, in a pipeline too
        frozen.set()
        awake.wait(2 * LIMIT_SECONDS)

    call = Call(first.dispatcher.database.write, freeze)
    assert frozen.wait(LIMIT_SECONDS)
    answer = Call(second.report, completed(grant)).result()
    awake.set()

    assert answer.lost == []
    assert first.outcomes(grant.task_id) == ["completed"]
    with pytest.raises(errors.DatabaseUnavailable):
        call.result()


@pytest.mark.parametrize("store", WITH_NOTICES[:1], indirect=True, ids=named)
def test_a_notice_that_is_no_dispatcher_s_changes_nothing(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    second.dispatcher.rows("SELECT pg_notify('baton_work', v) FROM (VALUES ('hello'), ('{}')) told (v)")

    call = Call(first.say, "w1", want=1, wait_seconds=LIMIT_SECONDS)
    wait_until(lambda: first.dispatcher.database._parked, "the claim to be parked")
    task_id = second.submit()

    assert [grant.task_id for grant in call.result().tasks] == [task_id]


# --- one leads


def test_only_one_leads(pair: tuple[Builder, Builder]) -> None:
    assert [leads(tasks) for tasks in pair] == [True, False]


def test_another_leads_at_once_after_a_polite_stop(pair: tuple[Builder, Builder]) -> None:
    first, second = pair

    first.dispatcher.ledger.leadership.give_up()

    wait_until(lambda: leads(second), "the second to lead", 2.0)


def test_another_leads_when_the_leader_has_been_silent_for_a_term_and_not_before(
    pair: tuple[Builder, Builder], clock: FakeClock
) -> None:
    _, second = pair
    leadership = second.dispatcher.ledger.leadership
    clock.advance(TERM_SECONDS - 0.1)
    before = leadership._database.write(leadership._renew)

    clock.advance(0.2)
    after = leadership._database.write(leadership._renew)

    assert (before, after) == (None, 2)
    assert TERM_SECONDS < 5.0


def test_a_new_leader_judges_nobody_for_a_while(pair: tuple[Builder, Builder], clock: FakeClock) -> None:
    first, second = pair
    first.start("w1")
    clock.advance(TERM_SECONDS + 1)

    wait_until(lambda: leads(second), "the second to lead", 2.0)

    assert second.dispatcher.ledger.reclaim_silent() == 0


def test_a_monitor_that_lost_the_lead_while_it_was_paused_changes_nothing(
    pair: tuple[Builder, Builder], clock: FakeClock
) -> None:
    """Its write was already on its way when another dispatcher took over."""
    first, second = pair
    acted: list[str] = []

    def act(name: str) -> None:
        def run(tx: Transaction) -> None:
            acted.append(name)

        (first if name == "old" else second).dispatcher.ledger.leadership.write(run)

    with WriterHeld(first.dispatcher.database) as held:
        paused = Call(act, "old")
        held.wait_for_queued(1)
        clock.advance(TERM_SECONDS + 0.1)
        wait_until(lambda: leads(second), "the second to lead", 2.0)
        act("new")

    with pytest.raises(NotLeading):
        paused.result()
    assert acted == ["new"]
    wait_until(lambda: not leads(first), "the first to notice", 2.0)


def test_a_term_cannot_change_under_a_monitor_that_acts(pair: tuple[Builder, Builder], clock: FakeClock) -> None:
    first, second = pair
    inside: list[Call] = []

    def act(tx: Transaction) -> bool:
        clock.advance(TERM_SECONDS + 1)
        leadership = second.dispatcher.ledger.leadership
        inside.append(Call(leadership._database.write, leadership._renew))
        wait_until(lambda: first.dispatcher.waits_for_a_lock, "the other to wait for the row")
        return inside[0].done

    overtaken = first.dispatcher.ledger.leadership.write(act)

    assert not overtaken
    assert inside[0].result() == 2


def test_two_monitors_reclaim_once(pair: tuple[Builder, Builder]) -> None:
    first, second = pair
    grant = first.start("w1")
    first.advance(2.5)

    calls = [Call(tasks.dispatcher.monitor.run_once) for tasks in pair]
    for call in calls:
        call.result()

    assert first.outcomes(grant.task_id) == ["reclaimed"]
    assert second.status(grant.task_id) == "pending"


@pytest.mark.parametrize("guard", ["the lead", "the slot's row"])
def test_two_monitors_fire_each_slot_once(pair: tuple[Builder, Builder], clock: FakeClock, guard: str) -> None:
    clockwork = Clockwork(pair[0], missed="all")
    ledgers = [tasks.dispatcher.ledger for tasks in pair]
    if guard != "the lead":  # both monitors believe that they lead: what is left is the slot's own row
        for ledger in ledgers:
            ledger.schedules._lead = ledger._write

    def fire(ledger: Ledger) -> None:
        with contextlib.suppress(NotLeading):
            ledger.schedules.fire()

    leader, other = ledgers
    for number in range(20):
        clock.advance(MINUTE)
        if number % 5 == 4:
            leader.leadership.give_up()
            leader, other = other, leader
            wait_until(leader.leadership.holds, "the other to lead", 2.0)
        calls = [Call(fire, ledger) for ledger in ledgers]
        for call in calls:
            call.result()

    assert clockwork.outcomes() == ["fired"] * 20
    assert clockwork.ticks() == 20
