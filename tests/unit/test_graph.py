"""The graph of a flow: what is refused, and how it is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dispatcher import graph, wire
from shared import errors
from shared.protocol import BATCH_MAX
from tests.support.flows import flow_of


def refused(*tasks: dict[str, Any]) -> errors.Refused:
    with pytest.raises(errors.Refused) as refusal:
        graph.plan(flow_of(*tasks))
    return refusal.value


@pytest.mark.parametrize(
    ("edges", "path"),
    [
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["d"], "d": ["b"], "e": []}, ["b", "c", "d", "b"]),
    ],
)
def test_a_cycle_is_named_by_its_path(edges: dict[str, list[str]], path: list[str]) -> None:
    refusal = refused(*({"key": key, "depends_on": parents} for key, parents in edges.items()))

    assert refusal.details == {"field": "tasks", "path": path}
    assert " -> ".join(path) in refusal.message


def test_a_cycle_through_a_result_is_one_too() -> None:
    refusal = refused(
        {"key": "a", "depends_on": ["b"]}, {"key": "b", "map": {"over": {"result_of": "a"}, "as": "x"}}
    )

    assert refusal.details["path"] == ["a", "b", "a"]


def test_ten_thousand_in_a_row_are_no_cycle() -> None:
    tasks = [{"key": "0"}, *({"key": str(i), "depends_on": [str(i - 1)]} for i in range(1, BATCH_MAX))]

    assert len(graph.plan(flow_of(*reversed(tasks)))) == BATCH_MAX


@pytest.mark.parametrize(
    ("tasks", "field"),
    [
        ([{"key": "a"}, {"key": "a"}], "tasks[1].key"),
        ([{"key": "a"}, {"key": "b", "depends_on": ["a", "c"]}], "tasks[1].depends_on"),
        ([{"key": "a", "map": {"over": {"result_of": "b"}}}], "tasks[0].map.over.result_of"),
        (
            [{"key": "a", "map": {"over": []}}, {"key": "b", "map": {"over": {"result_of": "a"}}}],
            "tasks[1].map.over.result_of",
        ),
        ([{"key": "a", "map": {"over": [0] * 10_001}}], "tasks[0].map.over"),
        ([{"key": "a", "payload": {"x": "y" * 1_000_000}, "map": {"over": [0] * 100}}], "tasks[0].map.over"),
        ([{"key": "a", "payload": [], "map": {"over": [0]}}], "tasks[0].payload"),
        ([{"key": "a", "map": {"over": ["x" * 1_048_576]}}], "tasks[0].map.over"),
        ([{"key": f"k{i}", "map": {"over": [0] * 10_000}} for i in range(6)], "tasks"),
    ],
)
def test_a_mistake_is_named_by_its_field(tasks: list[dict[str, Any]], field: str) -> None:
    assert refused(*tasks).details["field"] == field


def test_an_item_replaces_a_field_of_the_same_name() -> None:
    (node,) = graph.plan(flow_of({"key": "a", "payload": {"n": 1, "m": 2}, "map": {"over": [7], "as": "n"}}))

    assert [msgspec.json.decode(payload) for payload in node.payloads or ()] == [{"m": 2, "n": 7}]


# --- the other form


def foreign(**fields: Any) -> Any:
    return wire.flow(msgspec.json.encode({"jobId": "4711", **fields}))


def test_the_other_form_is_the_same_flow() -> None:
    flow, fields = foreign(
        jobName="nightly",
        tasks=[
            {"taskId": "fetch", "command": "curl -o 'a file' http://x", "retries": 2, "timeout": 60},
            {"taskId": "count", "type": "line_count", "payload": {"path": "a file"}},
        ],
        dependencies={"count": ["fetch"]},
    )

    fetch, count = flow.tasks
    assert (flow.name, fields["count"]) == ("nightly", "dependencies.count")
    assert (fetch.key, fetch.type, fetch.max_retries, fetch.timeout_seconds) == ("fetch", "command", 2, 60)
    assert msgspec.json.decode(fetch.payload) == {"argv": ["curl", "-o", "a file", "http://x"]}
    assert (count.type, count.depends_on, bytes(count.payload)) == ("line_count", ["fetch"], b'{"path":"a file"}')


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tasks": [{"taskId": "a", "type": "noop"}], "dependencies": {"b": ["a"]}}, "dependencies.b"),
        ({"tasks": [{"taskId": "a"}]}, "tasks[0].type"),
        ({"tasks": [{"taskId": "a", "command": "echo 'open"}]}, "tasks[0].command"),
        ({"tasks": [{"taskId": "a", "command": []}]}, "tasks[0].command"),
        ({"tasks": [{"taskId": "a", "command": "x", "payload": []}]}, "tasks[0].payload"),
        ({"tasks": [{"taskId": "a", "type": "noop", "retries": -1}]}, "tasks[0].retries"),
        ({"tasks": [{"taskId": "a", "type": "noop", "key": "a"}]}, "tasks[0].key"),
    ],
)
def test_mistakes_in_the_other_form_are_named_in_its_words(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.Invalid) as refusal:
        foreign(**fields)

    assert refusal.value.details["field"] == field


def test_an_unknown_parent_in_the_other_form_is_named_where_it_stood() -> None:
    flow, fields = foreign(tasks=[{"taskId": "a", "type": "noop"}], dependencies={"a": ["b"]})

    with pytest.raises(errors.Invalid) as refusal:
        graph.plan(flow, fields)

    assert refusal.value.details["field"] == "dependencies.a"
