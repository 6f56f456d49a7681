"""The two databases of a copy: whatever their engine, rows out in the order of keys, rows in in bites.

The statements are those of sql/copy.sql, filled in with the tables and columns that a database has
which was made by our migrations (`tables`), so that a table of tomorrow is copied like those of today.
What to copy, and when a copy is right, is in copying.py.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from hashlib import blake2b
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol

import apsw

from dispatcher import migrations, statements
from dispatcher.engine import Engine
from dispatcher.sqlite import Schema
from dispatcher.statements import PARAMETER

Row = tuple[Any, ...]

# They belong to a database itself: its lease clock, and who leads its dispatchers.
LOCAL: Final = frozenset({"lease_clock", "leader"})
# Seconds of the lease clock, which each database has its own of; all other times are Unix seconds.
LEASE_TIMES: Final[dict[str, frozenset[str]]] = {
    "tasks": frozenset({"lease_expires_at", "missing_since"}),
    "workers": frozenset({"last_heartbeat"}),
    "limits": frozenset({"opens_at"}),
    "limit_starts": frozenset({"started_at"}),
}
_FETCHED: Final = 100  # rows that a server hands over at once; a row may have a mebibyte


class Table(NamedTuple):
    """A table to copy. `numbered`: its key is one number, which a new row gets by itself."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    numbered: bool

    def position(self, row: Row) -> list[Any]:
        """The key of a row."""
        return [row[self.columns.index(column)] for column in self.key]

    def moved(self, row: Row, lease_shift: float) -> Row:
        """The row as the other database must hold it."""
        times = LEASE_TIMES.get(self.name)
        if times is None:
            return row
        cells = zip(self.columns, row, strict=True)
        return tuple(v + lease_shift if c in times and v is not None else v for c, v in cells)


class Fingerprint(NamedTuple):
    """What a table holds: how many rows, and the sum of their checksums, whatever their order."""

    rows: int
    checksum: int

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Fingerprint:
        """Read every row. repr tells 1 from 1.0 and text from bytes, and is exact for floats."""
        count = total = 0
        for row in rows:
            count += 1
            total += int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest())
        return cls(count, total % 2**64)


class Side(Protocol):
    """An open database. Rows are read outside of the transactions that `writing` makes."""

    engine: Engine
    name: str

    def reading(self) -> AbstractContextManager[Any]:
        """A connection for `rows`, which sees one state."""

    def rows(self, connection: Any, table: Table, after: Sequence[Any] | None = None) -> Iterator[Row]:
        """The rows behind the key `after`, in the order of keys, a few in memory at a time."""

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows."""

    def say(self, word: str, table: Table | None = None, **values: Any) -> list[Row]:
        """Another statement of sql/copy.sql."""


class _Side:
    """What both kinds of side do alike."""

    _files: tuple[str, ...] = ("copy.sql",)

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._texts = {word: text for file in self._files for word, (_, text) in statements.texts(file).items()}

    def reading(self) -> AbstractContextManager[Any]:
        """See Side."""
        return self.engine.reading()

    def say(self, word: str, table: Table | None = None, **values: Any) -> list[Row]:
        """See Side."""
        cursor = self.engine.connection.execute(*self._spelled(word, table, values))
        return [tuple(row) for row in cursor] if cursor.description else []

    def _spelled(self, word: str, table: Table | None, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        text = self._texts[word]
        if table is not None:
            text = text.format(
                table=table.name,
                columns=", ".join(table.columns),
                places=", ".join("?" for _ in table.columns),
                key=", ".join(table.key),
                key_name=f"'{table.key[0]}'",
                position=", ".join(f":{column}" for column in table.key),
            )
        return text, values

    def _query(self, table: Table, after: Sequence[Any] | None) -> tuple[str, Mapping[str, Any]]:
        if after is None:
            return self._spelled("everything", table, {})
        return self._spelled("rest", table, dict(zip(table.key, after, strict=True)))


class SQLiteSide(_Side):
    """A file."""

    def rows(self, connection: Any, table: Table, after: Sequence[Any] | None = None) -> Iterator[Row]:
        """See Side."""
        yield from connection.execute(*self._query(table, after))

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See Side."""
        text, _ = self._spelled("put", table, {})
        self.engine.connection.executemany(text, rows)

    def say(self, word: str, table: Table | None = None, **values: Any) -> list[Row]:
        """See Side."""
        return list(self.engine.connection.execute(*self._spelled(word, table, values)))


class PostgreSQLSide(_Side):
    """A server's database."""

    _files = ("copy.sql", "copy_postgresql.sql")

    def __init__(self, engine: Any, name: str) -> None:
        super().__init__(engine, name)
        engine.features -= {"pipeline"}  # COPY travels alone
        self.say("take_time")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """See Side."""
        with self.engine.reading() as connection:
            connection.execute(self._texts["take_time"])
            yield connection

    def rows(self, connection: Any, table: Table, after: Sequence[Any] | None = None) -> Iterator[Row]:
        """See Side."""
        with connection.cursor("copy") as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(*self._query(table, after))
            yield from cursor

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See Side."""
        text, _ = self._spelled("put", table, {})
        with self.engine.connection.cursor() as cursor, cursor.copy(text.rstrip("; \n")) as copy:
            for row in rows:
                copy.write_row(row)

    def _spelled(self, word: str, table: Table | None, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        text, values = super()._spelled(word, table, values)
        return PARAMETER.sub(r"%(\1)s", text), values


def side(engine: Engine, name: str) -> Side:
    """A side of the kind that this engine needs."""
    return PostgreSQLSide(engine, name) if engine.shared else SQLiteSide(engine, name)


@contextlib.contextmanager
def writing(side: Side, lease_now: float) -> Iterator[None]:
    """One transaction. The lease clock of a file stands still at `lease_now`: nobody serves meanwhile."""
    side.engine.begin()
    try:
        yield
        side.engine.commit(lease_now, Counter(), ())
    except BaseException:
        side.engine.rollback()
        raise


@cache
def tables() -> tuple[Table, ...]:
    """Every table that our migrations make and a copy must hold, by name."""
    connection = _fresh()
    listed: list[tuple[Any, ...]] = connection.execute(statements.texts("copy.sql")["columns"][1]).fetchall()
    found = []
    for name, group in groupby(listed, key=lambda row: str(row[0])):
        columns = list(group)
        key = tuple(column for _, column, _, place in sorted(columns, key=lambda c: c[3]) if place)
        numbered = len(key) == 1 and any(row[1:3] == (key[0], "INTEGER") for row in columns)
        found.append(Table(name, tuple(column for _, column, _, _ in columns), key, numbered))
    return tuple(table for table in found if table.name not in LOCAL)


@cache
def at_birth() -> dict[str, Fingerprint]:
    """What the migrations alone put into each table: a database that holds no more is empty."""
    connection = _fresh()
    words = statements.texts("copy.sql")["everything"][1]

    def rows(table: Table) -> Iterator[Row]:
        columns, key = ", ".join(table.columns), ", ".join(table.key)
        return iter(connection.execute(words.format(table=table.name, columns=columns, key=key)))

    return {table.name: Fingerprint.of(rows(table)) for table in tables()}


def _fresh() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    migrations.apply(Schema(connection))
    return connection
