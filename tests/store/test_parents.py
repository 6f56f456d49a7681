"""What a child is told of its parents has a limit."""

from __future__ import annotations

from tests.support.builder import Builder
from tests.support.flows import Flow, told


def test_what_the_parents_answered_is_cut_where_it_is_too_much(tasks: Builder) -> None:
    parents = [{"key": f"p{i}"} for i in range(6)]
    flow = Flow(tasks, *parents, {"key": "child", "depends_on": [parent["key"] for parent in parents]})
    for parent in parents:
        flow.complete(parent["key"], "x" * 1_000_000)

    told_of = told(flow.start("child"))

    kept = [entry["result"] is not None for entry in told_of.values()]
    assert kept == [True] * 4 + [False] * 2
    assert {entry["status"] for entry in told_of.values()} == {"completed"}
    assert told_of["p5"]["error"]["type"] == "TooLarge"
    assert told_of["p5"]["error"]["task_id"] == flow.task_ids["p5"]


def test_children_of_large_results_travel_in_small_batches(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "p"}, *({"key": f"c{i}", "depends_on": ["p"]} for i in range(20)))
    flow.complete("p", "x" * 1_000_000)

    assert len(tasks.claim("worker", want=100)) == 8
