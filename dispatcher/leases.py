"""What a grant may do: one method per verb of workers, each inside the transaction it is given.

Every write on behalf of a grant is fenced by task_id, attempt and lease_id together with
status = 'in-progress'; one that does not match changes nothing and the grant is reported lost.
Their order within a message is in ledger.py, how an attempt ends and is recorded in attempts.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import chain, islice
from typing import Any, ClassVar, NamedTuple

import msgspec

from dispatcher import attempts, checks, parents
from dispatcher.attempts import Held, Reports
from dispatcher.registry import Registry, Worker
from dispatcher.submissions import HAS_PARENTS
from dispatcher.transaction import Transaction, by_type, rows
from shared.lifecycle import Outcome, TaskStatus
from shared.protocol import (
    BODY_BYTES_MAX,
    CRASH_LIMIT_DEFAULT,
    EMPTY_OBJECT,
    MAX_RETRIES_DEFAULT,
    WANT_MAX,
    Checkpoint,
    CheckpointBody,
    ExchangeAnswer,
    Grant,
    GrantedCheckpoint,
    Holding,
    Refusal,
    Result,
    TaskAttempt,
)
from shared.settings import Settings

ANSWER_BYTES = 8 * 1024 * 1024  # bodies in one claim's answer
_encode = msgspec.json.Encoder().encode


# A row of `claimable`: (-priority, task_id, attempt, alone, type, timeout_seconds, checkpoint_seq, payload, kin).
# It sorts by itself into the order of claims, since a task_id comes only once.
_Claimable = tuple[int, int, int, int, str, float | None, int | None, bytes | None, int | None]


class Claim(NamedTuple):
    """What one claim was granted: a lease over tasks, and where some of them resume from."""

    lease_id: str
    chosen: list[_Claimable]
    resume_points: dict[int, tuple[Any, ...]]

    children: list[int]  # those of them that have parents


class Leases:
    """The rules of grants. `settings` gives lease and heartbeat times."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry

    def claim(self, tx: Transaction, worker: Worker, want: int) -> Claim | None:
        """Grant the best eligible tasks, priority first, then the oldest; none to a worker that is gone.

        A task that travels alone ends the batch: it is granted by itself or left for the next claim.
        """
        worker_key = self.registry.claimant(tx, worker)
        if worker_key is None:
            return None
        want = min(want, WANT_MAX)
        served = worker.info.types
        waiting = {type for (type,) in tx.pending_types()} | tx.arrivals.keys()
        types = [type for type in waiting if served is None or type in served]
        queues = [tx.claimable(type=type, n=want) for type in types]
        chosen = _travelling(islice(merge(*queues), want) if len(queues) > 1 else chain(*queues))
        if not chosen:
            return None
        children = [candidate[1] for candidate in chosen if (candidate[8] or 0) & HAS_PARENTS]
        if children:
            chosen = chosen[: parents.fitting(tx, [candidate[1] for candidate in chosen], children, ANSWER_BYTES)]
        ids = [candidate[1] for candidate in chosen]
        lease_id = secrets.token_urlsafe(16)  # 128 random bits
        tx.claim(
            task_ids=_encode(ids).decode(),
            alone=int(len(chosen) == 1),
            worker_key=worker_key,
            lease_id=lease_id,
            lease_expires_at=tx.lease_now + self.settings.lease_seconds,
            now=tx.now,
        )
        moved = by_type((c[4], c[1]) for c in chosen) if len(types) > 1 else {types[0]: ids}
        for type, those in moved.items():
            tx.moved(type, TaskStatus.PENDING, TaskStatus.IN_PROGRESS, those)
        resumed = [candidate[1] for candidate in chosen if candidate[6] is not None]
        return Claim(lease_id, chosen, {i: tx.resume_point(task_id=i) for i in resumed}, children)

    def grants(self, claim: Claim) -> list[Grant]:
        """What the worker gets of a claim that is stored; made outside the writer's thread."""
        lease_id, seconds = claim.lease_id, self.settings.lease_seconds
        return [
            Grant(
                task_id,
                attempt + 1,
                lease_id,
                seconds,
                type,
                EMPTY_OBJECT if payload is None else msgspec.Raw(payload),
                timeout_seconds,
                None if checkpoint_seq is None else _resumed(claim.resume_points[task_id]),
            )
            for _, task_id, attempt, _, type, timeout_seconds, checkpoint_seq, payload, _ in claim.chosen
        ]

    def renew(self, tx: Transaction, worker: Worker, holding: Sequence[Holding], answer: ExchangeAnswer) -> None:
        """Let the leases run on that a worker's complete list names; reclaim what two lists lacked."""
        listed = {(task_id, entry.lease_id): entry for entry in holding for task_id in _named(entry)}
        renewed: list[tuple[Any, ...]] = []
        missing: list[tuple[Any, ...]] = []
        for row in tx.held_by(worker_key=worker.key):
            task_id, attempt, lease_id, _, missing_since, *_ = row
            entry = listed.get((task_id, lease_id))
            if entry is not None and entry.attempt in (None, attempt):
                del listed[task_id, lease_id]
                renewed += self._news(tx, row, entry)
            elif missing_since is None:
                missing.append((task_id, attempt, lease_id))
            elif tx.lease_now - missing_since >= self.settings.heartbeat_interval_seconds * 0.9:
                held = attempts.held(tx, task_id, attempt, lease_id)
                self.reclaim(tx, held, worker.name, "its worker no longer holds it", counts=False)
        if renewed:
            names = ("task_id", "attempt", "lease_id", "running", "progress", "message")
            columns = dict(zip(names, map(list, zip(*renewed, strict=True)), strict=True))
            tx.renew(lease_expires_at=tx.lease_now + self.settings.lease_seconds, **columns)
        if missing:
            ids, numbers, leases = map(list, zip(*missing, strict=True))
            tx.miss(task_id=ids, attempt=numbers, lease_id=leases, lease_now=tx.lease_now)
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
        ended = tx.ended_grants(rows=rows(*map(list, zip(*listed, strict=True))))
        ends = {(task_id, lease_id): (attempt, outcome) for task_id, lease_id, attempt, outcome in ended}
        for (task_id, lease_id), entry in listed.items():
            attempt, outcome = ends.get((task_id, lease_id), (None, None))
            if attempt is not None and entry.attempt in (None, attempt):
                over = answer.cancel if outcome == Outcome.CANCELLED else answer.lost
                over.append(TaskAttempt(task_id, attempt))
            else:
                self._find(tx, worker, task_id, entry, answer)

    def _find(self, tx: Transaction, worker: Worker, task_id: int, entry: Holding, answer: ExchangeAnswer) -> None:
        """A listed grant that this worker does not hold: handed over, readopted, cancelled or lost."""
        attempt = entry.attempt or tx.current_attempt(task_id=task_id, lease_id=entry.lease_id) or 0
        grant = {"task_id": task_id, "attempt": attempt, "lease_id": entry.lease_id}
        expires_at = tx.lease_now + self.settings.lease_seconds
        if tx.hand_over(worker_key=worker.key, lease_expires_at=expires_at, **grant):
            return
        if self.readopt(tx, worker, task_id, attempt, entry.lease_id, running=_runs(entry, task_id)):
            return
        self._name_end(tx, task_id, attempt, entry.lease_id, answer)

    def _name_end(
        self, tx: Transaction, task_id: int, attempt: int, lease_id: str, answer: ExchangeAnswer
    ) -> None:
        """Tell a worker that a grant of its is over: the task was cancelled, or the grant is lost."""
        end = tx.attempt_end(task_id=task_id, attempt=attempt)
        cancelled = end is not None and end[:2] == (lease_id, Outcome.CANCELLED)
        (answer.cancel if cancelled else answer.lost).append(TaskAttempt(task_id, attempt))

    def readopt(
        self, tx: Transaction, worker: Worker, task_id: int, attempt: int, lease_id: str, *, running: bool = False
    ) -> bool:
        """A reclaimed grant goes on as if nothing had been, unless somebody claimed the task since."""
        before = tx.task_state(task_id=task_id)
        readopted = tx.readopt(
            task_id=task_id,
            attempt=attempt,
            lease_id=lease_id,
            worker_key=worker.key,
            lease_expires_at=tx.lease_now + self.settings.lease_seconds,
            running=int(running),
        )
        if readopted is None:
            return False
        type, saved_here = readopted
        (lost,) = tx.forget_reclaim(task_id=task_id, attempt=attempt, lease_id=lease_id)
        tx.work["lost"] -= lost or 0
        tx.work["saved"] -= max(0.0, saved_here)
        tx.moved(type, TaskStatus(before[0]), TaskStatus.IN_PROGRESS, [task_id])
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

    # ------------------------------------------------------------------ how attempts end

    def end_attempts(self, tx: Transaction, reports: Reports, answer: ExchangeAnswer) -> None:
        """End the attempts of a message; the completed ones, often hundreds, go as one."""
        for report, checkpoint in reports.checkpoints:
            self._remember(tx, report.task_id, report.attempt, report.lease_id, checkpoint)
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
        won = attempts.complete(tx, reports)
        unsettled = [] if len(won) == len(reports.completed) else reports.completed
        for report in [*unsettled, *reports.repeated]:
            grant = report.task_id, report.attempt
            if (grant not in won or report in reports.repeated) and not attempts.is_repeat(tx, report):
                answer.lost.append(TaskAttempt(*grant))

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
        """A polite stop: pending again at once, nothing spent."""
        attempts.end(tx, held, Outcome.RELEASED, TaskStatus.PENDING, report, releases=held.releases + 1)

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


def _resumed(point: tuple[Any, ...]) -> GrantedCheckpoint:
    seq, state, progress, elapsed_seconds, output_chunks = point
    return GrantedCheckpoint(seq, msgspec.Raw(state), progress, elapsed_seconds, output_chunks)


def _travelling(candidates: Iterable[_Claimable]) -> list[_Claimable]:
    """As many of the candidates, in order, as may travel in one answer."""
    chosen: list[_Claimable] = []
    size = 0
    for candidate in candidates:
        _, _, _, alone, _, _, checkpoint_seq, payload, _ = candidate
        if chosen and (alone or size > ANSWER_BYTES):
            break
        chosen.append(candidate)
        if payload is not None:
            size += len(payload)
        if checkpoint_seq is not None:
            size += BODY_BYTES_MAX  # its state may be as large
        if alone:
            break
    return chosen
