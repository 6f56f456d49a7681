"""Where a test's dispatcher keeps its data: a SQLite file, or a database on a PostgreSQL server."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import apsw
import psycopg

from analysis.peers.servers import postgresql
from analysis.peers.venv import postgres_folder
from dispatcher import migrations
from dispatcher.engine import Engine
from dispatcher.postgresql import PostgreSQL
from dispatcher.sqlite import SQLite
from shared.settings import FEATURES, ROOT
from tests.support.invariants import check_invariants, check_rows

_numbers = itertools.count(1)
THROW_OUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL"
SINGLETONS = {"baton_schema", "leader", "lease_clock"}
AS_NEW = (
    "UPDATE leader SET term = 0, holder = '', renewed_at = 0; UPDATE lease_clock SET lease_now = 0;"
    "DROP TABLE IF EXISTS unfinished_copy"
)


class Store(Protocol):
    """A database of one test."""

    url: str  # as DATABASE_URL
    engine_name: str

    def open(self) -> Engine:
        """Open it for a dispatcher."""

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look into it with a connection of our own; `?` stands for a value."""

    def check(self) -> None:
        """Assert the invariants."""


class SQLiteStore:
    """A file in `folder`."""

    engine_name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "baton.db"
        self.url = f"sqlite:///{self.path}"

    def open(self) -> Engine:
        if not self.path.exists():
            self.path.write_bytes(_new_file(len(migrations.numbered())))
        return SQLite(self.path, durability="normal")  # no power cut in a test; no wait for the disk either

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(connection.execute(sql, values))
        finally:
            connection.close()

    def check(self) -> None:
        check_invariants(self.path)


@cache
def _new_file(schema: int) -> bytes:
    """A database as at its first start, of this schema: the migrations take longer than most tests."""
    with tempfile.TemporaryDirectory(prefix="baton-test-") as folder:
        path = Path(folder) / "baton.db"
        SQLite(path, durability="normal").close()
        return path.read_bytes()


def check_server(url: str) -> None:
    """Assert the invariants of a database on a server."""
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # The planner may not have heard yet how many rows there are: then it would look at each for each.
        connection.execute("SET LOCAL enable_nestloop = off")
        check_rows(lambda query: connection.execute(query).fetchall())


class PostgreSQLStore:
    """A database of its own on `server`: an empty one, or one like `template`, which is already migrated.

    Making a database takes far longer than emptying one, so those that are dropped are used again.
    """

    engine_name = "postgresql"
    _spare: ClassVar[dict[tuple[str, str], list[str]]] = defaultdict(list)

    def __init__(self, server: str, template: str | None, features: frozenset[str] = FEATURES) -> None:
        self.features = features
        self._server = server
        self._template = template
        spare = self._spare[server, template] if template else []
        self.name = spare.pop() if spare else f"baton_{os.getpid()}_{next(_numbers)}"
        self.url = f"{server.rpartition('/')[0]}/{self.name}"
        if template is None:
            self._administer(f"CREATE DATABASE {self.name}")
        elif self.name.endswith("_used"):
            self._empty()
        else:
            self.name += "_used"
            self.url += "_used"
            self._administer(f"CREATE DATABASE {self.name} TEMPLATE {template}")

    def open(self) -> Engine:
        return PostgreSQL(self.url, self.features, durability="normal")

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.replace("?", "%s"), values or None).fetchall()

    def check(self) -> None:
        check_server(self.url)

    def drop(self) -> None:
        """The test is over."""
        if self._template is None:
            self._administer(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        else:
            self._spare[self._server, self._template].append(self.name)

    def _empty(self) -> None:
        """As after the migrations; what still holds a connection is thrown out."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(THROW_OUT)
            tables = [name for (name,) in connection.execute(TABLES) if name not in SINGLETONS]
            used = [name for (name,) in connection.execute(SEQUENCES)]
            steps = [*(f"DELETE FROM {table}" for table in tables), *(f"ALTER SEQUENCE {s} RESTART" for s in used)]
            connection.execute("; ".join([*steps, AS_NEW]), prepare=False)  # TRUNCATE takes five times as long

    def _administer(self, sql: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a PostgreSQL: that of TEST_DATABASE_URL, or one of our own in a folder anybody may enter."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    fast = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")
    with tempfile.TemporaryDirectory(prefix="baton-postgres-") as folder:
        server_folder = Path(folder) / "server"
        server_folder.mkdir()
        with postgresql(server_folder, postgres_folder(ROOT / ".venv"), *fast) as url:
            yield url


@contextlib.contextmanager
def migrated(server: str) -> Iterator[str]:
    """The name of a database with our schema, to copy."""
    store = PostgreSQLStore(server, None)
    store.open().close()
    try:
        yield store.name
    finally:
        store.drop()
