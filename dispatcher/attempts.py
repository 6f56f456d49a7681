"""How one attempt ends: its row in the history, and the account of work useful, saved and lost.

Work is counted in seconds. When an attempt does not complete, what its checkpoints hold is saved,
the rest of its time is lost; a completed task's seconds, resumed ones included, are useful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dispatcher.transaction import Transaction, by_type
from shared import backoff
from shared.backoff import Backoff
from shared.lifecycle import ENDED, Outcome, TaskStatus
from shared.protocol import Result

_EVENT = {Outcome.FAILED: "fail", Outcome.CRASHED: "crash", Outcome.RECLAIMED: "reclaim"}


class Held(NamedTuple):
    """A task under its present grant, as the statement `held` answers it."""

    task_id: int
    attempt: int
    lease_id: str
    type: str
    worker_key: int
    started_at: float
    failures: int
    crashes: int
    releases: int
    alone: int
    running: int
    max_retries: int | None
    crash_limit: int | None
    backoff: str | None
    resumed_seq: int | None
    resumed_seconds: float | None
    checkpoint_seq: int | None
    saved_seconds: float | None

    @property
    def backoff_policy(self) -> Backoff:
        """The task's own pauses, or the default ones."""
        return backoff.DEFAULT if self.backoff is None else msgspec.json.decode(self.backoff, type=Backoff)

    @property
    def saved_here(self) -> float:
        """Seconds of this attempt that its checkpoints hold."""
        return max(0.0, (self.saved_seconds or 0.0) - (self.resumed_seconds or 0.0))


def find(tx: Transaction, task_id: int, attempt: int, lease_id: str) -> Held | None:
    """The task under exactly this grant, or None: the grant is lost."""
    row = tx.held(task_id=task_id, attempt=attempt, lease_id=lease_id)
    return None if row is None else Held(*row)


def held(tx: Transaction, task_id: int, attempt: int, lease_id: str) -> Held:
    """As `find`, for a grant that this very transaction has just seen."""
    return Held(*tx.held(task_id=task_id, attempt=attempt, lease_id=lease_id))


def end(
    tx: Transaction,
    held: Held,
    outcome: Outcome,
    status: TaskStatus,
    report: Result | None = None,
    error: bytes | None = None,
    *,
    failures: int | None = None,
    crashes: int | None = None,
    releases: int | None = None,
    run_at: float | None = None,
    alone: bool = False,
    worker: str = "",
) -> None:
    """End an attempt that did not complete; the task goes on as `status`. Counters None: unchanged."""
    fence = {"task_id": held.task_id, "attempt": held.attempt, "lease_id": held.lease_id}
    tx.end_attempt(
        **fence,
        status=status,
        run_at=run_at,
        finished_at=tx.now if status in ENDED else None,
        failures=held.failures if failures is None else failures,
        crashes=held.crashes if crashes is None else crashes,
        releases=held.releases if releases is None else releases,
        alone=int(alone),
    )
    elapsed = _elapsed(tx, held, report)
    lost = max(0.0, elapsed - held.saved_here)
    tx.record_attempt(
        task_id=[held.task_id],
        attempt=held.attempt,
        lease_id=held.lease_id,
        worker_key=held.worker_key,
        outcome=outcome,
        started_at=held.started_at,
        now=tx.now,
        elapsed_seconds=elapsed,
        resumed_seq=held.resumed_seq,
        lost_seconds=lost,
        counted=int(outcome is Outcome.RECLAIMED and crashes is not None),
        cached=0,
        error=error,
    )
    if status in ENDED:
        tx.record_result(task_id=[held.task_id], attempt=held.attempt, result=None, error=error)
    if run_at is not None:
        tx.due(run_at)
    tx.work["saved"] += held.saved_here
    tx.work["lost"] += lost
    tx.moved(held.type, TaskStatus.IN_PROGRESS, status, [held.task_id])
    if outcome in _EVENT:
        facts = {"task_id": held.task_id, "attempt": held.attempt, "next": str(status), "worker": worker}
        tx.log(_EVENT[outcome], **facts, reason=_message(error))


def _elapsed(tx: Transaction, held: Held, report: Result | None) -> float:
    """What the worker measured, or the time up to the last word from it."""
    if report is not None:
        return report.elapsed_seconds or 0.0
    if not (held.running or held.alone):
        return 0.0
    heard_at: float = tx.last_heard(worker_key=held.worker_key) or held.started_at
    return max(0.0, min(heard_at, tx.now) - held.started_at)


def _message(error: bytes | None) -> str:
    body = msgspec.json.decode(error or b"null")
    return str(body.get("message", body)) if isinstance(body, dict) else str(body)


def record_completed(tx: Transaction, won: Sequence[tuple[Any, ...]], reports: Mapping[int, Result]) -> None:
    """History and results of tasks just completed: rows as the statement `complete` answers them."""
    ids, numbers, types, worker_keys, started_ats, resumed_seqs, resumed, checkpoint_seqs = (
        list(column) for column in zip(*won, strict=True)
    )
    winners = [reports[task_id] for task_id in ids]
    elapsed = [report.elapsed_seconds or 0.0 for report in winners]
    bodies = [bytes(report.result) for report in winners]
    tx.record_attempt(
        task_id=ids,
        attempt=numbers,
        lease_id=[report.lease_id for report in winners],
        worker_key=worker_keys,
        outcome=Outcome.COMPLETED,
        started_at=started_ats,
        now=tx.now,
        elapsed_seconds=elapsed,
        resumed_seq=resumed_seqs,
        lost_seconds=None,
        counted=0,
        cached=[report.cached for report in winners],
        error=None,
    )
    results = [None if body == b"null" else body for body in bodies]
    tx.record_result(task_id=ids, attempt=numbers, result=results, error=None)
    remembered = [i for i, seq in zip(ids, checkpoint_seqs, strict=True) if seq is not None]
    if remembered:
        tx.drop_checkpoint(task_id=remembered)
    tx.work["useful"] += sum(elapsed) + sum(filter(None, resumed))
    for type, those in by_type(zip(types, ids, strict=True)).items():
        tx.moved(type, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED, those)


def is_repeat(tx: Transaction, report: Result) -> bool:
    """Is this the report that ended the attempt, come again? Then it gets the answer of the first."""
    row = tx.attempt_end(task_id=report.task_id, attempt=report.attempt)
    if row is None:
        return False
    lease_id, outcome, error, result = row
    if (lease_id, outcome) != (report.lease_id, report.outcome):
        return False
    if outcome == Outcome.COMPLETED:
        return bool((result or b"null") == bytes(report.result))
    return bool(outcome == Outcome.RELEASED or error == bytes(report.error))
