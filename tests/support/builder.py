"""Builder: makes tasks in any status, and plays their workers, through the real ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shared.backoff import Backoff
from shared.lifecycle import TaskStatus
from shared.operating import LimitSetting
from shared.protocol import (
    Checkpoint,
    Exchange,
    ExchangeAnswer,
    Grant,
    Holding,
    Result,
    Revival,
    Submission,
    TaskView,
    WorkerInfo,
)
from tests.support import messages
from tests.support.dispatcher import Dispatcher

STEADY = Backoff(kind="fixed", base_seconds=10.0, jitter=False)  # pauses that a test can count on


class Builder:
    """Short words for what clients and workers do. Workers are named by their id."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    # --- clients

    def submit(self, type: str = "noop", payload: Any = None, **fields: Any) -> int:
        """A new task with steady pauses; returns its id."""
        return self.submit_many(1, type, payload, **fields)[0]

    def submit_many(self, count: int, type: str = "noop", payload: Any = None, **fields: Any) -> list[int]:
        body = messages.raw({} if payload is None else payload)
        submission = Submission(type, body, **{"backoff": STEADY, **fields})
        return self.dispatcher.ledger.submit([submission] * count).ids

    def view(self, task_id: int) -> TaskView:
        return self.dispatcher.records.task(task_id)

    def status(self, task_id: int) -> str:
        return self.view(task_id).status

    def counters(self, task_id: int) -> tuple[int, int, int, int]:
        """attempt, failures, crashes, releases."""
        view = self.view(task_id)
        return view.attempt, view.failures, view.crashes, view.releases

    def outcomes(self, task_id: int) -> list[str | None]:
        return [attempt.outcome for attempt in self.dispatcher.records.attempts(task_id)]

    def cancel(self, task_id: int) -> None:
        self.dispatcher.ledger.cancel(task_id)

    def revive(self, task_id: int, **fields: Any) -> None:
        self.dispatcher.ledger.revive(task_id, Revival(**fields))

    # --- operators

    def limit(self, **setting: Any) -> None:
        self.dispatcher.ledger.limits.put(LimitSetting(**setting))

    def lift(self, kind: Any, name: str) -> None:
        self.dispatcher.ledger.limits.remove(kind, name)

    def pause(self, kind: Any, name: str, paused: bool = True) -> None:
        self.dispatcher.ledger.limits.pause(kind, name, paused)

    def finish(self, *grants: Grant, worker: str = "w1") -> None:
        self.report(*(messages.completed(grant) for grant in grants), worker=worker)

    # --- workers

    def say(
        self, worker: str = "w1", state: Any = "running", types: Any = None, queues: Any = None, **parts: Any
    ) -> ExchangeAnswer:
        """A worker's message."""
        info = WorkerInfo(worker, name=worker, types=types, queues=queues, state=state)
        return self.dispatcher.ledger.exchange(Exchange(info, **parts))

    def claim(self, worker: str = "w1", want: int = 1, **parts: Any) -> list[Grant]:
        return self.say(worker, want=want, **parts).tasks

    def claim_one(self, worker: str = "w1", **parts: Any) -> Grant:
        (grant,) = self.claim(worker, **parts)
        return grant

    def start(self, worker: str = "w1", **fields: Any) -> Grant:
        """A task that this worker has just begun, alone."""
        task_id = self.submit(**fields)
        grant = self.claim_one(worker)
        assert grant.task_id == task_id, "an older task was in the way"
        return grant

    def report(self, *results: Result, worker: str = "w1") -> ExchangeAnswer:
        return self.say(worker, results=list(results))

    def save(self, *checkpoints: Checkpoint, worker: str = "w1") -> ExchangeAnswer:
        return self.say(worker, checkpoints=list(checkpoints))

    def hold(self, *entries: Holding, worker: str = "w1") -> ExchangeAnswer:
        """A heartbeat with a complete list."""
        return self.say(worker, holding=list(entries))

    # --- time

    def advance(self, seconds: float) -> None:
        self.dispatcher.clock.advance(seconds)

    def fall_silent(self, others: Sequence[str] = ()) -> int:
        """Every worker but `others` is silent for too long; returns how many tasks are taken back."""
        self.advance(self.dispatcher.settings.heartbeat_timeout_seconds + 0.1)
        for worker in others:
            self.say(worker)
        return self.dispatcher.ledger.reclaim_silent()

    # --- a task in any status

    def in_status(self, status: TaskStatus, **fields: Any) -> tuple[int, Grant | None]:
        """A task in that status and its latest grant."""
        return self._recipes()[status](fields)

    def _recipes(self) -> dict[TaskStatus, Callable[[dict[str, Any]], tuple[int, Grant | None]]]:
        return {
            TaskStatus.BLOCKED: self._blocked,
            TaskStatus.PENDING: self._revived,
            TaskStatus.SCHEDULED: lambda fields: self._after(messages.failed, fields),
            TaskStatus.IN_PROGRESS: lambda fields: self._after(None, fields),
            TaskStatus.COMPLETED: lambda fields: self._after(messages.completed, fields),
            TaskStatus.FAILED: lambda fields: self._after(messages.failed, {**fields, "max_retries": 0}),
            TaskStatus.CANCELLED: self._cancelled,
        }

    def _after(self, report: Callable[[Grant], Result] | None, fields: dict[str, Any]) -> tuple[int, Grant]:
        """Started with a checkpoint and some output, then reported on."""
        grant = self.start("maker", **fields)
        self.save(messages.checkpoint(grant, 1, {"at": 1}, output=("a", "b"), progress=0.5), worker="maker")
        if report is not None:
            self.report(report(grant), worker="maker")
        return grant.task_id, grant

    def _cancelled(self, fields: dict[str, Any]) -> tuple[int, Grant]:
        task_id, grant = self._after(None, fields)
        self.cancel(task_id)
        return task_id, grant

    def _blocked(self, fields: dict[str, Any]) -> tuple[int, Grant]:
        """It ran when its parent had been cancelled; now both live again, and the parent waits for a third."""
        far = self.submit(delay_seconds=1e6)
        parent = self.submit(depends_on=[far])
        self.cancel(parent)
        task_id, grant = self._cancelled({**fields, "depends_on": [parent], "run_if": "all_finished"})
        self.revive(parent)
        self.revive(task_id)
        return task_id, grant

    def _revived(self, fields: dict[str, Any]) -> tuple[int, Grant]:
        task_id, grant = self._cancelled(fields)
        self.revive(task_id)
        return task_id, grant

    def reclaimed(self, status: TaskStatus) -> tuple[int, Grant]:
        """A task that was taken back from a silent worker: pending the first time, then scheduled."""
        grant = self.start("maker")
        self.fall_silent()
        while self.status(grant.task_id) != status:
            grant = self.claim_one("maker")
            self.fall_silent()
        return grant.task_id, grant
