"""Short words for what system tests do again and again."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import msgspec

from analysis.cluster import Cluster
from shared import errors
from shared.protocol import Submission

ROUNDS_PER_SECOND = 1000  # of hashing, which is next to nothing
SEED = "chain"


def submit(baton: Cluster, type: str, count: int = 1, **payload: Any) -> list[int]:
    """Submit `count` equal tasks; returns their ids."""
    body = msgspec.Raw(msgspec.json.encode(payload))
    ids: list[int] = baton.client.submit_many([Submission(type, payload=body)] * count)["task_ids"]
    return ids


def submit_chain(baton: Cluster, seconds: int = 5, count: int = 1) -> list[int]:
    """Submit tasks that last so long however busy the machine is; `is_right` knows their answer."""
    rounds = seconds * ROUNDS_PER_SECOND
    return submit(baton, "paced_chain", count, rounds=rounds, rounds_per_second=ROUNDS_PER_SECOND, seed=SEED)


def is_right(task: dict[str, Any]) -> bool:
    """Is this the answer to a task of `submit_chain`?"""
    return bool(task["result"]["digest"] == digest(task["payload"]["rounds"], SEED))


def ended(baton: Cluster, task_id: int, seconds: float = 40.0) -> dict[str, Any]:
    """The task once it has ended."""

    def view() -> dict[str, Any] | None:
        task = baton.client.task(task_id, wait_seconds=1.0)
        return task if task["finished_at"] else None

    task: dict[str, Any] = baton.wait(view, f"task {task_id} to end", seconds)
    return task


def running(baton: Cluster, task_id: int) -> dict[str, Any]:
    """The task once a worker's heartbeat has told that it runs."""

    def view() -> dict[str, Any] | None:
        task = baton.client.task(task_id)
        return task if task["status"] == "in-progress" and task["progress"] else None

    task: dict[str, Any] = baton.wait(view, f"task {task_id} to run")
    return task


def saved(baton: Cluster, task_id: int, more_than: int = 0) -> dict[str, Any]:
    """The task's checkpoint once there is one with a greater seq."""

    def view() -> dict[str, Any] | None:
        try:
            checkpoint = baton.client.checkpoint(task_id)
        except errors.NotFound:
            return None
        return checkpoint if checkpoint["seq"] > more_than else None

    checkpoint: dict[str, Any] = baton.wait(view, f"a checkpoint of task {task_id}")
    return checkpoint


@cache
def digest(rounds: int, seed: str) -> str:
    """What hash_chain must answer: SHA-256 applied `rounds` times."""
    value = seed.encode()
    for _ in range(rounds):
        value = hashlib.sha256(value).digest()
    return value.hex()


def outcomes(baton: Cluster, task_id: int) -> list[str | None]:
    """How the attempts of a task ended, oldest first."""
    return [attempt["outcome"] for attempt in baton.client.attempts(task_id)]
