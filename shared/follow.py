"""Follows a set of tasks until they end, in few requests: used by add_task.py and analysis."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from shared.client import DispatcherClient
from shared.lifecycle import ENDED, TaskStatus
from shared.protocol import PAGE_MAX

LOOK_SECONDS = 0.25  # between looks: smooth for the eye, nothing for the dispatcher


class Follower:
    """The latest view of each task in `tasks`, by id; `open` are the ids that have not ended."""

    def __init__(self, client: DispatcherClient, task_ids: Sequence[int]) -> None:
        self.client = client
        self.tasks: dict[int, dict[str, Any]] = {}
        self.open = set(task_ids)

    def look(self) -> float:
        """Fetch every task that has not ended, a page of neighbours at a time; returns the seconds it took."""
        began_at = time.monotonic()
        remaining = set(self.open)
        while remaining:
            newest = max(remaining)
            page = self.client.tasks(after=newest + 1, limit=min(PAGE_MAX, len(remaining)))["tasks"]
            seen = {task["task_id"]: task for task in page}
            for task_id in remaining & seen.keys():
                self.note(seen[task_id])
            remaining -= seen.keys()
            if newest in remaining:  # gone: removed by age while we looked
                remaining.discard(newest)
                self.open.discard(newest)
        return time.monotonic() - began_at

    def until_ended(self, timeout_seconds: float | None = None) -> Iterator[None]:
        """Look again and again; yields after each look, stops when all have ended or time is up."""
        give_up_at = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        took_seconds = self.look()
        yield
        while self.open and time.monotonic() < give_up_at:
            if len(self.open) == 1:  # one task: the dispatcher tells the moment it ends
                (task_id,) = self.open
                self.note(self.client.task(task_id, wait_seconds=LOOK_SECONDS))
            else:
                pause = max(LOOK_SECONDS, took_seconds)  # of a hundred thousand tasks a look takes seconds
                time.sleep(max(0.0, min(pause, give_up_at - time.monotonic())))
                took_seconds = self.look()
            yield

    def note(self, task: dict[str, Any]) -> None:
        """Follow this task, which looks like that now."""
        self.tasks[task["task_id"]] = task
        if task["status"] in ENDED:
            self.open.discard(task["task_id"])
        else:
            self.open.add(task["task_id"])

    def ended_badly(self) -> list[int]:
        """Ids of the tasks that failed or were cancelled."""
        bad = (TaskStatus.FAILED, TaskStatus.CANCELLED)
        return [task_id for task_id, task in sorted(self.tasks.items()) if task["status"] in bad]
