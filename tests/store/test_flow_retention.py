"""How long the tasks of a flow stay once they have ended."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher import ledger
from dispatcher import submissions as storage
from shared.flows import FlowFilter
from tests.support.builder import Builder
from tests.support.flows import Flow, told


def test_the_tasks_of_a_flow_are_kept_until_the_last_of_them_is_old(tasks: Builder) -> None:
    parts = {"key": "parts", "map": {"over": [1, 2]}, "depends_on": ["a"]}
    flow = Flow(tasks, {"key": "a"}, parts, {"key": "sum", "depends_on": ["a", "parts"]})
    for key, result in (("a", 5), ("parts[0]", 1), ("parts[1]", 2)):
        flow.complete(key, result)
    tasks.advance(86400)
    flow.fail("sum")
    tasks.advance(29.5 * 86400)

    assert tasks.dispatcher.ledger.prune() == 0

    flow.flows.revive(flow.id)
    heard = told(flow.start("sum"))
    assert [heard["a"]["result"], *(part["result"] for part in heard["parts"])] == [5, 1, 2]
    flow.flows.cancel(flow.id)
    tasks.advance(29.5 * 86400)
    assert tasks.dispatcher.ledger.prune() == 0
    tasks.advance(86400)
    assert tasks.dispatcher.ledger.prune() == 4


def test_what_is_kept_longer_holds_nothing_else_up(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BITE", 2)
    flow = Flow(tasks, *({"key": str(i)} for i in range(5)), {"key": "late"})
    late = flow.start("late")
    tasks.finish(*tasks.claim("w1", want=5))
    tasks.finish(tasks.start())
    tasks.advance(86400)
    tasks.finish(late, worker="worker")
    tasks.advance(29.5 * 86400)

    pruned = [sum(tasks.dispatcher.ledger.prune() for _ in range(9))]
    tasks.advance(86400)
    pruned += [sum(tasks.dispatcher.ledger.prune() for _ in range(9))]

    assert pruned == [1, 6]


def test_what_is_kept_is_looked_at_a_bite_a_pass(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BITE", 2)
    flow = Flow(tasks, *({"key": str(i)} for i in range(9)), {"key": "late"})
    flow.start("late")
    tasks.finish(*tasks.claim("w1", want=9))
    tasks.advance(31 * 86400)
    prune, looks = storage.prune, 0

    def counted(*given: Any) -> Any:
        nonlocal looks
        looks += 1
        return prune(*given)

    monkeypatch.setattr(storage, "prune", counted)

    assert [tasks.dispatcher.ledger.prune() for _ in range(4)] == [0] * 4
    assert looks == 4


def test_a_flow_of_empty_fan_outs_goes_when_it_is_old(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BITE", 2)
    empty = {"key": "parts", "map": {"over": []}}
    held = [Flow(tasks, {"key": "a"}).id for _ in range(2)]
    old = [Flow(tasks, empty, {**empty, "key": "more", "depends_on": ["parts"]}).id for _ in range(3)]
    tasks.advance(29.5 * 86400)
    young = Flow(tasks, empty).id

    left = [_left_by_retention(tasks)]
    tasks.advance(86400)
    left.append(_left_by_retention(tasks))

    assert left == [{*held, *old, young}, {*held, young}]
    assert tasks.dispatcher.store.rows("SELECT COUNT(*) FROM edges") == [(0,)]


def _left_by_retention(tasks: Builder) -> set[int]:
    """The flows that are left when it has come to each of them."""
    for _ in range(5):
        tasks.dispatcher.ledger.prune()
    return {flow.flow_id for flow in tasks.dispatcher.ledger.flows.page(FlowFilter())["flows"]}
