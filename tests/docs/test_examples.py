"""examples/: the task of one's own gives the known answer, undisturbed and interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from analysis.cluster import cluster
from examples.collatz_task import longest_chain
from shared.protocol import Checkpoint, Grant, GrantedCheckpoint, Submission
from tasks.context import TaskContext

# The longest chain below 10^4: On-Line Encyclopedia of Integer Sequences, A006877 and A006878.
BELOW_10_000 = {"start": 6171, "steps": 261}


def test_the_example_gives_the_known_answer() -> None:
    assert longest_chain(TaskContext(), below=10_000) == BELOW_10_000


def test_the_example_goes_on_from_every_checkpoint() -> None:
    sent: list[Checkpoint] = []
    longest_chain(TaskContext(send=sent.append, interval_seconds=0.0), below=10_000)

    for checkpoint in sent:
        resumed = longest_chain(TaskContext(_grant_after(checkpoint)), below=10_000)
        assert resumed == BELOW_10_000
    assert len(sent) >= 9


def test_a_worker_runs_it(tmp_path: Path) -> None:
    with cluster(tmp_path, TASK_MODULES="examples/collatz_task.py") as baton:
        baton.start_worker("worker-1")
        submission = Submission("collatz", payload=msgspec.Raw(b'{"below": 10000}'))
        task_id = baton.client.submit(submission)["task_id"]

        def ended() -> dict[str, Any] | None:
            task = baton.client.task(task_id, wait_seconds=1.0)
            return task if task["finished_at"] else None

        task = baton.wait(ended, "the task to end")
    assert (task["status"], task["result"]) == ("completed", BELOW_10_000)


def _grant_after(checkpoint: Checkpoint) -> Grant:
    """The next attempt, as the dispatcher would grant it."""
    known = GrantedCheckpoint(checkpoint.seq, checkpoint.state, checkpoint.progress, checkpoint.elapsed_seconds, 0)
    return Grant(1, 2, "lease", 100.0, "collatz", checkpoint=known)
