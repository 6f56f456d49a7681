"""Flows of real processes while workers and the dispatcher are killed: none is stuck, each result comes once."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from analysis.cluster import Cluster

FLOWS = 12
WORKERS = ("worker-1", "worker-2")
KILLS = 6
SECONDS = 90.0


def graph(chance: random.Random) -> list[dict[str, Any]]:
    """Ten to twenty short tasks; what its payload makes impossible fails for good."""
    nodes: list[dict[str, Any]] = []
    for index in range(chance.randint(10, 20)):
        before = [node["key"] for node in nodes]
        fails = chance.random() < 0.08
        node: dict[str, Any] = {
            "key": f"k{index}",
            "type": "sleep",
            "payload": {"seconds": "never" if fails else chance.choice((0.0, 0.01, 0.1))},
            "depends_on": chance.sample(before, min(len(before), chance.choice((0, 1, 2)))),
            "run_if": chance.choice(("all_completed", "all_completed", "all_finished")),
            "crash_limit": 100,
        }
        if not fails and chance.random() < 0.15:
            node["map"] = {"over": [0.0] * chance.randint(0, 3), "as": "seconds"}
        nodes.append(node)
    return nodes


def expected(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """How each node must end: parents come before their children."""
    ends: dict[str, str] = {}
    for node in nodes:
        spoilt = {ends[parent] for parent in node["depends_on"]} - {"completed"}
        if spoilt and node["run_if"] == "all_completed":
            ends[node["key"]] = "cancelled"
        else:
            ends[node["key"]] = "failed" if node["payload"]["seconds"] == "never" else "completed"
    return ends


def running(baton: Cluster) -> int:
    return sum(flow["status"] == "running" for flow in baton.client.flows()["flows"])


def harm(baton: Cluster, chance: random.Random) -> None:
    """kill -9 of a worker, or of the dispatcher; and another one takes its place."""
    if chance.random() < 0.4 and baton.dispatcher is not None:
        baton.dispatcher.kill()
        baton.dispatcher.wait()
        baton.start_dispatcher()
    else:
        name = chance.choice(WORKERS)
        baton.workers[name].kill()
        baton.workers[name].wait()
        baton.start_worker(name, wait=False)


@pytest.mark.parametrize("seed", [1, 2])
def test_flows_end_as_they_must_whatever_is_killed(baton: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    for name in WORKERS:
        baton.start_worker(name)
    graphs = [graph(chance) for _ in range(FLOWS)]
    ids = [baton.client.submit_flow({"tasks": nodes})["flow_id"] for nodes in graphs]

    for _ in range(KILLS):
        harm(baton, chance)
        left = running(baton)
        baton.wait(lambda left=left: running(baton) < max(1, left), "a flow to end", SECONDS)
    limit = time.monotonic() + SECONDS
    baton.wait(lambda: running(baton) == 0, "every flow to end", limit - time.monotonic())

    for flow_id, nodes in zip(ids, graphs, strict=True):
        tasks = baton.client.flow(flow_id)["tasks"]
        found: dict[str, set[str]] = {}
        for task in tasks:
            found.setdefault(task["key"].partition("[")[0], set()).add(task["status"])
        assert found == {key: {end} for key, end in expected(nodes).items()}
        check_order(baton, tasks)


def check_order(baton: Cluster, tasks: list[dict[str, Any]]) -> None:
    """Nobody began before all parents had ended, and who completed did so once."""
    finished: dict[str, list[str]] = {}
    first_start: dict[str, str] = {}
    for task in (task for task in tasks if task["task_id"] is not None):
        finished.setdefault(task["key"].partition("[")[0], []).append(
            baton.client.task(task["task_id"])["finished_at"]
        )
        attempts = baton.client.attempts(task["task_id"])
        assert [attempt["outcome"] for attempt in attempts].count("completed") == (task["status"] == "completed")
        if attempts:
            first_start[task["key"]] = attempts[0]["started_at"]
    for task in tasks:
        ends = [end for parent in task["depends_on"] for end in finished.get(parent, [])]
        assert task["key"] not in first_start or max(ends, default="") <= first_start[task["key"]]
