"""Roles as docs/postgresql.md sets them up, and what a dispatcher says that cannot start."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from dispatcher import postgresql, postgresql_problems
from dispatcher.__main__ import main
from dispatcher.database import Database
from dispatcher.engine import Engine
from dispatcher.postgresql import PostgreSQL
from dispatcher.postgresql_problems import explained
from shared import errors
from shared.log import Log
from shared.settings import FEATURES, ROOT, Settings
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.messages import checkpoint, completed, failed
from tests.support.stores import PostgreSQLStore
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until

DOCUMENT = (ROOT / "docs" / "postgresql.md").read_text()


def documented(heading: str, name: str) -> list[str]:
    """The statements under a heading, for roles and a database called after `name`."""
    block = re.findall(rf"<!-- {heading} -->\n```sql\n(.*?)```", DOCUMENT, re.DOTALL)[0]
    renamed = re.sub(r"\bbaton(_owner)?\b", rf"{name}\1", block)
    return [statement for statement in renamed.split(";\n") if statement.strip()]


class SeparateRoles(PostgreSQLStore):
    """A database whose schema its owner makes, opened as the role that may only run."""

    def __init__(self, server: str) -> None:
        super().__init__(server, None)
        self._administer(f"DROP DATABASE {self.name}")
        for statement in documented("run as a superuser", self.name):
            self._administer(statement)
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in documented("run in the database", self.name):
                connection.execute(statement)
        self.owner_url = self._as(f"{self.name}_owner")
        self.runner_url = self._as(self.name)

    def _as(self, role: str) -> str:
        return re.sub(r"//[^@]*@", f"//{role}@", self.url)

    def open(self) -> Engine:
        return PostgreSQL(self.runner_url, FEATURES, durability="normal")

    def drop(self) -> None:
        super().drop()
        for role in (f"{self.name}_owner", self.name):
            self._administer(f"DROP ROLE IF EXISTS {role}")


@pytest.fixture
def roles(postgres: tuple[str, str]) -> Iterator[SeparateRoles]:
    store = SeparateRoles(postgres[0])
    yield store
    store.drop()


def start(url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """`python -m dispatcher` in this process; for starts that are refused."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DISPATCHER_PORT", "0")
    monkeypatch.setattr(Database, "__init__", _started)
    return CliRunner().invoke(main, list(arguments))


def _started(*_: object, **__: object) -> None:
    raise AssertionError("the dispatcher would have started")


def migrate(roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the owner, once."""
    with monkeypatch.context() as patched:
        assert start(roles.owner_url, patched, "migrate").exit_code == 0


def bring(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A newer version is installed, whose schema has a change."""
    newer = [*postgresql.migrations.numbered(), (9000, change)]
    monkeypatch.setattr(postgresql.migrations, "numbered", lambda: newer)


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, (result.output, result.exception)
    (sentence,) = result.output.strip().splitlines()
    assert [word for word in words if word not in sentence] == [], sentence


# --- roles


def test_the_owner_migrates_and_the_restricted_role_runs(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(roles, monkeypatch)
    clock = FakeClock()
    dispatcher = Dispatcher(roles, clock, retention_days=1.0)
    tasks = Builder(dispatcher)

    grant = tasks.start("w1", payload={"a": 1}, tags=["t"])
    tasks.save(checkpoint(grant, 1, {"at": 1}, output=("chunk",)))
    tasks.report(completed(grant))
    lost = tasks.start("w2")
    tasks.fall_silent()
    tasks.report(failed(tasks.claim_one("w3")), worker="w3")
    views = dispatcher.records.stats()
    clock.advance(2 * 86400)
    dispatcher.monitor.run_once()
    dispatcher.close()

    assert tasks.dispatcher.rows("SELECT task_id, status FROM tasks") == [(lost.task_id, "pending")]
    assert views["oldest_transaction_seconds"] >= 0
    roles.check()


def test_the_restricted_role_cannot_change_the_schema(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(roles.owner_url, monkeypatch, "migrate")

    with psycopg.connect(roles.runner_url) as connection:
        for forbidden in (
            "CREATE TABLE mine (a int)",
            "DROP TABLE tasks",
            "ALTER TABLE tasks ADD COLUMN mine int",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(forbidden)


def test_without_a_schema_the_restricted_role_is_told_who_makes_it(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_refused(start(roles.runner_url, monkeypatch), "python -m dispatcher migrate", "its owner")


def test_an_old_schema_is_refused_by_a_role_that_may_not_change_it(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(roles, monkeypatch)
    bring(monkeypatch, "CREATE TABLE later (a INTEGER PRIMARY KEY);")

    assert_refused(start(roles.runner_url, monkeypatch), "python -m dispatcher migrate", "its owner")


def test_an_upgrade_beside_a_backup_is_told_what_it_waits_for(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(roles, monkeypatch)
    bring(monkeypatch, "ALTER TABLE tasks ADD COLUMN later INTEGER;")

    with psycopg.connect(roles.url) as backup:
        backup.execute("LOCK TABLE tasks IN ACCESS SHARE MODE")
        result = start(roles.owner_url, monkeypatch, "migrate")

    assert_refused(result, "lock timeout", "such as a backup")


def test_a_new_database_on_a_server_that_only_reads_is_refused(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(roles.url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {roles.name}_owner SET default_transaction_read_only = on")

    assert_refused(start(roles.owner_url, monkeypatch), "read-only", "name the one that writes")


def test_a_newer_schema_is_refused(roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(roles, monkeypatch)
    with psycopg.connect(roles.url) as connection:
        connection.execute("UPDATE baton_schema SET number = 9999")

    assert_refused(start(roles.runner_url, monkeypatch), "schema 9999", "start the newer version")


def test_a_role_without_any_rights_is_told_so(roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(roles, monkeypatch)
    with psycopg.connect(roles.url) as connection:
        connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {roles.name}")

    assert_refused(start(roles.runner_url, monkeypatch), "permission denied", "grant the rights")


def test_a_role_that_may_not_enter_the_schema_is_told_so(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(roles.url) as connection:
        connection.execute(f"REVOKE USAGE ON SCHEMA public FROM {roles.name}")

    assert_refused(start(roles.runner_url, monkeypatch), "no schema", "grant it the rights")


# --- bad days at the start


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres: tuple[str, str], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    store = PostgreSQLStore(postgres[0], None)
    store._administer(f"DROP DATABASE {store.name}")
    store._administer(f"CREATE DATABASE {store.name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        assert_refused(start(store.url, monkeypatch), encoding, "ENCODING 'UTF8' LOCALE 'C'")
    finally:
        store.drop()


def test_texts_are_sent_as_utf_8_whatever_the_environment_says(
    postgres: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = PostgreSQLStore(postgres[0], None)
    try:
        tasks = Builder(Dispatcher(store, FakeClock()))
        task_id = tasks.submit(tags=["√2 ist 1,41…"])
        assert tasks.view(task_id).tags == ["√2 ist 1,41…"]
        tasks.dispatcher.close()
    finally:
        store.drop()


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres:hunter2@127.0.0.1:1/baton", ("is the server running",)),
        ("postgresql://postgres:hunter2@nowhere.invalid/baton", ("is the server running, and the URL right",)),
        ("postgresql://postgres:hunter2@127.0.0.1:notaport/baton", ("DATABASE_URL",)),
        ("postgresql://postgres@127.0.0.1:1/baton?password=hunter2&nosuchoption=1", ("nosuchoption",)),
    ],
)
def test_a_wrong_url_is_a_sentence_without_the_password(
    url: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = start(url, monkeypatch)

    assert_refused(result, *words)
    assert SECRET not in result.output
    assert SECRET not in Settings(database_url=url).database_name


def test_a_missing_database_or_role_is_named(postgres: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    base = postgres[0].rpartition("/")[0]

    assert_refused(start(f"{base}/no_such_database", monkeypatch), "no_such_database", "createdb")
    assert_refused(
        start(re.sub(r"//[^@]*@", "//nosuchrole@", postgres[0]), monkeypatch),
        "nosuchrole",
        "docs/postgresql.md, Set-up",
    )


def test_a_wrong_password_is_named_as_what_to_check() -> None:
    problem = psycopg.OperationalError('FATAL:  password authentication failed for user "baton"')

    assert explained(problem).endswith("check the user and the password in it")


def test_an_old_server_is_refused(postgres: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_problems, "OLDEST", 990_000)

    assert_refused(start(postgres[0], monkeypatch), "needs 99 or newer", "upgrade it")


def test_a_server_that_does_not_know_our_settings_is_refused_as_too_old(
    postgres: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def configure(connection: psycopg.Connection[Any], **_: object) -> None:
        connection.execute("SELECT set_config('plan_cache_mode_of_12', 'auto', false)")  # 11 has none

    named = {**postgresql.named_statements(), "configure_writer": configure}
    monkeypatch.setattr(postgresql, "named_statements", lambda: named)

    assert_refused(start(postgres[0], monkeypatch), "plan_cache_mode_of_12", "PostgreSQL 14 or newer")


def test_a_host_that_does_not_answer_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS", 2)  # the least that libpq takes

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/baton"
        result = Call(start, url, monkeypatch).result(LIMIT_SECONDS)

    assert_refused(result, "timeout", "is the server running")


# --- a full table of connections


@contextlib.contextmanager
def connection_limit(roles: SeparateRoles, count: int) -> Iterator[None]:
    with psycopg.connect(roles.url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {roles.name} CONNECTION LIMIT {count}")
        yield
        connection.execute(f"ALTER ROLE {roles.name} CONNECTION LIMIT -1")


def test_a_full_table_of_connections_refuses_the_start(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(roles, monkeypatch)

    with connection_limit(roles, 0):
        assert_refused(start(roles.runner_url, monkeypatch), "too many connections", "raise max_connections")


def test_a_full_table_of_connections_in_service_is_a_503_until_there_is_room(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(roles, monkeypatch)
    database = Database(roles.open(), log=Log("dispatcher"), on_fatal=print)
    with connection_limit(roles, 0), psycopg.connect(roles.url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (roles.name,)
        )
        for _ in range(2):
            with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
                database.write(lambda tx: None)
        with pytest.raises(errors.DatabaseUnavailable, match="cannot be read now"), database.read() as tx:
            tx.next_due()
        assert database.trouble is not None

    wait_until(lambda: _writes(database), "the writer to be back")
    with database.read() as tx:
        assert tx.next_due() is None
    database.close()


def test_a_server_that_cannot_be_reached_adds_no_lines_of_others_to_the_log(
    roles: SeparateRoles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(roles, monkeypatch)
    database = Database(roles.open(), log=Log("dispatcher"), on_fatal=print)
    with connection_limit(roles, 0), psycopg.connect(roles.url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (roles.name,)
        )
        with pytest.raises(errors.DatabaseUnavailable, match="cannot be read now"), database.read() as tx:
            tx.next_due()
    database.close()

    assert caplog.messages == []


def _writes(database: Database) -> bool:
    try:
        database.write(lambda tx: None)
    except errors.Unavailable:
        return False
    return True
