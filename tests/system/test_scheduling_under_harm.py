"""Limits, keys and counters while workers and the dispatcher are killed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from analysis.cluster import Cluster
from shared.client import DispatcherClient
from shared.protocol import Exchange, Result, Submission, WorkerInfo
from tests.support.waiting import Call
from tests.system.support import ended

MOST = 2
SLEEP = msgspec.Raw(b'{"seconds": 0.3}')


def at_once(attempts: list[dict[str, Any]]) -> int:
    """How many attempts ran at the same time, at most."""
    moments = [(a["started_at"], 1) for a in attempts] + [(a["finished_at"], -1) for a in attempts]
    running = most = 0
    for _, change in sorted(moments):  # of one moment the ends come first
        running += change
        most = max(most, running)
    return most


@pytest.mark.parametrize("kind", ["key", "type"])
def test_a_limit_is_neither_exceeded_nor_leaked_when_workers_and_the_dispatcher_are_killed(
    baton: Cluster, kind: str
) -> None:
    name = {"key": "k", "type": "sleep"}[kind]
    baton.client.patience_seconds = 20.0
    baton.client.set_limit(**{kind: name}, max_running=MOST)
    task = Submission("sleep", payload=SLEEP, limit_key="k")
    ids = baton.client.submit_many([task] * 24)["task_ids"]
    workers = [baton.start_worker(f"worker-{n}", "--slots", "2") for n in range(3)]
    ended(baton, ids[0])

    workers[0].kill()
    ended(baton, ids[6])
    baton.dispatcher.kill()
    baton.dispatcher.wait()
    baton.start_dispatcher()
    for task_id in ids:
        ended(baton, task_id)

    attempts = baton.client.history(limit=500)["attempts"]
    (limit,) = baton.client.limits()
    assert {a["task_id"] for a in attempts if a["outcome"] == "completed"} == set(ids)
    assert at_once(attempts) <= MOST
    assert limit["running"] == 0


def test_a_hundred_submissions_of_one_key_make_one_task_though_the_dispatcher_is_killed(baton: Cluster) -> None:
    def submit() -> int:
        client = DispatcherClient(baton.url, patience_seconds=20.0)
        return int(client.submit(Submission("noop", unique_key="k"), idempotency_key=None)["task_id"])

    first = baton.client.submit(Submission("noop", unique_key="k"))["task_id"]
    calls = [Call(submit) for _ in range(50)]
    baton.dispatcher.kill()
    baton.dispatcher.wait()
    baton.start_dispatcher()
    calls += [Call(submit) for _ in range(50)]
    answers = [answer for call in calls if (answer := _answer(call)) is not None]

    assert set(answers) == {first}
    assert len(answers) >= 50
    assert baton.client.tasks()["tasks"][0]["task_id"] == first


def _answer(call: Call) -> int | None:
    """What a submission was answered; None: the dispatcher died under it."""
    try:
        return int(call.result(30.0))
    except Exception:
        return None


def test_retries_are_counted_right_over_restarts(baton: Cluster) -> None:
    baton.client.patience_seconds = 20.0
    backoff = msgspec.json.decode(b'{"kind": "fixed", "base_seconds": 0.01, "jitter": false}', type=Any)
    task_id = baton.client.submit(
        msgspec.convert({"type": "noop", "max_retries": 3, "backoff": backoff}, Submission)
    )["task_id"]
    info = WorkerInfo("w1", "w1")
    for _ in range(4):
        (grant,) = baton.client.exchange(Exchange(info, want=1, wait_seconds=10.0)).tasks
        report = Result(
            task_id=grant.task_id,
            attempt=grant.attempt,
            lease_id=grant.lease_id,
            outcome="failed",
            error=msgspec.Raw(b'{"type": "ValueError", "message": "no luck"}'),
        )
        assert baton.client.exchange(Exchange(info, results=[report])).lost == []
        baton.dispatcher.kill()
        baton.dispatcher.wait()
        baton.start_dispatcher()
        assert baton.client.exchange(Exchange(info, results=[report])).lost == []  # as if the answer had been lost

    task = baton.client.task(task_id)
    attempts = baton.client.attempts(task_id)
    assert (task["status"], task["failures"], task["attempt"], task["crashes"]) == ("failed", 4, 4, 0)
    assert [a["outcome"] for a in attempts] == ["failed"] * 4
    assert all(later["attempt"] == earlier["attempt"] + 1 for earlier, later in pairwise(attempts))
