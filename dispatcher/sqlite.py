"""SQLite: how it is opened, one writer and a few readers, and which of its errors mean what.

Each setting has its reason in docs/decisions/one-writer.md. apsw brings a SQLite of its own, newer
than the WAL-reset bug (fixed in 3.51.3); the version is checked all the same.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import apsw

from dispatcher import migrations, statements
from dispatcher.clock import LeaseClock
from dispatcher.statements import PARAMETER, Kind, Run, columns_to_rows
from shared.errors import BatonError, DatabaseUnavailable

OLDEST_SAFE: Final = 3_051_003  # sqlite.org/changes.html: the WAL-reset bug can lose commits before it
READERS: Final = 4  # connections for reading; a read takes well under a millisecond
LOG_PAGES: Final = 2000  # 8 MB of log are moved into the file when nothing waits …
LOG_PAGES_BUSY: Final = 4000  # … 16 MB even when something does
_ROOM_TIMES: Final = 10  # the log is not widened where the disk has less room than so many of it
_BUSY_MILLISECONDS: Final = 5000
_WRITERS_CACHE: Final = "PRAGMA cache_size = -65536"
# The lease clock is stored with the first commit after so long: after a restart it may be that much
# behind, which only delays a judgement.
LEASE_CLOCK_SECONDS: Final = 1.0


class SQLite:
    """One file, open; an Engine."""

    shard = 0
    shared = False
    errors = (apsw.Error,)
    retryable: tuple[type[Exception], ...] = ()  # there is only one writer
    full = (apsw.FullError,)
    # The file can no longer be trusted: stop, and let the next start check it.
    fatal = (apsw.IOError, apsw.CorruptError, apsw.NotADBError)
    # The transaction is gone, the file is fine: full disk, lock by a stranger, no memory.
    aborting = (*fatal, apsw.FullError, apsw.BusyError, apsw.LockedError, apsw.NoMemError, apsw.ReadOnlyError)

    def __init__(self, path: Path, durability: str = "full", grace_seconds: float = 5.0) -> None:
        self.path = path
        self.statements = named_statements()
        self.connection = _open_writer(path, durability)
        migrations.apply(Schema(self.connection))
        if durability == "full":
            self._widen_log()
        self._readers: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()
        for _ in range(READERS):
            self._readers.put(_open_reader(path))
        self.clock = LeaseClock(self.statements["lease_clock"](self.connection), grace_seconds)
        self._lease_saved = float("-inf")
        self._log_pages = 0
        self.connection.set_wal_hook(self._note_log_pages)

    def begin(self) -> None:
        """Begin at once as the writer."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._savepoint = "SAVEPOINT operation"

    def hear_time(self) -> None:
        """The clock is our own."""

    def savepoint(self) -> None:
        """What follows can be undone by itself."""
        self.connection.execute(self._savepoint)
        self._savepoint = "RELEASE operation; SAVEPOINT operation"

    def undo(self) -> None:
        """Undo what happened since the savepoint."""
        self.connection.execute("ROLLBACK TO operation")

    def commit(self, lease_now: float, arrivals: Counter[str], older: Collection[str]) -> None:
        """One fsync. There is nobody else to tell."""
        if lease_now - self._lease_saved >= LEASE_CLOCK_SECONDS:
            self.statements["save_lease_clock"](self.connection, lease_now=lease_now)
            self._lease_saved = lease_now
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything."""
        with contextlib.suppress(apsw.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def refusal(self, error: Exception) -> BatonError:
        """A commit either happens or leaves nothing behind."""
        return DatabaseUnavailable(f"the database cannot be written now ({error}); nothing was stored")

    @property
    def is_tired(self) -> bool:
        """Has enough gathered in the log?"""
        return self._log_pages >= LOG_PAGES

    def rest(self, idle: bool) -> None:
        """Move the write-ahead log into the file when it is worth it; readers never do."""
        if self._log_pages < (LOG_PAGES if idle else LOG_PAGES_BUSY):
            return
        self._log_pages = 0
        with contextlib.suppress(apsw.BusyError, apsw.FullError):
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    @contextlib.contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """One of the readers; keep it short, since an open one pins the log."""
        connection = self._readers.get()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._readers.put(connection)

    def listen(self, wake: Callable[[Counter[str]], None]) -> None:
        """There is nobody to listen to."""

    def close(self) -> None:
        """Leave one whole file behind."""
        with contextlib.suppress(apsw.Error):
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        while not self._readers.empty():
            self._readers.get().close()
        self.connection.close()

    def _widen_log(self) -> None:
        """Give the log its full size at once, by a transaction that is undone; if that fails, it grows later.

        To sync what overwrites a part of a file takes half as long as what makes it grow: 0.16 instead of
        0.26 ms a commit (ext4), from the first one on instead of from the first time round.
        """
        size = LOG_PAGES_BUSY * self.connection.execute("PRAGMA page_size").get
        if shutil.disk_usage(self.path.parent).free < _ROOM_TIMES * size:
            return
        self.connection.set_busy_timeout(0)
        self.connection.execute("PRAGMA cache_size = 10")  # pages: what is written spills into the log
        try:
            self.statements["widen_log"](self.connection, size=size)
            _sync(self.path.with_name(self.path.name + "-wal"))
        except (apsw.Error, OSError):  # a stranger who reads or writes, a quota: nothing that must stop us
            self.rollback()
        finally:
            self.connection.execute(_WRITERS_CACHE)
            self.connection.set_busy_timeout(_BUSY_MILLISECONDS)

    def _note_log_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._log_pages = pages
        return int(apsw.SQLITE_OK)


class Schema:
    """The schema of a file, as migrations.py sees it; its number is PRAGMA user_version."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def number(self) -> int:
        """The last migration that was applied."""
        present: int = self._connection.execute("PRAGMA user_version").get
        return present

    def migrate(self, steps: list[tuple[int, str]]) -> None:
        """Each step in a transaction of its own."""
        for number, sql in steps:
            own = migrations.own_part("sqlite", number)
            self._connection.execute(f"BEGIN IMMEDIATE; {sql}; {own}; PRAGMA user_version = {number}; COMMIT")


@cache
def named_statements() -> dict[str, Run]:
    """Every statement, to be run on an apsw connection."""
    return statements.load(_runner, "sqlite.sql")


def _runner(kind: Kind, sql: str) -> Run:
    if kind is Kind.INSERT_UPDATE_DELETE_MANY:
        return _many(sql)
    if kind is Kind.SELECT_ONE:
        return lambda connection, **values: connection.execute(sql, values).fetchone()
    if kind is Kind.SELECT_VALUE:
        return lambda connection, **values: connection.execute(sql, values).get
    if kind is Kind.INSERT_UPDATE_DELETE:
        return lambda connection, **values: _change(connection, sql, values)
    return lambda connection, **values: connection.execute(sql, values)


def _change(connection: apsw.Connection, sql: str, values: dict[str, Any]) -> None:
    connection.execute(sql, values)


def _many(sql: str) -> Run:
    # SQLite numbers named parameters by first appearance, so rows can be plain tuples in that
    # order: binding tuples costs half of binding dicts (measured: 0.8 µs less per row).
    names = list(dict.fromkeys(PARAMETER.findall(sql)))

    def run(connection: apsw.Connection, **columns: Any) -> None:
        connection.executemany(sql, columns_to_rows(names, columns))

    return run


def _open_writer(path: Path, durability: str) -> apsw.Connection:
    """The one connection that writes, and alone moves the log into the file."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    answer = connection.execute("PRAGMA journal_mode = WAL").get
    if answer != "wal":
        raise apsw.CantOpenError(f"the file system of {path} does not allow a write-ahead log ({answer})")
    connection.execute(f"PRAGMA synchronous = {durability.upper()}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(_WRITERS_CACHE)
    # A plan may not depend on the values bound: SQLite would look at them and plan again each time.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    _guard(connection)
    return connection


def _sync(path: Path) -> None:
    """So that the first commit need not. (No lock is lost by closing this file: SQLite has none on its log.)"""
    log = os.open(path, os.O_RDONLY)
    try:
        os.fsync(log)
    finally:
        os.close(log)


def _open_reader(path: Path) -> apsw.Connection:
    """A connection that cannot write."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -4096")
    _guard(connection)
    return connection


def _guard(connection: apsw.Connection) -> None:
    for pragma in ("temp_store = MEMORY", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
