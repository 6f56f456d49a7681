"""Random graphs of 10 to 50 nodes under workers that die and a dispatcher that restarts.

Whatever the graph: no task is granted before its parents have ended, each ends once, and in the end
nothing is stuck. What each must end as follows from the graph and from who is doomed to fail.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from shared.protocol import Grant
from tests.support import messages
from tests.support.builder import STEADY, Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.flows import Flow

GRAPHS = 500
IN_ONE_TEST = 25
WORKERS = ("w1", "w2", "w3")
BACKOFF = {"kind": "fixed", "base_seconds": STEADY.base_seconds, "jitter": False}


def random_graph(chance: random.Random) -> list[dict[str, Any]]:
    """Nodes in random order; some fail for good, some run whatever happens, some fan out."""
    nodes: list[dict[str, Any]] = []
    for index in range(chance.randint(10, 50)):
        before = [node["key"] for node in nodes]
        parents = chance.sample(before, min(len(before), chance.choice((0, 1, 1, 2, 3))))
        fails = chance.random() < 0.05
        node: dict[str, Any] = {
            "key": f"{'bad' if fails else 'k'}{index}",
            "depends_on": parents,
            "run_if": chance.choice(("all_completed", "all_completed", "all_finished")),
            "crash_limit": 1000,
            "backoff": BACKOFF,
        }
        single = [node["key"] for node in nodes if "map" not in node]
        if chance.random() < 0.1:
            node["map"] = {"over": list(range(chance.randint(0, 4)))}
        elif chance.random() < 0.1 and single:
            node["map"] = {"over": {"result_of": chance.choice(single), "field": "items"}}
        nodes.append(node)
    chance.shuffle(nodes)
    return nodes


def parents_of(node: dict[str, Any]) -> set[str]:
    over = node.get("map", {}).get("over")
    return {*node["depends_on"], *([over["result_of"]] if isinstance(over, dict) else [])}


def expected(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """How each node must end; a fan-out as one."""
    ends: dict[str, str] = {}
    by_key = {node["key"]: node for node in nodes}

    def end(key: str) -> str:
        if key not in ends:
            node = by_key[key]
            parents = [end(parent) for parent in sorted(parents_of(node))]
            ends[key] = _end(node, parents, ends)
        return ends[key]

    for node in nodes:
        end(node["key"])
    return ends


def _end(node: dict[str, Any], parents: list[str], ends: dict[str, str]) -> str:
    if node["run_if"] == "all_completed" and set(parents) - {"completed"}:
        return "cancelled"
    over = node.get("map", {}).get("over")
    if isinstance(over, dict) and ends[over["result_of"]] != "completed":
        return "failed"  # there is no result to fan out over
    runs = not isinstance(over, list) or bool(over)
    return "failed" if node["key"].startswith("bad") and runs else "completed"


class Play:
    """Three workers, one flow, and what may happen to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.tasks = Builder(Dispatcher(folder, FakeClock()))
        self.nodes = random_graph(self.chance)
        self.flow = Flow(self.tasks, *self.nodes)
        self.held: dict[str, list[Grant]] = {worker: [] for worker in WORKERS}

    def run(self) -> None:
        """Until the flow has ended; a graph that is stuck never does."""
        for _ in range(3000):
            worker = self.chance.choice(WORKERS)
            what = self.chance.choices((self.claim, self.report, self.die, self.restart), (40, 50, 7, 3))[0]
            what(worker)
            self.tasks.dispatcher.ledger.promote()
            if (
                not self.chance.randrange(20)
                and self.tasks.dispatcher.ledger.flows.show(self.flow.id).status != "running"
            ):
                return
        raise AssertionError(f"the flow has not ended: {self.flow.statuses()}")

    def claim(self, worker: str) -> None:
        grants = self.tasks.claim(worker, want=self.chance.randint(1, 5))
        by_key = {task.task_id: task for task in self.flow.flows.show(self.flow.id).tasks or ()}
        statuses = {task.key: task.status for task in by_key.values()}
        for grant in grants:
            for parent in by_key[grant.task_id].depends_on:
                parts = [s for key, s in statuses.items() if key == parent or key.startswith(f"{parent}[")]
                assert set(parts) <= {"completed", "failed", "cancelled"}, f"{grant.task_id} came before {parent}"
        self.held[worker] += grants

    def report(self, worker: str) -> None:
        results = []
        for grant in self.held[worker]:
            key = self.tasks.view(grant.task_id).key
            bad = str(key).startswith("bad")
            if bad:
                results.append(messages.failed(grant, retryable=False))
            else:
                made = messages.completed(grant, {"items": [0] * (1 + grant.task_id % 3)})
                results.append(made if self.chance.random() < 0.8 else messages.released(grant))
        self.held[worker] = []
        self.tasks.say(worker, results=results)

    def die(self, worker: str) -> None:
        """Silent for too long; nobody else is."""
        self.held[worker] = []
        self.tasks.advance(2.1)
        for other in WORKERS:
            if other != worker:
                self.tasks.hold(*map(messages.holding, self.held[other]), worker=other)
        self.tasks.dispatcher.ledger.reclaim_silent()
        self.tasks.advance(11)  # for pauses after crashes
        for other in WORKERS:
            self.tasks.hold(*map(messages.holding, self.held[other]), worker=other)

    def restart(self, worker: str) -> None:
        """The dispatcher's process dies and comes back; nothing but the file goes on."""
        self.tasks.dispatcher.restart()
        self.tasks.advance(5.1)
        self.flow.flows = self.tasks.dispatcher.ledger.flows
        for other in WORKERS:
            self.tasks.hold(*map(messages.holding, self.held[other]), worker=other)

    def check(self) -> None:
        """Each node ended as it must, each task exactly once."""
        ends = expected(self.nodes)
        found: dict[str, set[str]] = {}
        for task in self.flow.view.tasks or ():
            found.setdefault(task.key.partition("[")[0], set()).add(task.status)
        assert {key: {end} for key, end in ends.items()} == found
        self.tasks.dispatcher.close()
        self.tasks.dispatcher.store.check()


@pytest.mark.parametrize("batch", range(GRAPHS // IN_ONE_TEST))
def test_no_graph_is_stuck_and_no_task_starts_early(tmp_path: Path, batch: int) -> None:
    for seed in range(batch * IN_ONE_TEST, (batch + 1) * IN_ONE_TEST):
        folder = tmp_path / str(seed)
        folder.mkdir()
        play = Play(folder, seed)
        play.run()
        play.check()
