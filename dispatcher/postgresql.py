"""PostgreSQL: any number of dispatchers on one server, the same statements but for a few.

The schema is in postgresql_schema.py. Time is the server's. Who works alone on a row is decided by row
locks, so a transaction may lose against one of another dispatcher (deadlock, serialization, or a row
that is not as it was read: Overtaken): it is undone as a whole and tried again.

Statements are sent without waiting for the answers of those before them, unless somebody needs these
(a pipeline): a submission waits twice instead of five times, a claim three times instead of six. So an
error may come up with a later statement than its own; the transaction is then tried again with each one
by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import cache
from itertools import chain, islice
from typing import Any, Final

import msgspec
import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from dispatcher import migrations, statements
from dispatcher.clock import ServerClock
from dispatcher.engine import Overtaken
from dispatcher.floors import Floors
from dispatcher.frozen import LOOK_SECONDS, Frozen
from dispatcher.postgresql_problems import check_encoding, check_version
from dispatcher.postgresql_schema import Schema
from dispatcher.statements import PARAMETER, Kind, Run, columns_to_rows
from shared.errors import BatonError, DatabaseUnavailable, Unconfirmed

READERS: Final = 4
CONNECT_SECONDS: Final = 3  # a server that does not answer for so long is away
SHARDS: Final = 64  # two dispatchers that happen to share one only wait for each other
TYPES_TOLD: Final = 100  # a notice has room for 8,000 bytes; whoever misses something looks every second
# psycopg.OperationalError: the line broke, the server stops, a time-out, a full disk, a deadlock.
# psycopg.InternalError: the server only reads, or has ended a transaction that stood still.
_ABORTING: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.errors.UniqueViolation,
    Overtaken,
)
_RETRYABLE: Final = (
    Overtaken,
    psycopg.errors.UniqueViolation,  # another dispatcher was first with that key: now it can be seen
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
)
# The server has looked at a statement and will not do it, so nothing after it was done either, COMMIT least.
_REFUSED: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.NotSupportedError)


class _Notice(msgspec.Struct):
    """What a dispatcher tells the others: tasks by lane that nobody there takes, and where they stand first."""

    sender: str
    arrivals: dict[str, int]
    older: list[str]


class PostgreSQL:
    """A server, reached; an Engine. `features`: what may be asked of it (see settings.py)."""

    shared = True
    errors = (psycopg.Error, PoolTimeout)
    fatal: tuple[type[Exception], ...] = ()  # the server looks after its files
    full = (psycopg.errors.DiskFull, psycopg.errors.ReadOnlySqlTransaction)

    def __init__(
        self, url: str, features: frozenset[str], durability: str = "full", grace_seconds: float = 5.0
    ) -> None:
        self.url = url
        self.features = features
        named = named_statements()
        self._floors = Floors(named["claimable"], named["claimable_after"])
        self.statements: dict[str, Run] = {**named, "claimable": self._floors.claimable}
        self.clock = ServerClock(grace_seconds)
        self.shard = secrets.randbelow(SHARDS)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        own = statements.texts("postgresql.sql")
        self._server_time = _text(own["server_time"][1])
        self._synchronous_commit = "on" if durability == "full" else "off"
        self._committing = False
        self._pipeline = contextlib.ExitStack()
        self._is_pipelining = False  # do the statements of this transaction travel together …
        self._one_by_one = False  # … or must they not, the next time?
        self._asked: psycopg.Cursor[Any] | None = None  # what time it is
        self._closing = threading.Event()
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings would only repeat what callers hear
        self._connection: psycopg.Connection[Any] | None = self._connect(writes=True)
        self._server = _address(self._connection)
        try:
            check_version(self.statements["server_version"](self._connection))
            check_encoding(self._connection.info.parameter_status("server_encoding"))
            migrations.apply(Schema(self._connection, self.statements))
        except BaseException:
            self._connection.close()
            raise
        self._readers = ConnectionPool(
            url,
            kwargs=self._options(),
            configure=self._configure,
            min_size=1,
            max_size=READERS,
            timeout=CONNECT_SECONDS,
            reconnect_timeout=CONNECT_SECONDS,
            check=ConnectionPool.check_connection,
            open=True,
        )

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection that writes."""
        assert self._connection is not None, "begin() connects"
        return self._connection

    @property
    def aborting(self) -> tuple[type[Exception], ...]:
        """The line broke, the server stops, a time-out, a full disk, a deadlock; or whose mistake is not known."""
        return (psycopg.Error, Overtaken) if self._is_pipelining else _ABORTING

    @property
    def retryable(self) -> tuple[type[Exception], ...]:
        """Another dispatcher was faster; or a statement was refused, and whose it was is known the next time."""
        return (*_RETRYABLE, *_REFUSED) if self._is_pipelining else _RETRYABLE

    def begin(self) -> None:
        """Begin a transaction and ask for the server's time."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect(writes=True)
            self._follow(_address(self._connection))
        self._committing = False
        self._is_pipelining = "pipeline" in self.features and not self._one_by_one
        if self._is_pipelining:
            self._pipeline.enter_context(self._connection.pipeline())
        self._asked = self._say("BEGIN", self._server_time)
        self._savepoint: tuple[str, ...] = ("SAVEPOINT operation",)

    def _follow(self, server: tuple[str, int]) -> None:
        """Readers go where the writer goes: at the old server they would see what was true once."""
        if server != self._server:
            self._server = server
            self._readers.drain()

    def hear_time(self) -> None:
        """Wait for the server's time, if it has not been heard yet."""
        if self._asked is not None:
            ((now,),) = self._asked.fetchall()
            self._asked = None
            self.clock.observe(now)

    def _say(self, *words: str) -> psycopg.Cursor[Any]:
        """Statements without parameters, in one way there and back; the answer to the last of them."""
        if self._is_pipelining:
            return [self.connection.execute(text) for text in words][-1]
        said = self.connection.execute("; ".join(words), prepare=False)
        while said.nextset():
            pass
        return said

    def savepoint(self) -> None:
        """What follows can be undone by itself."""
        self._say(*self._savepoint)
        self._savepoint = ("RELEASE SAVEPOINT operation", "SAVEPOINT operation")

    def undo(self) -> None:
        """Undo what happened since the savepoint."""
        self._floors.forget()
        self._say("ROLLBACK TO SAVEPOINT operation")

    def commit(self, lease_now: float, arrivals: Counter[str], older: Collection[str]) -> None:
        """Keep everything; one notice at most for all that arrived."""
        self._floors.forget(older)
        if arrivals and "notify" in self.features:
            told = dict(arrivals.most_common(TYPES_TOLD))
            before = [lane for lane in told if lane in older]
            message = msgspec.json.encode(_Notice(self.name, told, before)).decode()
            self.statements["notify"](self.connection, message=message)
        self._committing = True
        self._say("COMMIT")
        self._pipeline.close()  # waits for all answers
        self._committing = self._one_by_one = False

    def rollback(self) -> None:
        """Undo everything; a line that is broken has undone it already."""
        self._floors.forget()
        self._asked = None
        self._one_by_one |= self._is_pipelining  # until something has been kept
        try:
            with contextlib.suppress(psycopg.Error):  # known already
                self._pipeline.close()
            self.connection.execute("ROLLBACK")
        except (psycopg.Error, AssertionError):
            self._let_go()

    def refusal(self, error: Exception) -> BatonError:
        """A line that breaks during the commit leaves open whether it happened.

        One to a server that only reads is let go: the next may lead to another, or to one that writes again.
        """
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        unknown = self._committing and self._connection is None
        self._committing = False
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._let_go()
        if unknown:
            return Unconfirmed(
                f"the line to the database broke during the commit ({reason}); look before you repeat"
            )
        return DatabaseUnavailable(f"the database cannot be written now ({reason}); nothing was stored")

    def _let_go(self) -> None:
        """Of the connection that writes; begin() makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @property
    def is_tired(self) -> bool:
        """Never: the server sweeps by itself."""
        return False

    def rest(self, idle: bool) -> None:
        """The server sweeps by itself."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[psycopg.Connection[Any]]:
        """One of the readers, on one snapshot."""
        with self._readers.connection() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield connection
            finally:
                if not connection.closed:
                    connection.execute("COMMIT")  # after a ROLLBACK psycopg forgets what it has prepared

    def listen(self, wake: Callable[[Counter[str]], None]) -> None:
        """Hear from the other dispatchers in a thread with a connection of its own; look after them in another."""
        threading.Thread(target=self._end_frozen, name="frozen", daemon=True).start()
        if "notify" in self.features:
            threading.Thread(target=self._listen, args=(wake,), name="listener", daemon=True).start()

    def close(self) -> None:
        """Let the connections go."""
        self._closing.set()
        self._readers.close()
        self._let_go()

    def _end_frozen(self) -> None:
        frozen = Frozen(self.statements)
        while not self._closing.wait(LOOK_SECONDS):
            with contextlib.suppress(*self.errors), self.reading() as connection:
                frozen.end(connection)

    def _listen(self, wake: Callable[[Counter[str]], None]) -> None:
        while not self._closing.is_set():
            server = self._server
            with contextlib.suppress(psycopg.Error, OSError), self._connect() as connection:
                self.statements["listen"](connection)
                while not self._closing.is_set() and server == self._server:
                    for notice in connection.notifies(timeout=1.0, stop_after=1):
                        self._hear(notice.payload, wake)
            self._closing.wait(1.0)  # the server is away; the monitor's second look serves meanwhile

    def _hear(self, message: str, wake: Callable[[Counter[str]], None]) -> None:
        with contextlib.suppress(msgspec.MsgspecError):  # not of a dispatcher, or of another version
            told = msgspec.json.decode(message, type=_Notice)
            if told.sender != self.name:
                self._floors.forget(told.older)
                wake(Counter(told.arrivals))

    def _connect(self, writes: bool = False) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.url, **self._options())
        try:
            self._configure(connection)
            if writes:
                self.statements["configure_writer"](connection)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        self.statements["configure"](connection, synchronous_commit=self._synchronous_commit)

    def _options(self) -> dict[str, Any]:
        """Transactions are begun in words; statements are prepared at their first use, if they may be."""
        return {
            "autocommit": True,
            "connect_timeout": CONNECT_SECONDS,
            "prepare_threshold": 0 if "prepare" in self.features else None,
            "application_name": "baton",
            "client_encoding": "UTF8",  # whatever PGCLIENTENCODING says
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        }


@cache
def named_statements() -> dict[str, Run]:
    """Every statement, to be run on a psycopg connection."""
    return statements.load(_runner, "postgresql.sql")


def _text(sql: str) -> str:
    """psycopg takes %(name)s; a lone % would be read as one of those."""
    return PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%") if PARAMETER.search(sql) else sql).strip().rstrip(";")


def _runner(kind: Kind, sql: str) -> Run:
    names = list(dict.fromkeys(PARAMETER.findall(sql)))
    text = _text(sql)

    def rows(connection: psycopg.Connection[Any], **values: Any) -> psycopg.Cursor[Any]:
        return connection.execute(text, values or None)

    def one(connection: psycopg.Connection[Any], **values: Any) -> Any:
        return connection.execute(text, values or None).fetchone()

    def value(connection: psycopg.Connection[Any], **values: Any) -> Any:
        row = connection.execute(text, values or None).fetchone()
        return None if row is None else row[0]

    def change(connection: psycopg.Connection[Any], **values: Any) -> None:
        connection.execute(text, values or None)

    def many(connection: psycopg.Connection[Any], **columns: Any) -> None:
        given = (dict(zip(names, row, strict=True)) for row in columns_to_rows(names, columns))
        with connection.cursor() as cursor:
            few = list(islice(given, 2))
            if len(few) > 1:
                cursor.executemany(text, chain(few, given))
            elif few:  # alone it needs no pipeline, which costs a way there and back more
                cursor.execute(text, few[0])

    runners: dict[Kind, Run] = {
        Kind.SELECT_ONE: one,
        Kind.SELECT_VALUE: value,
        Kind.INSERT_UPDATE_DELETE: change,
        Kind.INSERT_UPDATE_DELETE_MANY: many,
    }
    return runners.get(kind, rows)


def _address(connection: psycopg.Connection[Any]) -> tuple[str, int]:
    """Of the server, whatever it is called in the URL."""
    return connection.info.hostaddr, connection.info.port
