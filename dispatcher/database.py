"""The one write path: one transaction at a time, group commit, and read connections of their own.

An operation that meets nobody is written by its caller's own thread: a change of threads and back
would cost as much as the commit. While somebody writes, what comes waits, and the writer's thread
then carries out all of it in one transaction, each operation in a savepoint, with one commit (one
fsync), and only then the callers get their answers. Claims that found nothing are
parked here: when a transaction makes tasks pending, the parked claims run in that same transaction,
so that a task submitted to an idle worker needs one commit, not two. How a database begins, keeps
and undoes a transaction is its engine's affair (engine.py). Read ledger.py next.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dispatcher.clock import Clock
from dispatcher.company import Company
from dispatcher.engine import Engine
from dispatcher.lanes import Served
from dispatcher.operation import Again, Group, Operation, Run
from dispatcher.transaction import Moment, Transaction
from shared import errors
from shared.log import Log

GROUP_MAX = 256  # operations in one commit: enough to share an fsync, few enough to answer soon
QUEUE_MAX = 10_000  # operations that may wait; above it a caller is told to come back
TRIES = 5  # of a transaction that lost against another dispatcher's; each waits longer than the last
FULL_SECONDS = 5.0  # a disk counts as full for so long, though small writes succeed meanwhile
SECOND_LOOK_SECONDS = 0.5  # whoever waits for an end that another dispatcher may write looks so often


class Database:
    """An open database. `on_fatal(reason)`: it can no longer be trusted, stop at once."""

    def __init__(
        self,
        engine: Engine,
        *,
        log: Log,
        on_fatal: Callable[[str], None],
        parked_max: int = 400,
        clock: Clock | None = None,
    ) -> None:
        self.trouble: str | None = None  # why a write failed of late, in words
        self.when_due: Callable[[float], None] = lambda run_at: None  # told of newly scheduled tasks
        self.engine = engine
        self.clock = clock or engine.clock
        self._log = log
        self._on_fatal = on_fatal
        self._waiting: deque[Operation] = deque()
        self._writing = False  # is a transaction under way, in whatever thread?
        self._parked: deque[Operation] = deque()
        self._heard: Counter[str] = Counter()  # tasks by lane that others have stored, for who is parked
        self._ends: dict[int, list[threading.Event]] = {}
        self._lock = threading.Lock()  # guards the five above
        self._work = threading.Condition(self._lock)  # for the writer's thread: something is to be done
        self._company = Company(self._lock, self._waiting)
        self._room = threading.BoundedSemaphore(parked_max)
        self._trouble_until = 0.0  # at least, on the monotonic clock
        self._stopping = False  # nobody waits any more …
        self._closed = False  # … and nothing is taken any more
        self._writer = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._writer.start()
        engine.listen(self._hear)

    # --- for callers

    def write(self, run: Run) -> Any:
        """Carry out `run` in a transaction; returns its answer once that is on disk.

        Raises what `run` raised (nothing of it is stored then), Busy, or DatabaseUnavailable.
        """
        operation = Operation(run, None, 0.0, None)
        self._submit(operation)
        operation.wait()
        return operation.result()

    def probe(self, seconds: float) -> None:
        """Prove a write (an empty one); DatabaseUnavailable if that or another of late fails or takes too long."""
        operation = Operation(lambda tx: None, None, 0.0, None)
        self._submit(operation, here=False)
        if not operation.wait(seconds):
            raise errors.DatabaseUnavailable(f"the database has not taken a write for {seconds:g} s")
        operation.result()
        if self.trouble is not None:
            raise errors.DatabaseUnavailable(f"a write failed within the last {FULL_SECONDS:g} s: {self.trouble}")

    def write_and_wait(
        self, run: Run, again: Again, wait_seconds: float, lanes: Served | None
    ) -> tuple[Any, Any, bool]:
        """As `write`, then `again(tx, answer)`; while that finds nothing (None), wait for new tasks of `lanes`.

        Returns the answer, what was found, and whether it could wait (False: too many do, come back later).
        """
        room = wait_seconds > 0 and not self._stopping and self._room.acquire(blocking=False)
        operation = Operation(run, again, wait_seconds if room else 0.0, lanes)
        try:
            self._submit(operation)
            if not operation.wait(wait_seconds if room else None):
                self._give_up(operation)
        finally:
            if room:
                self._room.release()
        return operation.result(), operation.found, room or wait_seconds <= 0

    def wait_for_end(self, task_id: int, has_ended: Callable[[], bool], seconds: float) -> None:
        """Return when the task has ended, after `seconds`, or at once if too many wait already."""
        if self._stopping or not self._room.acquire(blocking=False):
            return
        event = threading.Event()
        with self._lock:
            self._ends.setdefault(task_id, []).append(event)
        try:
            until = time.monotonic() + seconds
            pause = SECOND_LOOK_SECONDS if self.engine.shared else seconds
            while not has_ended():  # asked after signing up, so that no end is missed
                left = until - time.monotonic()
                if left <= 0 or event.wait(min(left, pause)):
                    break
        finally:
            self._room.release()
            with self._lock:
                waiting = self._ends[task_id]
                waiting.remove(event)
                if not waiting:
                    del self._ends[task_id]

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """A read-only view of one state; keep it short."""
        try:
            with self.engine.reading() as connection:
                yield Transaction(connection, self.engine.statements, Moment(self.clock))
        except self.engine.errors as error:
            raise errors.DatabaseUnavailable(f"the database cannot be read now: {error}") from error

    def serve_parked(self) -> None:
        """Try the parked claims again, should one have missed its work; the monitor's second look."""
        with self._lock:
            nobody = not self._parked
        if not nobody:
            with self.read() as tx:
                lanes = [lane for (lane,) in tx.pending_lanes()]
            self._hear(Counter(dict.fromkeys(lanes, GROUP_MAX)))  # how many there are, the claims will see

    def release_waiters(self) -> None:
        """Answer everything that waits, emptily: the dispatcher stops."""
        self._stopping = True
        with self._lock:
            parked, self._parked = list(self._parked), deque()
            for events in self._ends.values():
                for event in events:
                    event.set()
        for operation in parked:
            operation.finish()

    def close(self) -> None:
        """Carry out what waits, then close; a second call does nothing."""
        self.release_waiters()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._work.notify()  # whoever came before is still served
        self._writer.join()
        self.engine.close()

    def _hear(self, arrivals: Counter[str]) -> None:
        """Another dispatcher has stored work that nobody there takes: let those who wait here try."""
        with self._lock:
            if self._closed:
                return
            if self._writing:  # perhaps on behalf of a claim that has looked already and is not parked yet
                self._heard += arrivals
                return
            if not self._parked:
                return
            self._writing = True
        self._write([], arrivals)

    def _submit(self, operation: Operation, here: bool = True) -> None:
        """Have it carried out: `here`, in this very thread, if nobody writes now; else by the writer's."""
        with self._lock:
            if self._closed or not self._writer.is_alive():
                raise errors.DatabaseUnavailable("the dispatcher is stopping; nothing was stored")
            if len(self._waiting) >= QUEUE_MAX:
                raise errors.Busy
            if self._writing or self._waiting or self.engine.is_tired or not here:
                self._waiting.append(operation)
                if not self._writing:  # else it is told when that is done
                    self._work.notify()
                else:
                    self._company.has_come()
                return
            self._writing = True
            self._waiting.append(operation)
            operations = self._gather()
        self._write(operations)

    def _gather(self) -> list[Operation]:
        """Take what waits, under the lock."""
        self._company.wait()
        return [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]

    def _give_up(self, operation: Operation) -> None:
        """The time to wait is over: leave the parked, or take what is being granted just now."""
        with self._lock:
            operation.wait_seconds = 0.0
            if operation in self._parked:
                self._parked.remove(operation)
                return
        operation.wait()

    # --- the writer's thread, or a caller's

    def _write_forever(self) -> None:
        while True:
            with self._lock:
                self._work.wait_for(self._has_work)
                if not self._waiting and self._closed:
                    return
                self._writing = True
                operations = self._gather()
                heard, self._heard = self._heard, Counter()
            self._write(operations, heard, rest=True)

    def _has_work(self) -> bool:
        return not self._writing and bool(self._waiting or self._heard or self._closed or self.engine.is_tired)

    def _write(self, operations: list[Operation], heard: Counter[str] | None = None, rest: bool = False) -> None:
        """One transaction, now that it is our turn; then perhaps the time to `rest`."""
        try:
            if operations or heard:
                self._carry_out(operations, heard or Counter())
            if rest:
                self.engine.rest(idle=not self._waiting)
        except Exception as error:  # a mistake of ours outside any operation
            for operation in operations:
                operation.finish(errors.DatabaseUnavailable("the dispatcher made a mistake and stops"))
            self._on_fatal(f"the writer stopped: {error!r}")
            raise
        finally:
            with self._lock:
                self._writing = False
                if not self._parked:
                    self._heard.clear()
                if operations:
                    self._company.met(min(GROUP_MAX, len(operations) + len(self._waiting)))
                if self._waiting or self._heard or self._closed or self.engine.is_tired:
                    self._work.notify()

    def _carry_out(self, operations: list[Operation], heard: Counter[str]) -> None:
        """One transaction for all of them; nobody is answered before the commit."""
        for tries in range(1, TRIES + 1):
            group = Group(heard)
            try:
                self._commit(operations, group)
            except self.engine.retryable as error:  # another dispatcher's transaction was in the way
                self.engine.rollback()
                if tries == TRIES:
                    self._abort(error, group.tried | dict.fromkeys(operations))
                    return
                self._start_over(operations, group)
                time.sleep(random.uniform(0, 0.01 * 2**tries))
            except self.engine.errors as error:
                self._abort(error, group.tried | dict.fromkeys(operations))
                return
            else:
                break
        if self.trouble is not None and time.monotonic() >= self._trouble_until:
            self.trouble = None
            self._log("write_recovered")
        for operation in group.answered:
            operation.finish()
        self._park(group.waiting)
        self._announce(group.effects)

    def _commit(self, operations: list[Operation], group: Group) -> None:
        began = time.monotonic()
        self.engine.begin()
        moment = Moment(self.clock, self.engine.hear_time)

        def begin() -> Transaction:
            engine = self.engine
            return Transaction(engine.connection, engine.statements, moment, engine.shard)

        for operation in operations:
            self._attempt(operation, begin(), group)
        left = self._serve_waiting(begin, group)
        worked = time.monotonic()
        self.engine.commit(moment.lease_now, left, group.older)
        self._company.spent(worked - began, time.monotonic() - worked, len(operations))

    def _start_over(self, operations: list[Operation], group: Group) -> None:
        """As before the transaction: its operations unbegun, those that were parked parked again."""
        for operation in operations:
            operation.forget()
        for operation in group.tried:
            operation.found = None
        with self._lock:
            taken = [operation for operation in group.tried if operation not in operations]
            self._parked.extendleft(o for o in reversed(taken) if o.wait_seconds > 0)
        for operation in taken:
            if operation.wait_seconds <= 0:  # its time ran out meanwhile
                operation.finish()

    def _attempt(self, operation: Operation, tx: Transaction, group: Group) -> bool:
        """Run one operation so that what it raises spoils nothing for the others; False: it raised.

        The first of a transaction is undone with the whole of it, the others from a savepoint each.
        """
        first = not group.tried
        group.tried[operation] = None
        if not first:
            self.engine.savepoint()
        try:
            finished = operation.attempt(tx)
            tx.keep_counts()
            group.effects.append(tx)
        except self.engine.aborting:
            raise
        except Exception as error:  # a refusal, or a mistake of ours: its own caller hears of it
            operation.error, finished = error, True
            if first:
                self.engine.rollback()
                self.engine.begin()
            else:
                self.engine.undo()
        (group.answered if finished else group.waiting).append(operation)
        return operation.error is None

    def _serve_waiting(self, begin: Callable[[], Transaction], group: Group) -> Counter[str]:
        """Claims that wait take what this transaction has made pending, first come first served.

        Returns what is left: tasks that nobody here takes.
        """
        arrivals = group.arrivals
        tried: set[Operation] = set()
        while arrivals.total() > 0:
            operation = self._next_waiting(arrivals, tried, group)
            if operation is None:
                break
            tried.add(operation)
            if self._attempt(operation, begin(), group) and operation not in group.waiting:
                for (lane, _), n in group.effects[-1].counts.items():
                    arrivals[lane] -= max(0, n)
                arrivals = +arrivals
        return arrivals

    def _next_waiting(self, arrivals: Counter[str], tried: set[Operation], group: Group) -> Operation | None:
        """The first that waits for such tasks: parked before, or come in this very group."""
        with self._lock:
            for waiting in (self._parked, group.waiting):
                for operation in waiting:
                    if operation not in tried and operation.wants(arrivals):
                        waiting.remove(operation)
                        return operation
        return None

    def _park(self, operations: list[Operation]) -> None:
        for operation in operations:
            with self._lock:
                if operation.wait_seconds > 0 and not self._stopping:
                    self._parked.append(operation)
                    continue
            operation.finish()

    def _announce(self, effects: list[Transaction]) -> None:
        """After the commit: wake who waits for an end, tell the monitor what is due, write the log."""
        if self._ends:
            with self._lock:
                for task_id in (task_id for effect in effects for task_id in effect.ended):
                    for event in self._ends.get(task_id, ()):
                        event.set()
        for effect in effects:
            if effect.due_at is not None:
                self.when_due(effect.due_at)
            for event_name, facts in effect.events:
                self._log(event_name, **facts)

    def _abort(self, error: Exception, operations: Iterable[Operation]) -> None:
        """Nothing of the group was stored. Silence is not judged meanwhile: no heartbeat was kept."""
        self.engine.rollback()
        self.clock.grace()
        if self.trouble is None:
            self._log("write_failed", reason=error)
        self.trouble = str(error)
        if isinstance(error, self.engine.full):
            self._trouble_until = time.monotonic() + FULL_SECONDS
        refusal = self.engine.refusal(error)
        for operation in operations:
            operation.finish(refusal)
        if isinstance(error, self.engine.fatal):
            self._on_fatal(str(error))
