"""One batch of tasks on a cluster of our own: submitted, followed, its history read back, its answers checked.

All times in a BatchRun are seconds since the batch was submitted, by the dispatcher's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, field

from analysis.cluster import Cluster
from analysis.workload import Workload
from shared import errors
from shared.follow import Follower
from shared.lifecycle import TaskStatus

_LOOK_SECONDS: Final = 0.25  # smooth for the eye, nothing for the dispatcher
_SAMPLE_SECONDS: Final = 0.1  # one checkpoint a second: none is missed
_GIVE_UP_SECONDS: Final = 600.0  # a batch takes seconds; this only ends what hangs


class Attempt(Struct):
    """One attempt as the API tells it, times moved to the start of the batch."""

    attempt: int
    worker: str
    outcome: str | None
    started_at: float
    finished_at: float | None
    elapsed_seconds: float | None
    resumed_seq: int | None
    lost_seconds: float | None


class Save(Struct):
    """A checkpoint seen during the run. `elapsed_seconds`: the work behind it over all attempts."""

    attempt: int
    seq: int
    saved_at: float
    elapsed_seconds: float


class TaskRun(Struct):
    """What became of a task: its attempts, and those of its checkpoints that were seen."""

    task_id: int
    attempts: list[Attempt]
    saves: list[Save] = field(default_factory=list)


class BatchRun(Struct):
    """What became of a batch. `wrong`: a sentence for each answer that is not right."""

    seconds: float
    tasks: list[TaskRun]
    wrong: list[str]


class Batch:
    """Submits a workload and follows it. `share_done` counts the progress of running tasks."""

    def __init__(self, baton: Cluster, workload: Workload, sampling: bool = False) -> None:
        self._baton = baton
        self._client = baton.client
        self._workload = workload
        self._sampling = sampling
        self._saves: dict[int, dict[int, Save]] = {}
        ids = self._client.submit_many(workload.submissions())["task_ids"]
        self._payloads = dict(zip(ids, workload.payloads, strict=True))
        self._weights: dict[int, float] = dict(zip(ids, workload.weights, strict=True))
        self.follower = Follower(self._client, ids)
        self._began = _seconds(self._client.task(ids[0])["created_at"])

    def since_start(self, wall: float) -> float:
        """A moment of the wall clock (Unix seconds) as seconds since the batch was submitted."""
        return wall - self._began

    @property
    def share_done(self) -> float:
        """How much of the work is done, 0 to 1, as of the last look."""
        tasks = self.follower.tasks.items()
        done = sum(self._weights[task_id] * self._progress(task_id, task) for task_id, task in tasks)
        return done / sum(self._weights.values())

    def _progress(self, task_id: int, task: dict[str, Any]) -> float:
        """A task's progress; one that takes a known time tells it more finely than once a second."""
        if self._workload.is_timed and task["status"] == TaskStatus.IN_PROGRESS:
            return min(1.0, float(task["elapsed_seconds"]) / self._weights[task_id])
        return float(task["progress"] or 0.0)

    def running(self) -> list[dict[str, Any]]:
        """The views of the tasks that were in progress at the last look."""
        views = self.follower.tasks.values()
        return [view for view in views if view["status"] == TaskStatus.IN_PROGRESS]

    def has_checkpoint(self, task_id: int) -> bool:
        """Was a checkpoint of this task seen?"""
        return task_id in self._saves

    def looks(self) -> Iterator[None]:
        """Look until all tasks have ended; yields after each look."""
        give_up_at = time.monotonic() + _GIVE_UP_SECONDS
        while self.follower.open:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{len(self.follower.open)} tasks did not end in {_GIVE_UP_SECONDS:g} s")
            if all(worker.poll() is not None for worker in self._baton.workers.values()):
                name = next(iter(self._baton.workers))
                last_words = self._baton.log(name)[-2000:]
                raise RuntimeError(f"no worker is left; the last words of {name}:\n{last_words}")
            self.follower.look()
            if self._sampling:
                for view in self.running():
                    self._sample(view["task_id"])
            yield
            time.sleep(_SAMPLE_SECONDS if self._sampling else _LOOK_SECONDS)

    def run(self, on_look: Callable[[float], object]) -> BatchRun:
        """Follow to the end, telling how much is done."""
        for _ in self.looks():
            on_look(self.share_done)
        return self.outcome()

    def outcome(self) -> BatchRun:
        """The history of the batch, once all its tasks have ended."""
        views = self.follower.tasks
        tasks = [self._task_run(task_id) for task_id in self._payloads]
        seconds = max(_seconds(view["finished_at"]) for view in views.values()) - self._began
        checked = (self._workload.wrong(body, views[task_id]) for task_id, body in self._payloads.items())
        return BatchRun(seconds, tasks, [finding for finding in checked if finding])

    def _task_run(self, task_id: int) -> TaskRun:
        saves = sorted(self._saves.get(task_id, {}).values(), key=lambda save: save.seq)
        return TaskRun(task_id, [self._attempt(a) for a in self._client.attempts(task_id)], saves)

    def _attempt(self, view: dict[str, Any]) -> Attempt:
        finished_at = view["finished_at"] and _seconds(view["finished_at"]) - self._began
        return Attempt(
            view["attempt"],
            view["worker"] or "",
            view["outcome"],
            _seconds(view["started_at"]) - self._began,
            finished_at,
            view["elapsed_seconds"],
            view["resumed_seq"],
            view["lost_seconds"],
        )

    def _sample(self, task_id: int) -> None:
        try:
            seen = self._client.checkpoint(task_id)
        except errors.NotFound:  # none yet, or the task has just completed
            return
        saved_at = _seconds(seen["saved_at"]) - self._began
        save = Save(seen["attempt"], seen["seq"], saved_at, seen["elapsed_seconds"])
        self._saves.setdefault(task_id, {}).setdefault(save.seq, save)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
