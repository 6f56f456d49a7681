"""What a grant may do: one method per verb of workers, each inside the transaction it is given.

Every write on behalf of a grant is fenced by task_id, attempt and lease_id together with
status = 'in-progress'; one that does not match changes nothing and the grant is reported lost.
Their order within a message is in ledger.py, how grants come about in claims.py, how an attempt ends
and is recorded in attempts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec

from dispatcher import attempts, checks, limits, logs
from dispatcher.attempts import Held, Reports
from dispatcher.registry import Registry, Worker
from dispatcher.transaction import MUST_BE_ALONE, Transaction, columns, encoded
from shared.lifecycle import Outcome, TaskStatus
from shared.protocol import (
    CRASH_LIMIT_DEFAULT,
    MAX_RETRIES_DEFAULT,
    AttemptLog,
    Checkpoint,
    CheckpointBody,
    ExchangeAnswer,
    Holding,
    Refusal,
    Result,
    TaskAttempt,
)
from shared.settings import Settings

_encode = msgspec.json.Encoder().encode


class Leases:
    """The rules of grants. `settings` gives lease and heartbeat times."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry

    def renew(
        self, tx: Transaction, worker: Worker, holding: Sequence[Holding], receiving: bool, answer: ExchangeAnswer
    ) -> None:
        """Let the leases run on that a worker's complete list names; reclaim what two lists lacked.

        While it is `receiving` an answer, what its list lacks may be in that: none is missing yet.
        """
        listed = {(task_id, entry.lease_id): entry for entry in holding for task_id in _named(entry)}
        renewed: list[tuple[Any, ...]] = []
        missing: list[tuple[Any, ...]] = []
        for row in tx.held_by(worker_key=worker.key):
            task_id, attempt, lease_id, running, missing_since, *_ = row
            entry = listed.get((task_id, lease_id))
            if entry is not None and entry.attempt in (None, attempt):
                del listed[task_id, lease_id]
                renewed += self._news(tx, row, entry)
            elif receiving:
                renewed += [] if missing_since is None else [(task_id, attempt, lease_id, running, None, None)]
            elif missing_since is None:
                missing.append((task_id, attempt, lease_id))
            elif tx.lease_now - missing_since >= self.settings.heartbeat_interval_seconds * 0.9:
                held = attempts.held(tx, task_id, attempt, lease_id)
                self.reclaim(tx, held, worker.name, "its worker no longer holds it", counts=False)
        if renewed:
            names = ("task_id", "attempt", "lease_id", "running", "progress", "message")
            tx.renew(lease_expires_at=tx.lease_now + self.settings.lease_seconds, **columns(names, renewed))
        if missing:
            tx.miss(lease_now=tx.lease_now, **columns(("task_id", "attempt", "lease_id"), missing))
        if listed:
            self._look_for(tx, worker, listed, answer)

    def _news(self, tx: Transaction, row: tuple[Any, ...], entry: Holding) -> list[tuple[Any, ...]]:
        """What must be written of a listed grant: nothing while its lease is fresh and it says nothing new."""
        task_id, attempt, lease_id, running, missing_since, lease_expires_at, *told = row
        runs = _runs(entry, task_id)
        said = [entry.progress, entry.message]
        worn = lease_expires_at - tx.lease_now < self.settings.lease_seconds / 2
        speaks = said != [None, None] and said != told
        if worn or speaks or runs != bool(running) or missing_since is not None:
            return [(task_id, attempt, lease_id, int(runs), *said)]
        return []

    def _look_for(
        self, tx: Transaction, worker: Worker, listed: dict[tuple[int, str], Holding], answer: ExchangeAnswer
    ) -> None:
        """Listed grants that this worker does not hold. Most have just ended by its other conversation."""
        ended = tx.ended_grants(rows=encoded(list(listed)))
        ends = {(task_id, lease_id): (attempt, outcome) for task_id, lease_id, attempt, outcome in ended}
        for (task_id, lease_id), entry in listed.items():
            attempt, outcome = ends.get((task_id, lease_id), (None, None))
            if attempt is not None and entry.attempt in (None, attempt):
                over = answer.cancel if outcome == Outcome.CANCELLED else answer.lost
                over.append(TaskAttempt(task_id, attempt))
            else:
                self._find(tx, worker, task_id, entry, answer)

    def _find(self, tx: Transaction, worker: Worker, task_id: int, entry: Holding, answer: ExchangeAnswer) -> None:
        """A listed grant that has not ended and that this worker does not hold: handed over, readopted or lost."""
        attempt = entry.attempt or tx.current_attempt(task_id=task_id, lease_id=entry.lease_id) or 0
        grant = {"task_id": task_id, "attempt": attempt, "lease_id": entry.lease_id}
        expires_at = tx.lease_now + self.settings.lease_seconds
        if tx.hand_over(worker_key=worker.key, lease_expires_at=expires_at, **grant):
            return
        if self.readopt(tx, worker, task_id, attempt, entry.lease_id, running=_runs(entry, task_id)):
            return
        answer.lost.append(TaskAttempt(task_id, attempt))

    def _name_end(
        self, tx: Transaction, task_id: int, attempt: int, lease_id: str, answer: ExchangeAnswer
    ) -> None:
        """Tell a worker that a grant of its is over: the task was cancelled, or the grant is lost."""
        end = tx.attempt_end(task_id=task_id, attempt=attempt)
        cancelled = end is not None and end[:2] == (lease_id, Outcome.CANCELLED)
        (answer.cancel if cancelled else answer.lost).append(TaskAttempt(task_id, attempt))

    def readopt(
        self, tx: Transaction, worker: Worker, task_id: int, attempt: int, lease_id: str, *, running: bool
    ) -> bool:
        """A reclaimed grant goes on as if nothing had been, unless somebody claimed the task since.

        Nor if its place under a limit has gone to another: then two of them would run.
        """
        before = tx.task_state(task_id=task_id)
        if before is None or not limits.may_readopt(tx, before[1], before[5]):
            return False
        readopted = tx.readopt(
            task_id=task_id,
            attempt=attempt,
            lease_id=lease_id,
            worker_key=worker.key,
            lease_expires_at=tx.lease_now + self.settings.lease_seconds,
            running=int(running),
            status=before[0],
        )
        if readopted is None:
            return False
        lane, saved_here = readopted
        (lost,) = tx.forget_reclaim(task_id=task_id, attempt=attempt, lease_id=lease_id)
        tx.work["lost"] -= lost or 0
        tx.work["saved"] -= max(0.0, saved_here)
        tx.moved(lane, TaskStatus(before[0]), TaskStatus.IN_PROGRESS, [task_id], before[5])
        tx.log("readopt", task_id=task_id, attempt=attempt, worker=worker.name)
        return True

    def checkpoint(self, tx: Transaction, report: Checkpoint, answer: ExchangeAnswer) -> None:
        """Keep a task's newest memory and its new output, in one; only a greater seq is stored."""
        refusal = checks.checkpoint(report)
        if refusal is not None:
            answer.refused.append(Refusal(report.task_id, report.attempt, refusal.body()["error"]))
            return
        stored = self._remember(tx, report.task_id, report.attempt, report.lease_id, report)
        if not stored and attempts.find(tx, report.task_id, report.attempt, report.lease_id) is None:
            self._name_end(tx, report.task_id, report.attempt, report.lease_id, answer)

    def _remember(self, tx: Transaction, task_id: int, attempt: int, lease_id: str, body: CheckpointBody) -> bool:
        fenced = tx.checkpoint(
            task_id=task_id,
            attempt=attempt,
            lease_id=lease_id,
            seq=body.seq,
            elapsed_seconds=body.elapsed_seconds,
            progress=body.progress,
        )
        if fenced is None:
            return False
        (chunks,) = tx.store_checkpoint(
            task_id=task_id,
            attempt=attempt,
            seq=body.seq,
            state=bytes(body.state),
            progress=body.progress,
            elapsed_seconds=body.elapsed_seconds,
            chunks=len(body.output),
            now=tx.now,
        )
        if body.output:
            indexes = range(chunks - len(body.output), chunks)
            tx.append_output(task_id=task_id, chunk_index=indexes, body=[bytes(chunk) for chunk in body.output])
        return True

    def log(self, tx: Transaction, report: AttemptLog, answer: ExchangeAnswer) -> None:
        """Keep new lines of an attempt that runs, the newest of them."""
        if attempts.find(tx, report.task_id, report.attempt, report.lease_id) is None:
            self._name_end(tx, report.task_id, report.attempt, report.lease_id, answer)
        else:
            logs.keep(tx, report.task_id, report.attempt, report.lines)

    # ------------------------------------------------------------------ how attempts end

    def end_attempts(self, tx: Transaction, reports: Reports, answer: ExchangeAnswer) -> None:
        """End the attempts of a message; the completed ones, often hundreds, go as one."""
        for report, checkpoint in reports.checkpoints:
            self._remember(tx, report.task_id, report.attempt, report.lease_id, checkpoint)
        for report in reports.logged:
            if attempts.find(tx, report.task_id, report.attempt, report.lease_id) is not None:
                logs.keep(tx, report.task_id, report.attempt, report.log)
        for report in reports.others:
            held = attempts.find(tx, report.task_id, report.attempt, report.lease_id)
            if held is not None:
                self._END[report.outcome](self, tx, held, report)
            elif not attempts.is_repeat(tx, report):
                answer.lost.append(TaskAttempt(report.task_id, report.attempt))
        if reports.completed:
            self.complete(tx, reports, answer)

    def complete(self, tx: Transaction, reports: Reports, answer: ExchangeAnswer) -> None:
        """End tasks with their results. A repeat of the report that won is no loss."""
        over = attempts.complete(tx, reports)
        unsettled = [r for r in reports.completed if (r.task_id, r.attempt) in over] if over else []
        for report in unsettled + reports.repeated:
            if not attempts.is_repeat(tx, report):
                answer.lost.append(TaskAttempt(report.task_id, report.attempt))

    def fail(self, tx: Transaction, held: Held, report: Result) -> None:
        """The task raised or overran its time: try again after a pause, or leave it as a dead letter."""
        failures = held.failures + 1
        limit = next(n for n in (held.max_retries, report.max_retries, MAX_RETRIES_DEFAULT) if n is not None)
        error = bytes(report.error)
        if report.retryable and failures <= limit:
            pause = report.retry_after_seconds
            pause = held.backoff_policy.delay_seconds(failures) if pause is None else pause
            attempts.end(
                tx,
                held,
                Outcome.FAILED,
                TaskStatus.SCHEDULED,
                report,
                error,
                failures=failures,
                run_at=tx.now + pause,
            )
        else:
            attempts.end(tx, held, Outcome.FAILED, TaskStatus.FAILED, report, error, failures=failures)

    def crash(self, tx: Transaction, held: Held, report: Result) -> None:
        """The process that ran it died: again at once, then after pauses, until crash_limit."""
        self._count_crash(tx, held, Outcome.CRASHED, report, bytes(report.error))

    def release(self, tx: Transaction, held: Held, report: Result) -> None:
        """A polite stop: pending again at once, nothing spent. One that has not begun is as suspect as before."""
        suspect = held.alone == MUST_BE_ALONE and not attempts.has_begun(held, report)
        releases = held.releases + 1
        attempts.end(tx, held, Outcome.RELEASED, TaskStatus.PENDING, report, releases=releases, alone=suspect)

    _END: ClassVar[dict[str, Callable[[Leases, Transaction, Held, Result], None]]] = {
        Outcome.FAILED: fail,
        Outcome.CRASHED: crash,
        Outcome.RELEASED: release,
    }

    def reclaim(self, tx: Transaction, held: Held, worker: str, reason: str, *, counts: bool) -> None:
        """Take a task back from a worker that went silent or lost it; it travels alone from now on."""
        error = _encode({"type": "WorkerLost", "message": f"{reason} ({worker})"})
        if counts:
            self._count_crash(tx, held, Outcome.RECLAIMED, None, error, worker)
        else:
            attempts.end(tx, held, Outcome.RECLAIMED, TaskStatus.PENDING, None, error, alone=True, worker=worker)

    def _count_crash(
        self,
        tx: Transaction,
        held: Held,
        outcome: Outcome,
        report: Result | None,
        error: bytes,
        worker: str = "",
    ) -> None:
        crashes = held.crashes + 1
        limit = CRASH_LIMIT_DEFAULT if held.crash_limit is None else held.crash_limit
        status, run_at = TaskStatus.PENDING, None
        if crashes >= limit:
            status = TaskStatus.FAILED
        elif crashes > 1:
            status, run_at = TaskStatus.SCHEDULED, tx.now + held.backoff_policy.delay_seconds(crashes - 1)
        attempts.end(
            tx,
            held,
            outcome,
            status,
            report,
            error,
            crashes=crashes,
            run_at=run_at,
            alone=True,
            worker=worker,
            # It died at some moment of the interval after its last heartbeat: on average in the middle.
            unheard_seconds=self.settings.heartbeat_interval_seconds / 2,
        )

    def reclaim_all(self, tx: Transaction, worker_key: int, name: str, reason: str, counts: bool) -> int:
        fences = tx.held_of_worker(worker_key=worker_key).fetchall()
        for task_id, attempt, lease_id in fences:
            held = attempts.held(tx, task_id, attempt, lease_id)
            self.reclaim(tx, held, name, reason, counts=counts and bool(held.running or held.alone))
        return len(fences)


def _named(entry: Holding) -> Sequence[int]:
    """The tasks that an entry of `holding` names."""
    if entry.task_ids is not None:
        return entry.task_ids
    return () if entry.task_id is None else (entry.task_id,)


def _runs(entry: Holding, task_id: int) -> bool:
    """Does the worker say that a process works on it now?"""
    return task_id in entry.running if isinstance(entry.running, list) else entry.running
