"""What may happen to a task, and under which guard: one method per verb, one transaction each.

Verbs of clients and of the monitor are here, and `exchange`, the order of a worker's message; claims
are in claims.py, the verbs that a grant allows in leases.py. How an attempt ends is in attempts.py,
who the workers are in registry.py. Limits and pauses are in limits.py, many tasks at once in dead_letters.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from dispatcher import attempts, checks, expiry, idempotency, kin, limits, parents, second_life
from dispatcher import submissions as storage
from dispatcher.claims import Claim, Claims
from dispatcher.database import Database
from dispatcher.dead_letters import DeadLetters
from dispatcher.flows import Flows
from dispatcher.idempotency import Answer, Repeatable
from dispatcher.lanes import Served
from dispatcher.leadership import Leadership
from dispatcher.leases import Leases
from dispatcher.limits import Limits
from dispatcher.operation import Run
from dispatcher.profiles import Profiles
from dispatcher.registry import Registry, Worker
from dispatcher.schedules import Schedules
from dispatcher.submissions import Submitted
from dispatcher.transaction import Transaction, grouped
from shared import errors
from shared.lifecycle import ENDED, GONE, TaskStatus
from shared.payload import check_payload
from shared.protocol import INTEGER_MAX, Exchange, ExchangeAnswer, Refusal, Revival, Submission
from shared.settings import Settings

BITE = 500  # rows in one transaction of a background duty: some ten milliseconds of the writer
PRUNE_SECONDS = 0.02  # at a time: a task that falls due meanwhile does not wait for longer
KEY_SECONDS = 86400.0  # how long the answer to a request with an Idempotency-Key is kept


class Ledger:
    """The rules. Needs an open Database; `settings` gives lease and heartbeat times."""

    def __init__(self, database: Database, settings: Settings, profiles: Profiles | None = None) -> None:
        self.database = database
        self.settings = settings
        self.leadership = Leadership(database)
        self.registry = Registry(settings)
        self.claims = Claims(settings)
        self.leases = Leases(settings, self.registry)
        self.limits = Limits(database)
        self.dead_letters = DeadLetters(database)
        self.flows = Flows(database, self.registry, self._write)
        self.schedules = Schedules(database, self.registry, self._write, self._lead)
        self.profiles = profiles or Profiles()
        self._pruned_to = storage.Ended()
        self._flows_pruned_to = 0

    def _write(self, run: Run, write: Callable[[Run], Any] | None = None) -> Any:
        """As Database.write; what has become free under a limit goes to who waits for it."""
        write = write or self.database.write

        def settled(tx: Transaction) -> Any:
            answer = run(tx)
            self._settle(tx)
            return answer

        return write(settled)

    def _lead(self, run: Run) -> Any:
        """The same for duties of the monitor: of several dispatchers, only one carries them out."""
        return self._write(run, self.leadership.write)

    def _settle(self, tx: Transaction) -> None:
        if tx.touched:
            limits.settle(tx)
        self.limits.wake_lanes(tx)

    # ------------------------------------------------------------------ clients

    def submit(self, submissions: Sequence[Submission], *, batch: bool = True) -> Submitted:
        """Store new tasks, all or none; one whose unique_key lives is the task that has it.

        Raises Invalid or TooLarge naming the field, with its index in a `batch`.
        """
        result: Submitted = self._write(self._submitting(submissions, batch))
        return result

    def submit_once(
        self,
        repeatable: Repeatable,
        submissions: Sequence[Submission],
        batch: bool,
        answer: Callable[[Submitted], Answer],
    ) -> Answer:
        """As `submit`, but a request that comes again gets the `answer` of the first. Invalid: another body."""
        store = self._submitting(submissions, batch)
        final: Answer = self._write(lambda tx: idempotency.once(tx, repeatable, lambda: answer(store(tx))))
        return final

    def once(self, body: bytes, key: str | None, answer: Callable[[Repeatable | None], Answer]) -> Answer:
        """`answer` a request; one that came before with this Idempotency-Key as then, whatever has changed since.

        Invalid: the key came with another body, or cannot be one.
        """
        if key is None:
            return answer(None)
        repeatable = idempotency.repeatable(key, body)
        with self.database.read() as tx:
            kept = idempotency.kept(tx, repeatable)
        return kept or answer(repeatable)

    def _submitting(self, submissions: Sequence[Submission], batch: bool) -> Callable[[Transaction], Submitted]:
        times = checks.submissions(submissions, self.database.clock.wall(), batch)
        dependent = any(submission.depends_on for submission in submissions)

        def run(tx: Transaction) -> Submitted:
            warning = self.registry.unknown_types_warning(tx, {s.type for s in submissions})
            ties = kin.Ties(tx, submissions, batch) if dependent else None
            made = storage.store(tx, submissions, times, None if ties is None else ties.places)
            if ties is not None:
                ties.tie(tx, made)
            return made._replace(warning=warning)

        return run

    def cancel(self, task_id: int) -> None:
        """End a task because somebody asked. Its last checkpoint stays. NotFound, AlreadyEnded."""

        def run(tx: Transaction) -> None:
            status, lane, attempt, lease_id, _, limit_key, *_ = self._state(tx, task_id)
            if status in ENDED:
                raise errors.AlreadyEnded(f"task {task_id} has already ended: it is {status}", status=status)
            waited = attempts.cancel(tx, task_id, status, lane, attempt, lease_id, limit_key)
            if waited is not None:
                kin.ended(tx, [waited], TaskStatus.CANCELLED)
            tx.log("cancel", task_id=task_id)

        self._write(run)

    def revive(self, task_id: int, revival: Revival) -> None:
        """Give a failed or cancelled task a second life. NotFound, Conflict, Invalid payload."""
        payload = None if revival.payload is msgspec.UNSET else check_payload(revival.payload, "payload")

        def run(tx: Transaction) -> None:
            self._state(tx, task_id)
            second_life.revive(tx, task_id, revival.from_scratch)
            if payload is not None:
                tx.drop_payload(task_id=[task_id])
                tx.add_payload(task_id=[task_id], payload=payload)

        self._write(run)

    def _state(self, tx: Transaction, task_id: int) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = tx.task_state(task_id=min(task_id, INTEGER_MAX))
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
        served = Served(message.worker, message.want_types)
        wait_seconds = min(message.wait_seconds, self.settings.long_poll_seconds) if message.want else 0.0

        def run(tx: Transaction) -> ExchangeAnswer:
            answer = ExchangeAnswer(heartbeat_seconds=self.settings.heartbeat_interval_seconds)
            answer.refused += [*refused, *reports.refused]
            worker.key, answer.directive = self.registry.hear(tx, message.worker)
            if message.holding is not None:
                self.leases.renew(tx, worker, message.holding, message.receiving, answer)
            for checkpoint in message.checkpoints:
                self.leases.checkpoint(tx, checkpoint, answer)
            for log in message.logs:
                self.leases.log(tx, log, answer)
            if message.results:
                self.leases.end_attempts(tx, reports, answer)
            if message.worker.state == "stopped":  # whatever is still held is given back, and counts nothing
                self.leases.reclaim_all(tx, worker.key, worker.name, "its worker said goodbye", False)
            self._settle(tx)
            return answer

        def again(tx: Transaction, answer: ExchangeAnswer) -> Claim | None:
            claim = self.claims.claim(tx, worker, served, message.want)
            if tx.touched:
                limits.settle(tx)
            return claim

        if not message.want:
            quick: ExchangeAnswer = self.database.write(run)
            return quick
        final: ExchangeAnswer
        claim: Claim | None
        final, claim, waited = self.database.write_and_wait(run, again, wait_seconds, served)
        if claim is not None:
            final.tasks = self.claims.grants(claim)
            if claim.edges:
                with self.database.read() as tx:
                    parents.tell(tx, claim.edges, final.tasks)
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
            promoted = tx.promote(now=tx.now, n=BITE).fetchall()
            alike = grouped([(lane, key) for lane, _, key in promoted], [task_id for _, task_id, _ in promoted])
            for (lane, key), ids in alike.items():
                tx.moved(lane, TaskStatus.SCHEDULED, TaskStatus.PENDING, ids, key)
            following: float | None = tx.next_due()
            return following

        following: float | None = self._lead(run)
        return following

    def expire(self) -> float | None:
        """End tasks whose deadline has passed; returns when the next one does (wall clock) or None."""
        with self.database.read() as tx:
            following: float | None = tx.next_deadline()
        if following is None or following > self.database.clock.wall():
            return following

        def run(tx: Transaction) -> float | None:
            expiry.expire(tx, tx.overdue(now=tx.now, n=BITE).fetchall())
            following: float | None = tx.next_deadline()
            return following

        following = self._lead(run)
        return following

    def reclaim_silent(self) -> int:
        """Take back what workers hold that have been silent too long; returns how many tasks."""
        if not self.database.clock.judging():
            return 0
        with self.database.read() as tx:
            suspects = tx.silent_workers(before=self._silent_before(tx)).fetchall()
        if not suspects:
            return 0
        reclaimed: int = self._lead(lambda tx: sum(self._lose(tx, suspect) for suspect in suspects))
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

        reclaimed: int = self._lead(run)
        return reclaimed

    def order_worker(self, worker_id: str, ordered: Literal["pause", "drain"] | None) -> None:
        """Tell a living worker to pause, to drain, or (None) to go on. NotFound, Conflict."""

        def run(tx: Transaction) -> None:
            self.registry.order(tx, worker_id, ordered)
            if ordered is None:
                tx.arrivals.update(lane for (lane,) in tx.pending_lanes())

        self.database.write(run)

    def forget_worker(self, worker_id: str) -> None:
        """Forget a worker that is gone; what it still held is reclaimed. NotFound, Conflict."""

        def run(tx: Transaction) -> None:
            worker_key, state, name, *_ = self.registry.known(tx, worker_id)
            if state not in GONE:
                raise errors.Conflict(f"worker {worker_id} is {state}; stop it first", state=state)
            self.leases.reclaim_all(tx, worker_key, name, "its worker was removed", False)
            tx.forget_worker(worker_key=worker_key)

        self._write(run)

    def prune(self) -> int:
        """Remove tasks that ended longer than RETENTION_DAYS ago; returns how many.

        Bite after bite, so that the writer serves others between them, for PRUNE_SECONDS at most: the
        other duties of the monitor are not kept waiting.
        """
        before = self._old_before()
        self._prune_flows(before)
        with self.database.read() as tx:
            if not tx.something_old(before=before, keys_before=self.database.clock.wall() - KEY_SECONDS):
                return 0
        pruned = 0
        until = time.monotonic() + PRUNE_SECONDS
        while time.monotonic() < until:
            bite, self._pruned_to = self._lead(self._prune_bite)
            pruned += bite
            if not bite or self._pruned_to == storage.Ended():
                break  # where all is kept, the next look comes with the next pass
        return pruned

    def _prune_flows(self, before: float) -> None:
        """A flow goes with its last task; of the next flows remove those that are old and never had one."""
        with self.database.read() as tx:
            flows = tx.flows_from(after=self._flows_pruned_to, before=before, n=BITE).fetchall()
        taskless = [flow_id for flow_id, may_go in flows if may_go]
        if taskless:
            self._lead(lambda tx: storage.drop_flows(tx, taskless))
        # From the start again where they are no longer old: those that follow are younger still.
        self._flows_pruned_to = 0 if len(flows) < BITE or flows[-1][1] is None else flows[-1][0]

    def _old_before(self) -> float:
        return self.database.clock.wall() - self.settings.retention_days * 86400

    def _prune_bite(self, tx: Transaction) -> tuple[int, storage.Ended]:
        tx.prune_keys(before=tx.now - KEY_SECONDS, n=BITE)
        return storage.prune(tx, self._old_before(), BITE, self._pruned_to)
