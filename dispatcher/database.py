"""The one write path: a single writer thread, group commit, and read connections of their own.

Everything that waits is carried out in one BEGIN IMMEDIATE, each operation in a savepoint, then one
commit (one fsync), and only then the callers get their answers. Claims that found nothing are
parked here: when a transaction makes tasks pending, the parked claims run in that same transaction,
so that a task submitted to an idle worker needs one commit, not two. Read ledger.py next.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw

from dispatcher import migrations, sqlite, statements
from dispatcher.clock import Clock, LeaseClock
from dispatcher.lanes import Served
from dispatcher.transaction import Transaction
from shared import errors
from shared.log import Log

GROUP_MAX = 256  # operations in one commit: enough to share an fsync, few enough to answer soon
QUEUE_MAX = 10_000  # operations that may wait; above it a caller is told to come back
READERS = 4  # connections for reading; a read takes well under a millisecond
LOG_PAGES = 1000  # 4 MB of log are moved into the file when nothing waits …
LOG_PAGES_BUSY = 4000  # … 16 MB even when something does
# The lease clock is stored with the first commit after so long: after a restart it may be that much
# behind, which only delays a judgement.
LEASE_CLOCK_SECONDS = 1.0

Run = Callable[[Transaction], Any]
Again = Callable[[Transaction, Any], bool]


class _Operation:
    """What a caller asked for, and the door it waits at."""

    def __init__(self, run: Run, again: Again | None, wait_seconds: float, lanes: Served | None) -> None:
        self.run = run
        self.again = again
        self.wait_seconds = wait_seconds
        self.lanes = lanes
        self.started = False
        self.answer: Any = None
        self.error: Exception | None = None
        self.done = threading.Event()

    def attempt(self, tx: Transaction) -> bool:
        """Carry it out; False: it found nothing and would rather wait for work."""
        if not self.started:
            self.answer = self.run(tx)
            self.started = True
        return self.again is None or self.again(tx, self.answer) or self.wait_seconds <= 0

    def wants(self, arrivals: Counter[str]) -> bool:
        """Would any of these tasks suit it?"""
        return self.lanes is None or not self.lanes.isdisjoint(arrivals)

    def finish(self, error: Exception | None = None) -> None:
        """Let the caller go."""
        self.error = error or self.error
        self.done.set()

    def result(self) -> Any:
        """What the caller gets."""
        if self.error is not None:
            raise self.error
        return self.answer


class _Group:
    """The operations of one commit and what became of each."""

    def __init__(self) -> None:
        self.tried: dict[_Operation, None] = {}  # all of them, in order: who must hear of an abort
        self.answered: list[_Operation] = []
        self.waiting: list[_Operation] = []
        self.effects: list[Transaction] = []


class Database:
    """One SQLite file, open. `on_fatal(reason)`: the file can no longer be trusted, stop at once."""

    def __init__(
        self,
        path: Path,
        *,
        log: Log,
        on_fatal: Callable[[str], None],
        durability: str = "full",
        grace_seconds: float = 5.0,
        parked_max: int = 400,
        clock: Clock | None = None,
    ) -> None:
        self.path = path
        self.healthy = True  # did the last commit succeed?
        self.when_due: Callable[[float], None] = lambda run_at: None  # told of newly scheduled tasks
        self._log = log
        self._on_fatal = on_fatal
        self._statements = statements.load()
        self._connection = sqlite.open_writer(path, durability)
        migrations.apply(self._connection)
        self._readers: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()
        for _ in range(READERS):
            self._readers.put(sqlite.open_reader(path))
        self.clock = clock or LeaseClock(self._statements["lease_clock"](self._connection), grace_seconds)
        self._lease_saved = float("-inf")
        self._log_pages = 0
        self._connection.set_wal_hook(self._note_log_pages)
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._parked: deque[_Operation] = deque()
        self._ends: dict[int, list[threading.Event]] = {}
        self._lock = threading.Lock()  # guards _parked and _ends, both touched by callers too
        self._room = threading.BoundedSemaphore(parked_max)
        self._stopping = False  # nobody waits any more …
        self._closed = False  # … and nothing is taken any more
        self._writer = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._writer.start()

    # --- for callers

    def write(self, run: Run) -> Any:
        """Carry out `run` in a transaction; returns its answer once that is on disk.

        Raises what `run` raised (nothing of it is stored then), Busy, or DatabaseUnavailable.
        """
        operation = _Operation(run, None, 0.0, None)
        self._enqueue(operation)
        operation.done.wait()
        return operation.result()

    def write_and_wait(
        self, run: Run, again: Again, wait_seconds: float, lanes: Served | None
    ) -> tuple[Any, bool]:
        """As `write`, then `again(tx, answer)`; while that says False, wait for new tasks of `lanes`.

        Returns the answer and whether it could wait (False: too many do, come back later).
        """
        room = wait_seconds > 0 and not self._stopping and self._room.acquire(blocking=False)
        operation = _Operation(run, again, wait_seconds if room else 0.0, lanes)
        try:
            self._enqueue(operation)
            if not operation.done.wait(wait_seconds if room else None):
                self._give_up(operation)
        finally:
            if room:
                self._room.release()
        return operation.result(), room or wait_seconds <= 0

    def wait_for_end(self, task_id: int, has_ended: Callable[[], bool], seconds: float) -> None:
        """Return when the task has ended, after `seconds`, or at once if too many wait already."""
        if self._stopping or not self._room.acquire(blocking=False):
            return
        event = threading.Event()
        with self._lock:
            self._ends.setdefault(task_id, []).append(event)
        try:
            if not has_ended():  # asked after signing up, so that no end is missed
                event.wait(seconds)
        finally:
            self._room.release()
            with self._lock:
                waiting = self._ends[task_id]
                waiting.remove(event)
                if not waiting:
                    del self._ends[task_id]

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """A read-only view; keep it short, since an open one pins the log."""
        connection = self._readers.get()
        try:
            connection.execute("BEGIN")
            yield Transaction(connection, self._statements, self.clock.wall(), self.clock.lease())
        except apsw.Error as error:
            raise errors.DatabaseUnavailable(f"the database cannot be read now: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._readers.put(connection)

    def serve_parked(self) -> None:
        """Try the parked claims again, should one have missed its work; the monitor's second look."""
        with self._lock:
            nobody = not self._parked
        if not nobody:
            with self.read() as tx:
                lanes = [lane for (lane,) in tx.pending_lanes()]
            if lanes:
                self.write(lambda tx: tx.arrivals.update(lanes))

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
            self._queue.put(None)  # the last in the queue: whoever came before is still served
        self._writer.join()
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        while not self._readers.empty():
            self._readers.get().close()
        self._connection.close()

    def _enqueue(self, operation: _Operation) -> None:
        if self._queue.qsize() >= QUEUE_MAX:
            raise errors.Busy
        with self._lock:
            if self._closed or not self._writer.is_alive():
                raise errors.DatabaseUnavailable("the dispatcher is stopping; nothing was stored")
            self._queue.put(operation)

    def _give_up(self, operation: _Operation) -> None:
        """The time to wait is over: leave the parked, or take what is being granted just now."""
        with self._lock:
            operation.wait_seconds = 0.0
            if operation in self._parked:
                self._parked.remove(operation)
                return
        operation.done.wait()

    # --- the writer thread

    def _write_forever(self) -> None:
        try:
            self._write_groups()
        except Exception as error:  # a mistake of ours outside any operation
            self._on_fatal(f"the writer stopped: {error!r}")
            raise

    def _write_groups(self) -> None:
        while (first := self._queue.get()) is not None:
            operations = [first]
            while len(operations) < GROUP_MAX and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    self._queue.put(None)  # stop after this group
                    break
                operations.append(following)
            self._commit(operations)
            self._move_log()

    def _commit(self, operations: list[_Operation]) -> None:
        """One transaction for all of them; nobody is answered before the commit."""
        now, lease_now = self.clock.wall(), self.clock.lease()
        group = _Group()

        def begin() -> Transaction:
            return Transaction(self._connection, self._statements, now, lease_now)

        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation in operations:
                self._attempt(operation, begin(), group)
            self._serve_waiting(begin, group)
            if lease_now - self._lease_saved >= LEASE_CLOCK_SECONDS:
                begin().save_lease_clock(lease_now=lease_now)
                self._lease_saved = lease_now
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self._abort(error, group.tried | dict.fromkeys(operations))
            return
        if not self.healthy:
            self.healthy = True
            self._log("write_recovered")
        for operation in group.answered:
            operation.finish()
        self._park(group.waiting)
        self._announce(group.effects)

    def _attempt(self, operation: _Operation, tx: Transaction, group: _Group) -> None:
        """Run one operation in its own savepoint: what it raises spoils nothing for the others."""
        group.tried[operation] = None
        self._connection.execute("SAVEPOINT operation")
        try:
            finished = operation.attempt(tx)
            tx.keep_counts()
            group.effects.append(tx)
        except (*sqlite.FATAL, *sqlite.PASSING):
            raise
        except Exception as error:  # a refusal, or a mistake of ours: its own caller hears of it
            operation.error, finished = error, True
            self._connection.execute("ROLLBACK TO operation")
        self._connection.execute("RELEASE operation")
        (group.answered if finished else group.waiting).append(operation)

    def _serve_waiting(self, begin: Callable[[], Transaction], group: _Group) -> None:
        """Claims that wait take what this transaction has made pending, first come first served."""
        arrivals = sum((effect.arrivals for effect in group.effects), Counter[str]())
        tried: set[_Operation] = set()
        while arrivals.total() > 0:
            operation = self._next_waiting(arrivals, tried, group)
            if operation is None:
                return
            tried.add(operation)
            self._attempt(operation, begin(), group)
            if operation not in group.waiting:
                for (lane, _), n in group.effects[-1].counts.items():
                    arrivals[lane] -= max(0, n)
                arrivals = +arrivals

    def _next_waiting(self, arrivals: Counter[str], tried: set[_Operation], group: _Group) -> _Operation | None:
        """The first that waits for such tasks: parked before, or come in this very group."""
        with self._lock:
            for waiting in (self._parked, group.waiting):
                for operation in waiting:
                    if operation not in tried and operation.wants(arrivals):
                        waiting.remove(operation)
                        return operation
        return None

    def _park(self, operations: list[_Operation]) -> None:
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

    def _abort(self, error: apsw.Error, operations: Iterable[_Operation]) -> None:
        """Nothing of the group was stored. Silence is not judged meanwhile: no heartbeat was kept."""
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self.clock.grace()
        if self.healthy:
            self._log("write_failed", reason=error)
        self.healthy = False
        for operation in operations:
            operation.finish(
                errors.DatabaseUnavailable(f"the database cannot be written now ({error}); nothing was stored")
            )
        if isinstance(error, sqlite.FATAL):
            self._on_fatal(str(error))

    def _note_log_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._log_pages = pages
        return int(apsw.SQLITE_OK)

    def _move_log(self) -> None:
        """Move the write-ahead log into the file when it is worth it; readers never do."""
        if self._log_pages < (LOG_PAGES if self._queue.empty() else LOG_PAGES_BUSY):
            return
        self._log_pages = 0
        with contextlib.suppress(apsw.BusyError, apsw.FullError):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
