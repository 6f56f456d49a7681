"""A fan-out: one task per item of a list, between a fork and a join (sql/migrations/0004_flows.sql).

Its parts are stored with the flow, or, over another task's result, in the transaction that ends
the last parent of its fork.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from dispatcher import graph
from dispatcher import submissions as storage
from dispatcher.checks import Times
from dispatcher.transaction import Transaction, encoded
from shared.flows import FlowTask
from shared.lifecycle import TaskStatus

_task = msgspec.json.Decoder(FlowTask)


def part_key(key: str, index: int) -> str:
    """The name of a part within its flow."""
    return f"{key}[{index}]"


def widen(tx: Transaction, fork_id: int) -> None:
    """Make the parts of a fan-out over a result, now known. Raises Refused saying why it cannot be done."""
    found = tx.fan_out(fork_id=fork_id)
    if found is None:
        return  # its parts are there already
    join_id, source_id, run_at, deadline_at, body = found
    flow_id, _, _, position, has_no_parts, *_ = tx.node(node_id=join_id)
    if not has_no_parts:
        return  # they were made before one of them was revived
    task = _task.decode(body)
    payloads = _payloads(task, tx.result_of(task_id=source_id))
    if not payloads:
        return
    relatives = storage.HAS_PARENTS | storage.HAS_CHILDREN
    place = storage.Place(flow_id, relatives, waiting=1)  # for its fork, which ends in a moment
    tasks = [graph.single(task, payload) for payload in payloads]
    times = [Times(run_at, deadline_at)] * len(payloads)
    ids = storage.store(tx, tasks, times, [place] * len(payloads)).ids
    tx.in_flow(flow_id, None, TaskStatus.BLOCKED, len(ids) - 1)  # they stand for their join from now on
    tx.widen(node_id=join_id, n=len(ids))
    add_parts(tx, task, flow_id, position, ids, fork_id, join_id)


def _payloads(task: FlowTask, result: bytes | None) -> list[Raw]:
    fan = task.map
    assert fan is not None and not isinstance(fan.over, list)
    return graph.parts(task.payload, fan.item_name, graph.items_of(result, fan.over), task.key)


def add_parts(
    tx: Transaction,
    task: FlowTask,
    flow_id: int,
    position: int,
    ids: Sequence[int],
    fork_id: int | None,
    join_id: int,
) -> None:
    """Store the nodes and edges of parts whose tasks are stored."""
    tx.add_nodes(
        flow_id=flow_id,
        rows=encoded(
            [
                (task_id, "task", part_key(task.key, index), position, "all_completed", 0, None, 1)
                for index, task_id in enumerate(ids)
            ]
        ),
    )
    edges = [(join_id, task_id, "", index) for index, task_id in enumerate(ids, 1)]
    if fork_id is not None:
        edges += [(task_id, fork_id, "", 0) for task_id in ids]
    tx.add_edges(rows=encoded(edges))
