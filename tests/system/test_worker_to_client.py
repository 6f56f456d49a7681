"""Both halves together: what a worker reports of logs, stalls, queues and pauses, and what clients see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from analysis.cluster import Cluster, cluster
from shared.protocol import Submission
from tests.support.stores import Store
from tests.system.bench import ODD
from tests.system.support import ended, submit


@pytest.fixture
def baton(store: Store, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, TASK_MODULES=ODD, DATABASE_URL=store.url) as made:
        yield made
    store.check()


def lines(baton: Cluster, task_id: int) -> list[tuple[str, str]]:
    return [(line["level"], line["message"]) for line in baton.client.logs(task_id)["lines"]]


def test_what_a_task_prints_can_be_read_while_it_runs(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    (task_id,) = submit(baton, "odd.say_and_wait", words="so far")

    baton.wait(lambda: lines(baton, task_id), "a line")

    assert lines(baton, task_id) == [("info", "so far")]
    assert baton.client.task(task_id)["status"] == "in-progress"
    baton.client.cancel(task_id)


def test_every_line_is_there_when_a_task_has_ended(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    (quiet,) = submit(baton, "noop")
    (task_id,) = submit(baton, "odd.say", words="hello", level="error")
    (loud,) = submit(baton, "odd.chatter", lines=5000)

    for each in (quiet, task_id, loud):
        ended(baton, each)

    assert [text for _, text in lines(baton, task_id)] == [
        f"{who} hello" for who in ("python", "log", "raw", "program", "half")
    ]
    assert ("error", "log hello") in lines(baton, task_id)
    assert [text for _, text in lines(baton, loud)] == [str(number) for number in range(4000, 5000)]
    assert lines(baton, quiet) == []


def test_a_hung_task_ends_as_a_dead_letter_with_its_last_words(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    payload = msgspec.Raw(b'{"words": "I wait"}')
    submission = Submission("odd.say_and_wait", payload=payload, stall_seconds=1.0, max_retries=0)

    task = ended(baton, baton.client.submit(submission)["task_id"])

    assert (task["status"], task["error"]["type"]) == ("failed", "Stalled")
    assert lines(baton, task["task_id"]) == [("info", "I wait")]


def test_a_worker_serves_its_queues_only(baton: Cluster) -> None:
    baton.start_worker("worker-1", "--queues", "fast,default")
    left = baton.client.submit(Submission("noop", queue="slow"))["task_id"]
    taken = baton.client.submit(Submission("noop", queue="fast"))["task_id"]

    ended(baton, taken)

    assert baton.client.task(left)["status"] == "pending"


def test_a_paused_worker_finishes_what_it_runs_and_starts_nothing_until_resumed(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    (running,) = submit(baton, "odd.deaf", seconds=1.0)
    baton.wait(lambda: baton.client.task(running)["status"] == "in-progress", "it to run")
    baton.client.pause("worker", "worker-1")
    (waiting,) = submit(baton, "noop")

    finished = ended(baton, running)
    beat = baton.client.workers()[0]["last_heartbeat_at"]
    baton.wait(lambda: baton.client.workers()[0]["last_heartbeat_at"] > beat, "another heartbeat")
    while_paused = baton.client.task(waiting)["status"]
    baton.client.resume("worker", "worker-1")

    assert (finished["status"], while_paused) == ("completed", "pending")
    assert ended(baton, waiting)["status"] == "completed"
