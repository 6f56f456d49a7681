"""What may happen to a task, and under which guard: one method per verb, one transaction each.

Verbs of clients and of the monitor are here, and `exchange`, the order of a worker's message; the
verbs that a grant allows are in leases.py. How an attempt ends is in attempts.py, who the workers
are in registry.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dispatcher import attempts, checks, kin, parents
from dispatcher import submissions as storage
from dispatcher.database import Database
from dispatcher.flows import Flows
from dispatcher.leadership import Leadership
from dispatcher.leases import Claim, Leases
from dispatcher.profiles import Profiles
from dispatcher.registry import Registry, Worker
from dispatcher.schedules import Schedules
from dispatcher.transaction import Transaction, by_type
from shared import errors
from shared.lifecycle import ENDED, Outcome, TaskStatus, WorkerState
from shared.protocol import INTEGER_MAX, Exchange, ExchangeAnswer, Refusal, Revival, Submission
from shared.settings import Settings

BITE = 500  # rows in one transaction of a background duty: some ten milliseconds of the writer
PRUNE_SECONDS = 0.1
_encode = msgspec.json.Encoder().encode


class Ledger:
    """The rules. Needs an open Database; `settings` gives lease and heartbeat times."""

    def __init__(self, database: Database, settings: Settings, profiles: Profiles | None = None) -> None:
        self.database = database
        self.settings = settings
        self.leadership = Leadership(database)
        self.registry = Registry(settings)
        self.leases = Leases(settings, self.registry)
        self.flows = Flows(database, self.registry)
        self.schedules = Schedules(database, self.registry)
        self.profiles = profiles or Profiles()

    # ------------------------------------------------------------------ clients

    def submit(
        self, submissions: Sequence[Submission], *, batch: bool = True
    ) -> tuple[list[int], list[TaskStatus], str | None]:
        """Store new tasks, all or none; returns ids and statuses in order, and a warning or None.

        Raises Invalid or TooLarge naming the field, with its index in a `batch`.
        """
        run_ats = checks.submissions(submissions, self.database.clock.wall(), batch)
        dependent = any(submission.depends_on for submission in submissions)

        def run(tx: Transaction) -> tuple[list[int], list[TaskStatus], str | None]:
            warning = self.registry.unknown_types_warning(tx, {s.type for s in submissions})
            ties = kin.Ties(tx, submissions, batch) if dependent else None
            ids, statuses = storage.store(tx, submissions, run_ats, None if ties is None else ties.places)
            if ties is not None:
                ties.tie(tx, ids, statuses)
            return ids, statuses, warning

        result: tuple[list[int], list[TaskStatus], str | None] = self.database.write(run)
        return result

    def cancel(self, task_id: int) -> None:
        """End a task because somebody asked. Its last checkpoint stays. NotFound, AlreadyEnded."""

        def run(tx: Transaction) -> None:
            status, type, attempt, lease_id, _ = self._state(tx, task_id)
            if status in ENDED:
                raise errors.AlreadyEnded(f"task {task_id} has already ended: it is {status}", status=status)
            error = _encode({"type": "Cancelled", "message": "cancelled on request"})
            if status == TaskStatus.IN_PROGRESS:
                held = attempts.held(tx, task_id, attempt, lease_id)
                attempts.end(tx, held, Outcome.CANCELLED, TaskStatus.CANCELLED, error=error)
            else:
                tx.cancel(task_id=task_id, now=tx.now)
                tx.moved(type, TaskStatus(status), TaskStatus.CANCELLED, [task_id])
                tx.record_error(task_id=task_id, attempt=attempt, error=error)
                kin.cancelled(tx, task_id)
            tx.log("cancel", task_id=task_id)

        self.database.write(run)

    def revive(self, task_id: int, revival: Revival) -> None:
        """Give a failed or cancelled task a second life. NotFound, Conflict, Invalid payload."""
        payload = None if revival.payload is msgspec.UNSET else checks.payload(revival.payload, "payload")

        def run(tx: Transaction) -> None:
            status, type, *_ = self._state(tx, task_id)
            if tx.revive(task_id=task_id) is None:
                raise errors.Conflict(
                    f"task {task_id} is {status}; only failed and cancelled tasks can be revived",
                    status=status,
                )
            tx.drop_result(task_id=task_id)
            if revival.from_scratch:
                tx.restart(task_id=task_id)
                tx.drop_checkpoint(task_id=[task_id])
                tx.drop_output(task_id=[task_id])
            if payload is not None:
                tx.drop_payload(task_id=[task_id])
                tx.add_payload(task_id=[task_id], payload=payload)
            target = kin.revived(tx, task_id, TaskStatus(status))
            tx.moved(type, TaskStatus(status), target, [task_id])
            tx.log("revive", task_id=task_id)

        self.database.write(run)

    def _state(self, tx: Transaction, task_id: int) -> tuple[str, str, int, str, int]:
        row: tuple[str, str, int, str, int] | None = tx.task_state(task_id=min(task_id, INTEGER_MAX))
        if row is None:
            raise errors.NotFound(f"there is no task {task_id}")
        return row

    # ------------------------------------------------------------------ workers

    def exchange(self, message: Exchange, refused: Iterable[Refusal] = ()) -> ExchangeAnswer:
        """A worker's whole message in one transaction: hear, renew, checkpoint, end, then claim.

        With `want` and `wait_seconds` the answer may wait for work. `refused`: items that could not
        even be read.
        """
        checks.worker_message(message)
        worker = Worker(message.worker)
        reports = attempts.Reports(message.results)
        claims: list[Claim] = []
        wait_seconds = min(message.wait_seconds, self.settings.long_poll_seconds) if message.want else 0.0

        def run(tx: Transaction) -> ExchangeAnswer:
            answer = ExchangeAnswer(heartbeat_seconds=self.settings.heartbeat_interval_seconds)
            answer.refused += [*refused, *reports.refused]
            worker.key = self.registry.hear(tx, message.worker)
            if message.holding is not None:
                self.leases.renew(tx, worker, message.holding, answer)
            for checkpoint in message.checkpoints:
                self.leases.checkpoint(tx, checkpoint, answer)
            if message.results:
                self.leases.end_attempts(tx, reports, answer)
            if message.worker.state == "stopped":  # whatever is still held is given back, and counts nothing
                self.leases.reclaim_all(tx, worker.key, worker.name, "its worker said goodbye", False)
            return answer

        def again(tx: Transaction, answer: ExchangeAnswer) -> bool:
            claim = self.leases.claim(tx, worker, message.want)
            claims[:] = [] if claim is None else [claim]
            return claim is not None

        if not message.want:
            quick: ExchangeAnswer = self.database.write(run)
            return quick
        types = None if message.worker.types is None else frozenset(message.worker.types)
        answer, waited = self.database.write_and_wait(run, again, wait_seconds, types)
        final: ExchangeAnswer = answer
        final.tasks = [grant for claim in claims for grant in self.leases.grants(claim)]
        children = [task_id for claim in claims for task_id in claim.children]
        if children:
            with self.database.read() as tx:
                parents.tell(tx, children, final.tasks)
        if not waited:
            final.poll_after_seconds = 1.0
        return final

    # ------------------------------------------------------------------ the monitor's

    def promote(self) -> float | None:
        """Make due tasks pending; returns when the next one is due (wall clock) or None."""
        with self.database.read() as tx:
            due: float | None = tx.next_due()
        if due is None or due > self.database.clock.wall():
            return due

        def run(tx: Transaction) -> float | None:
            for type, ids in by_type(tx.promote(now=tx.now, n=BITE)).items():
                tx.moved(type, TaskStatus.SCHEDULED, TaskStatus.PENDING, ids)
            following: float | None = tx.next_due()
            return following

        following: float | None = self.leadership.write(run)
        return following

    def reclaim_silent(self) -> int:
        """Take back what workers hold that have been silent too long; returns how many tasks."""
        if not self.database.clock.judging():
            return 0
        with self.database.read() as tx:
            suspects = tx.silent_workers(before=self._silent_before(tx)).fetchall()
        if not suspects:
            return 0
        reclaimed: int = self.leadership.write(lambda tx: sum(self._lose(tx, suspect) for suspect in suspects))
        return reclaimed

    def _silent_before(self, tx: Transaction) -> float:
        return tx.lease_now - self.settings.heartbeat_timeout_seconds

    def _lose(self, tx: Transaction, suspect: tuple[Any, ...]) -> int:
        """Decided again here: the worker may have been heard since the suspicion arose."""
        worker_key, worker_id, name, last_heartbeat, _ = suspect
        if tx.lose_worker(worker_key=worker_key, now=tx.now, before=self._silent_before(tx)) is None:
            return 0
        tx.log("worker_silent", worker_id=worker_id, name=name, seconds=tx.lease_now - last_heartbeat)
        return self.leases.reclaim_all(tx, worker_key, name, "its worker went silent", True)

    def reclaim_expired(self) -> int:
        """Take back grants that nobody renewed although their worker lives; returns how many."""
        if not self.database.clock.judging():
            return 0
        with self.database.read() as tx:
            if not tx.expired_leases(lease_now=tx.lease_now, n=1).fetchall():
                return 0

        def run(tx: Transaction) -> int:
            fences = tx.expired_leases(lease_now=tx.lease_now, n=BITE).fetchall()
            for fence in fences:
                held = attempts.held(tx, *fence)
                self.leases.reclaim(
                    tx, held, "", "its lease was not renewed", counts=bool(held.running or held.alone)
                )
            return len(fences)

        reclaimed: int = self.leadership.write(run)
        return reclaimed

    def forget_worker(self, worker_id: str) -> None:
        """Forget a worker that is gone; what it still held is reclaimed. NotFound, Conflict."""

        def run(tx: Transaction) -> None:
            worker_key, state, name, _ = self.registry.known(tx, worker_id)
            if state not in (WorkerState.DEAD, WorkerState.STOPPED):
                raise errors.Conflict(f"worker {worker_id} is {state}; stop it first", state=state)
            self.leases.reclaim_all(tx, worker_key, name, "its worker was removed", False)
            tx.forget_worker(worker_key=worker_key)

        self.database.write(run)

    def prune(self) -> int:
        """Remove tasks that ended longer than RETENTION_DAYS ago; returns how many.

        Bite after bite, so that the writer serves others between them, for a tenth of a second at most:
        some thousand tasks a second in all, and the other duties of the monitor are not kept waiting.
        """
        before = self.database.clock.wall() - self.settings.retention_days * 86400
        with self.database.read() as tx:
            if not tx.something_old(before=before):
                return 0
        pruned = 0
        until = time.monotonic() + PRUNE_SECONDS
        while time.monotonic() < until:
            bite: int = self.leadership.write(lambda tx: storage.prune(tx, before, BITE))
            pruned += bite
            if bite < BITE:
                break
        return pruned
