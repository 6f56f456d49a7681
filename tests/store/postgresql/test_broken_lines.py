"""PostgreSQL's bad moments: broken lines are mended, who cannot write says 503, and nobody hears a lie."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from analysis.peers.servers import postgresql
from analysis.peers.venv import postgres_folder
from dispatcher.postgresql import PostgreSQL
from shared import errors
from shared.settings import ROOT
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.messages import completed
from tests.support.stores import THROW_OUT, PostgreSQLStore, Store
from tests.support.troubles import FEATURES, ONCE, failing, ids, kill_line, losing, parked, stranger
from tests.support.waiting import wait_until


def test_a_line_that_breaks_before_the_commit_is_a_503_and_the_next_write_works(tasks: Builder) -> None:
    failing(tasks.dispatcher, "add_count", kill_line(tasks.dispatcher.store))

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored") as refused:
        tasks.submit()
    task_id = tasks.submit()

    assert refused.value.code == "database_unavailable"
    assert tasks.dispatcher.rows("SELECT task_id FROM tasks") == [(task_id,)]
    assert [len(tasks.dispatcher.events(name)) for name in ("write_failed", "write_recovered")] == [1, 1]


def test_a_server_without_room_counts_as_full_although_small_writes_succeed(tasks: Builder) -> None:
    failing(tasks.dispatcher, "add_count", losing(psycopg.errors.DiskFull))

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
        tasks.submit()
    tasks.submit()

    with pytest.raises(errors.DatabaseUnavailable, match="a write failed within the last 5 s"):
        tasks.dispatcher.database.probe(3.0)


def test_a_server_that_only_reads_is_a_503_for_all_and_written_to_again_in_a_new_session(
    tasks: Builder, store: PostgreSQLStore
) -> None:
    database = tasks.dispatcher.database
    with only_reading(store):
        for _ in range(4):
            with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
                tasks.submit()
        with pytest.raises(errors.DatabaseUnavailable, match="read-only transaction"):
            database.probe(3.0)

    with pytest.raises(errors.DatabaseUnavailable, match="read-only transaction"):
        tasks.submit()  # the last session of that time
    assert tasks.status(tasks.submit()) == "pending"


@contextlib.contextmanager
def only_reading(store: PostgreSQLStore, writer: psycopg.Connection[Any] | None = None) -> Iterator[None]:
    """New sessions may not write, nor may the `writer`; without it there are no old ones, as at a switch-over."""
    with stranger(store) as other:
        other.execute(f"ALTER DATABASE {store.name} SET default_transaction_read_only = on")
        if writer is None:
            other.execute(THROW_OUT)
        else:
            writer.execute("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            other.execute(f"ALTER DATABASE {store.name} RESET default_transaction_read_only")


@ONCE
def test_readers_follow_the_writer_to_another_server(store: PostgreSQLStore, clock: FakeClock) -> None:
    here = store.url
    with second_server(store) as both:
        store.url = both
        tasks = Builder(Dispatcher(store, clock))
        tasks.cancel(tasks.submit())
        assert tasks.status(1) == "cancelled"
        store.url = here
        with only_reading(store, tasks.dispatcher.database.engine.connection):
            with pytest.raises(errors.DatabaseUnavailable, match="read-only transaction"):
                tasks.submit()
            there = tasks.submit()

            assert (there, tasks.status(there)) == (1, "pending")
            tasks.dispatcher.close()


@contextlib.contextmanager
def second_server(store: PostgreSQLStore) -> Iterator[str]:
    """A URL of `store` that names another server, too, with an empty database of the same name."""
    first = urlsplit(store.url)
    with tempfile.TemporaryDirectory(prefix="baton-postgres-") as folder:
        inner = Path(folder) / "server"
        inner.mkdir()
        with postgresql(inner, postgres_folder(ROOT / ".venv"), "fsync=off") as url:
            other = urlsplit(url)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {store.name}")
            PostgreSQL(other._replace(path=first.path).geturl(), frozenset()).close()
            yield store.url.replace(first.netloc, f"{first.netloc},{other.netloc.rpartition('@')[2]}") + (
                "?target_session_attrs=read-write"
            )


@pytest.mark.parametrize("store", [FEATURES[1], FEATURES[4]], indirect=True, ids=["alone", "none"])
def test_who_stood_still_for_too_long_within_a_transaction_hears_a_503(tasks: Builder) -> None:
    def stand_still(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
        wait_until(lambda: not _backend_lives(tasks.dispatcher, connection), "the server to end it")

    failing(tasks.dispatcher, "add_count", stand_still)

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
        tasks.submit()
    assert tasks.status(tasks.submit()) == "pending"


def _backend_lives(dispatcher: Dispatcher, connection: psycopg.Connection[Any]) -> bool:
    lives = "SELECT 1 FROM pg_stat_activity WHERE pid = ?"
    return bool(dispatcher.rows(lives, connection.info.backend_pid))


BREAKS_THE_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION die();
"""


def test_a_line_that_breaks_during_the_commit_says_that_nothing_is_certain(tasks: Builder) -> None:
    with stranger(tasks.dispatcher.store) as other:
        other.execute(BREAKS_THE_COMMIT)

        with pytest.raises(errors.Unconfirmed, match="look before you repeat") as refused:
            tasks.submit()

        other.execute("DROP FUNCTION die() CASCADE")
    assert (refused.value.code, refused.value.http_status) == ("unconfirmed", 503)
    assert tasks.status(tasks.submit()) == "pending"


def test_after_a_broken_line_nobody_is_judged_silent_for_a_while(tasks: Builder) -> None:
    tasks.start()
    failing(tasks.dispatcher, "add_count", kill_line(tasks.dispatcher.store))
    with pytest.raises(errors.DatabaseUnavailable):
        tasks.submit()

    tasks.advance(3)

    assert tasks.dispatcher.ledger.reclaim_silent() == 0


def test_readers_recover_at_once(tasks: Builder) -> None:
    task_id = tasks.submit()
    assert tasks.status(task_id) == "pending"

    with stranger(tasks.dispatcher.store) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert tasks.status(task_id) == "pending"


@ONCE
def test_a_repeated_report_after_a_broken_line_counts_once(tasks: Builder) -> None:
    grant = tasks.start()
    failing(tasks.dispatcher, "record_results", kill_line(tasks.dispatcher.store))

    with pytest.raises(errors.DatabaseUnavailable):
        tasks.report(completed(grant))
    answers = [tasks.report(completed(grant)) for _ in range(2)]

    assert [answer.lost for answer in answers] == [[], []]
    assert tasks.outcomes(grant.task_id) == ["completed"]


@ONCE
def test_a_server_that_is_away_is_a_503_until_it_is_back(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tasks.dispatcher.database.engine
    assert isinstance(engine, PostgreSQL)
    here = engine.url
    failing(tasks.dispatcher, "add_count", kill_line(tasks.dispatcher.store))
    with pytest.raises(errors.DatabaseUnavailable):
        tasks.submit()
    engine.url = "postgresql://postgres@127.0.0.1:1/nowhere"

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
        tasks.submit()
    in_between = tasks.dispatcher.database.trouble
    engine.url = here

    assert in_between is not None
    assert tasks.status(tasks.submit()) == "pending"


@ONCE
def test_a_parked_claim_waits_on_while_the_line_is_mended(tasks: Builder) -> None:
    call = parked(tasks)
    failing(tasks.dispatcher, "cancel", kill_line(tasks.dispatcher.store))
    later = tasks.submit(delay_seconds=60)
    with pytest.raises(errors.DatabaseUnavailable):
        tasks.cancel(later)

    task_id = tasks.submit()

    assert ids(call.result()) == [task_id]


# --- the clock


@ONCE
def test_the_server_s_clock_decides(postgres: tuple[str, str], store: Store) -> None:
    engine = store.open()
    try:
        engine.begin()
        told = engine.clock.wall()
        ((now,),) = store.rows("SELECT extract(epoch FROM clock_timestamp())::float8")
        engine.rollback()
    finally:
        engine.close()

    assert abs(now - told) < 1.0
    assert not isinstance(engine.clock, FakeClock)


@ONCE
def test_no_password_reaches_the_log(store: PostgreSQLStore, clock: FakeClock) -> None:
    store.url = store.url.replace("//postgres@", "//postgres:hunter2@")  # the test's server asks for none
    tasks = Builder(Dispatcher(store, clock))
    failing(tasks.dispatcher, "add_count", kill_line(store))
    with pytest.raises(errors.DatabaseUnavailable) as refused:
        tasks.submit()
    tasks.dispatcher.close()

    assert tasks.dispatcher.events("write_failed")
    assert "hunter2" not in tasks.dispatcher.log_stream.getvalue() + str(refused.value)
