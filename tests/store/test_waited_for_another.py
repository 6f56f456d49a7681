"""What has waited for rows of another dispatcher goes by the time at which it was let through."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from dispatcher.transaction import Transaction
from dispatcher.views import iso
from shared.protocol import WorkerInfo
from tests.support.builder import Builder
from tests.support.messages import holding
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until
from tests.support.writer_held import WriterHeld

pytestmark = pytest.mark.parametrize("store", ["postgresql"], indirect=True)


@contextlib.contextmanager
def held_up(pair: tuple[Builder, Builder], hold: Callable[[Transaction], object]) -> Iterator[None]:
    """Who writes at the first meanwhile waits three seconds for the second, which has rows that it `hold`s."""
    locked, go_on = threading.Event(), threading.Event()

    def hold_on(tx: Transaction) -> None:
        assert hold(tx)
        locked.set()
        assert go_on.wait(LIMIT_SECONDS)

    other = Call(pair[1].dispatcher.database.write, hold_on)
    assert locked.wait(LIMIT_SECONDS)
    yield
    wait_until(lambda: pair[0].dispatcher.waits_for_a_lock, "the first to wait for the second")
    pair[0].advance(3.0)
    go_on.set()
    other.result()


def limits(tx: Transaction) -> list[object]:
    return [*tx.lane_limits(), *tx.key_limits(names='["licence"]')]


@pytest.mark.parametrize("of", [{"type": "noop"}, {"key": "licence"}], ids=["type", "key"])
def test_a_start_that_waited_for_the_other_counts_from_when_it_was_let_through(
    pair: tuple[Builder, Builder], of: dict[str, str]
) -> None:
    first, second = pair
    first.limit(**of, max_starts=2, per_seconds=2.0)
    first.submit_many(4, limit_key=of.get("key"))

    with held_up(pair, limits):
        late = Call(first.claim, "w1", 2)

    assert len(late.result()) == 2
    assert second.claim("w2", 2) == []
    first.advance(2.0)
    second.dispatcher.ledger.limits.open_windows()
    assert len(second.claim("w2", 2)) == 2


def test_a_claim_that_waited_for_the_other_keeps_deadlines(pair: tuple[Builder, Builder]) -> None:
    first, _ = pair
    first.limit(type="noop", max_running=5)
    over, near = (first.submit(deadline=iso(first.dispatcher.clock.wall() + seconds)) for seconds in (2, 10))

    with held_up(pair, limits):
        late = Call(first.claim, "w1", 2)

    assert [(grant.task_id, grant.start_within_seconds) for grant in late.result()] == [(near, 7.0)]
    assert first.status(over) == "failed"


def test_a_heartbeat_that_waited_for_the_other_counts_from_when_it_was_let_through(
    pair: tuple[Builder, Builder],
) -> None:
    first, second = pair
    grant = first.start("w1")

    def hear(tx: Transaction) -> object:
        return second.dispatcher.ledger.registry.hear(tx, WorkerInfo("w1", name="w1"))

    with held_up(pair, hear):
        late = Call(first.hold, holding(grant, running=True), worker="w1")

    assert late.result().lost == []
    assert first.dispatcher.ledger.reclaim_silent() == 0


def test_a_heartbeat_of_a_transaction_that_waited_does_not_take_back_a_later_one(
    pair: tuple[Builder, Builder],
) -> None:
    first, second = pair
    grant = first.start("w1")
    began, go_on = threading.Event(), threading.Event()

    def wait(tx: Transaction) -> None:
        assert tx.lease_now
        began.set()
        assert go_on.wait(LIMIT_SECONDS)

    with WriterHeld(first.dispatcher.database) as held:
        ahead = Call(first.dispatcher.database.write, wait)
        held.wait_for_queued(1)
        late = Call(first.hold, holding(grant, running=True), worker="w1")
        held.wait_for_queued(2)
    assert began.wait(LIMIT_SECONDS)
    first.advance(3.0)
    second.hold(holding(grant, running=True), worker="w1")
    go_on.set()
    ahead.result()

    assert late.result().lost == []
    assert first.dispatcher.ledger.reclaim_silent() == 0
