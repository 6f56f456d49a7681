"""PostgreSQL's bad moments: lost races are run again, broken lines are mended, and nobody hears a lie."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from analysis.peers.servers import postgresql
from analysis.peers.venv import postgres_folder
from dispatcher import database as database_module
from dispatcher.postgresql import PostgreSQL
from dispatcher.transaction import Transaction
from shared import errors
from shared.protocol import ExchangeAnswer
from shared.settings import ROOT
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.messages import completed
from tests.support.stores import THROW_OUT, PostgreSQLStore, Store
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until
from tests.support.writer_held import WriterHeld

FEATURES = [
    {"notify", "prepare", "pipeline"},
    {"notify", "prepare"},
    {"prepare", "pipeline"},
    {"notify", "pipeline"},
    set(),
]
RACES = [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.LockNotAvailable]


@pytest.fixture(params=FEATURES, ids=lambda features: "+".join(sorted(features)) or "neither")
def store(request: pytest.FixtureRequest, postgres: tuple[str, str]) -> Iterator[Store]:
    """A database on PostgreSQL, used with and without what poolers and likenesses lack."""
    made = PostgreSQLStore(*postgres, frozenset(request.param))
    yield made
    made.drop()


ONCE = pytest.mark.parametrize("store", FEATURES[:1], indirect=True, ids=["all"])


def failing(dispatcher: Dispatcher, name: str, act: Callable[[Any], None], times: int = 1) -> list[int]:
    """The statement `name` is preceded by `act(connection)` so many times; gives the calls so far."""
    engine = dispatcher.database.engine
    run = engine.statements[name]
    calls: list[int] = []

    def wrapped(connection: Any, **values: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            act(connection)
        return run(connection, **values)

    engine.statements = {**engine.statements, name: wrapped}
    return calls


def losing(race: type[psycopg.Error]) -> Callable[[Any], None]:
    """Fails as a transaction does that lost against another one."""

    def lose(connection: Any) -> None:
        raise race("the other one was faster")

    return lose


def stranger(store: Store) -> psycopg.Connection[Any]:
    return psycopg.connect(store.url, autocommit=True)


def kill_line(store: Store) -> Callable[[Any], None]:
    """Ends the server's process behind a connection."""

    def kill(connection: psycopg.Connection[Any]) -> None:
        with stranger(store) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

    return kill


def parked(tasks: Builder, worker: str = "w1") -> Call:
    database = tasks.dispatcher.database
    before = len(database._parked)
    call = Call(tasks.say, worker, want=1, wait_seconds=LIMIT_SECONDS)
    wait_until(lambda: len(database._parked) > before, "the claim to be parked")
    return call


def ids(answer: ExchangeAnswer) -> list[int]:
    return [grant.task_id for grant in answer.tasks]


# --- a transaction that loses against another dispatcher's


@ONCE
@pytest.mark.parametrize("race", RACES)
def test_a_lost_race_is_run_again_and_nobody_hears_of_it(tasks: Builder, race: type[psycopg.Error]) -> None:
    calls = failing(tasks.dispatcher, "submit", losing(race), database_module.TRIES - 1)

    task_id = tasks.submit()

    assert len(calls) == database_module.TRIES
    assert tasks.dispatcher.rows("SELECT task_id FROM tasks") == [(task_id,)]
    assert tasks.dispatcher.events("write_failed") == []


@ONCE
def test_a_race_lost_too_often_is_a_503_and_nothing_is_stored(tasks: Builder) -> None:
    failing(tasks.dispatcher, "add_count", losing(RACES[0]), database_module.TRIES)

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored") as refused:
        tasks.submit()

    assert type(refused.value) is errors.DatabaseUnavailable
    assert refused.value.retry_after_seconds > 0
    assert tasks.dispatcher.rows("SELECT * FROM tasks") == []
    assert tasks.status(tasks.submit()) == "pending"


def test_a_parked_claim_survives_the_lost_race_of_the_transaction_that_serves_it(tasks: Builder) -> None:
    call = parked(tasks)
    failing(tasks.dispatcher, "claim", losing(RACES[0]))

    task_id = tasks.submit()

    assert ids(call.result()) == [task_id]
    assert tasks.status(task_id) == "in-progress"


def test_a_parked_claim_is_answered_when_the_transaction_that_serves_it_is_given_up(tasks: Builder) -> None:
    call = parked(tasks)
    failing(tasks.dispatcher, "claim", losing(RACES[0]), database_module.TRIES)

    with pytest.raises(errors.DatabaseUnavailable):
        tasks.submit()

    with pytest.raises(errors.DatabaseUnavailable):
        call.result()
    assert tasks.dispatcher.rows("SELECT * FROM tasks") == []


# --- statements that travel together


def travel_together(tx: Transaction) -> bool:
    connection: psycopg.Connection[Any] = tx._connection
    return connection.info.pipeline_status is psycopg.pq.PipelineStatus.ON


def do_what_the_server_refuses(tx: Transaction) -> None:
    tx.place(task_id=[1], place=9)


def test_statements_travel_together_if_they_may(tasks: Builder, store: PostgreSQLStore) -> None:
    assert tasks.dispatcher.database.write(travel_together) is ("pipeline" in store.features)


def prepared(tx: Transaction) -> str:
    """What the server has of this connection, ready to run."""
    connection: psycopg.Connection[Any] = tx._connection
    return "\n".join(text for (text,) in connection.execute("SELECT statement FROM pg_prepared_statements"))


def test_what_is_said_in_each_transaction_is_prepared_if_it_may(tasks: Builder, store: PostgreSQLStore) -> None:
    tasks.submit()

    kept = tasks.dispatcher.database.write(prepared)

    assert ("clock_timestamp" in kept) is ({"prepare", "pipeline"} <= store.features)


def test_a_reader_does_not_have_its_statements_planned_again_if_it_may(
    tasks: Builder, store: PostgreSQLStore
) -> None:
    again: list[str] = []
    seen: set[object] = set()
    while not again:  # by the fifth time one of the four readers has come again
        with tasks.dispatcher.database.read() as tx:
            if tx._connection in seen:
                again.append(prepared(tx))
            tx.pending_lanes().fetchall()
            seen.add(tx._connection)

    assert ("FROM task_counts" in again[0]) is ("prepare" in store.features)


def test_what_the_server_refuses_is_heard_by_who_asked_for_it_and_nobody_else(tasks: Builder) -> None:
    tasks.submit()
    database = tasks.dispatcher.database

    with WriterHeld(database) as held:
        before = Call(tasks.submit)
        held.wait_for_queued(1)
        refused = Call(database.write, do_what_the_server_refuses)
        held.wait_for_queued(2)
        after = Call(tasks.submit)
        held.wait_for_queued(3)

    stored = [1, before.result(), after.result()]
    with pytest.raises(psycopg.IntegrityError):
        refused.result()
    assert tasks.dispatcher.rows("SELECT task_id FROM tasks ORDER BY 1") == [(task_id,) for task_id in stored]


def test_several_refusals_in_one_transaction_are_heard_each_by_its_own_caller(tasks: Builder) -> None:
    tasks.submit()
    database = tasks.dispatcher.database

    with WriterHeld(database) as held:
        first = Call(database.write, do_what_the_server_refuses)
        held.wait_for_queued(1)
        second = Call(database.write, do_what_the_server_refuses)
        held.wait_for_queued(2)
        last = Call(tasks.submit)
        held.wait_for_queued(3)

    for refused in (first, second):
        with pytest.raises(psycopg.IntegrityError):
            refused.result()
    assert tasks.dispatcher.rows("SELECT task_id FROM tasks ORDER BY 1") == [(1,), (last.result(),)]


def test_what_the_server_refuses_last_is_not_stored_and_the_next_is(
    tasks: Builder, store: PostgreSQLStore
) -> None:
    tasks.submit()
    database = tasks.dispatcher.database

    with pytest.raises(psycopg.IntegrityError):
        database.write(do_what_the_server_refuses)

    assert tasks.submit() == 2
    assert tasks.dispatcher.rows("SELECT place FROM tasks ORDER BY task_id") == [(0,), (0,)]
    assert database.write(travel_together) is ("pipeline" in store.features)
    assert tasks.dispatcher.events("write_failed") == []


def test_a_real_deadlock_is_run_again(tasks: Builder) -> None:
    first, second = tasks.submit_many(2)
    reached: list[int] = []

    def run(tx: Transaction) -> None:
        tx.restart(task_id=first)
        reached.append(1)
        tx.restart(task_id=second)

    with stranger(tasks.dispatcher.store) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that ours is the one to find it
        with other.transaction():
            other.execute("UPDATE tasks SET priority = 1 WHERE task_id = %s", (second,))
            ours = Call(tasks.dispatcher.database.write, run)
            wait_until(lambda: _waits_for_a_lock(tasks.dispatcher), "ours to wait")
            other.execute("UPDATE tasks SET priority = 2 WHERE task_id = %s", (first,))

    ours.result()
    assert len(reached) == 2


def _waits_for_a_lock(dispatcher: Dispatcher) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(dispatcher.rows(waiting))


# --- a line that breaks


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
