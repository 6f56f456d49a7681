"""Copying between databases of each kind: nothing changes its meaning, and every stop is gone on from."""

from __future__ import annotations

import io
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dispatcher import clock, copy_sides, copying, migrations, startup, submissions
from dispatcher.copy_sides import LEASE_TIMES, side, tables
from dispatcher.copying import Compared, Copy
from dispatcher.database import Database
from dispatcher.engine import CannotStart
from dispatcher.ledger import Ledger
from dispatcher.transaction import Transaction, encoded
from shared.lifecycle import TaskStatus
from shared.log import Log
from shared.protocol import Exchange, Submission, WorkerInfo
from shared.settings import Settings
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.flows import Flow
from tests.support.messages import holding
from tests.support.stores import PostgreSQLStore, SQLiteStore, Store

WAYS = [("sqlite", "postgresql"), ("postgresql", "sqlite")]
SAME = [("sqlite", "sqlite"), ("postgresql", "postgresql")]


class Stopped(Exception):
    """The copy was killed here."""


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    """Makes an empty database of a kind."""
    with ExitStack() as stack:

        def made(kind: str) -> Store:
            if kind == "sqlite":
                folder = tmp_path / str(len(list(tmp_path.iterdir())))
                folder.mkdir()
                return SQLiteStore(folder)
            store = PostgreSQLStore(*request.getfixturevalue("postgres"))
            stack.callback(store.drop)
            return store

        yield made


@pytest.fixture(params=WAYS, ids="-to-".join)
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    """From which kind to which."""
    kinds: tuple[str, str] = request.param
    return kinds


@pytest.fixture
def source(way: tuple[str, str], make: Callable[[str], Store]) -> Store:
    """A database with a task in every status and a pruned one, the last."""
    store = make(way[0])
    clock = FakeClock()
    dispatcher = Dispatcher(store, clock, retention_days=1.0)
    tasks = Builder(dispatcher)
    tasks.limit(type="noop", max_starts=100, per_seconds=1000)
    for status in ("failed", "scheduled", "completed", "cancelled", "in-progress", "pending"):
        tasks.in_status(TaskStatus(status), tags=["a", "ü"], payload={"text": "\n\t\\N \u0000 é 𝄞", "float": 0.1})
    tasks.submit_many(30, payload=b"{}", run_at="2030-01-01T00:00:00.123456Z")
    tasks.cancel(tasks.submit())
    _prune_the_last(dispatcher)
    dispatcher.close()
    return store


def _prune_the_last(dispatcher: Dispatcher) -> None:
    (last,) = dispatcher.rows("SELECT MAX(task_id) FROM tasks")[0]

    def run(tx: Transaction) -> None:
        submissions.drop(tx, tx.droppable(task_ids=encoded([last]), before=math.inf).fetchall())

    dispatcher.database.write(run)


@pytest.fixture
def target(way: tuple[str, str], make: Callable[[str], Store]) -> Store:
    """An empty one."""
    return make(way[1])


def copy(
    source: Store, target: Store, tell: Callable[[str, int], None] = lambda table, rows: None
) -> list[Compared]:
    with ExitStack() as stack:
        sides = []
        for store in (source, target):
            engine = store.open()
            stack.callback(engine.close)
            sides.append(side(engine, store.url))
        return Copy(sides[0], sides[1], tell).run()


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every table; of a time on the lease clock only whether there is one."""
    answer = {}
    for table in tables():
        times = LEASE_TIMES.get(table.name, ())
        columns = ", ".join(f"({c} IS NULL) + 0" if c in times else c for c in table.columns)
        if store.engine_name == "postgresql":
            columns = columns.replace(") + 0", ")::int")
        answer[table.name] = sorted(store.rows(f"SELECT {columns} FROM {table.name}"), key=repr)
    return answer


@pytest.mark.parametrize("way", WAYS + SAME, indirect=True, ids="-to-".join)
def test_both_sides_hold_the_same_afterwards(source: Store, target: Store) -> None:
    compared = copy(source, target)

    assert [table for table, ours, theirs in compared if ours != theirs] == []
    assert {table for table, ours, _ in compared if ours.rows} >= {
        "tasks",
        "attempts",
        "task_outputs",
        "workers",
        "limit_starts",
    }
    assert contents(target) == contents(source)
    target.check()


def test_ids_go_on_where_they_were_though_the_last_is_gone(source: Store, target: Store) -> None:
    (known,) = source.rows("SELECT MAX(task_id) FROM tasks")[0]
    copy(source, target)

    dispatcher = Dispatcher(target, FakeClock())
    new = Builder(dispatcher).submit()
    Builder(dispatcher).say("a new worker")
    dispatcher.close()

    assert new == known + 2
    target.check()


def test_the_target_goes_on_as_the_source_would_have(source: Store, target: Store) -> None:
    copy(source, target)
    dispatcher = Dispatcher(target, FakeClock())
    tasks = Builder(dispatcher)

    (failed,) = target.rows("SELECT task_id FROM tasks WHERE status = 'failed'")[0]
    tasks.revive(failed)
    grants = tasks.claim("w2", want=10)
    dispatcher.close()

    assert failed in [grant.task_id for grant in grants]
    assert all(grant.checkpoint is not None for grant in grants)
    target.check()


@pytest.mark.usefixtures("here")
def test_a_worker_that_is_still_there_keeps_its_task(way: tuple[str, str], make: Callable[[str], Store]) -> None:
    old, new = make(way[0]), make(way[1])
    worker = WorkerInfo("w1", "w1")
    with Served(old) as ledger:
        ledger.submit([Submission("noop")])
        (grant,) = ledger.exchange(Exchange(worker, want=1)).tasks

    copy(old, new)

    with Served(new) as ledger:
        lease_now = ledger.database.write(lambda tx: tx.lease_now)
        ((expires, heard),) = new.rows("SELECT lease_expires_at, last_heartbeat FROM tasks, workers")
        answer = ledger.exchange(Exchange(worker, holding=[holding(grant)]))
    assert 90 < expires - lease_now <= 101
    assert -1.5 <= lease_now - heard < 10
    assert answer.lost == []
    new.check()


class Served:
    """A store behind a ledger with the clocks that a real dispatcher has."""

    def __init__(self, store: Store) -> None:
        self._database = Database(store.open(), log=Log("dispatcher", io.StringIO()), on_fatal=print)

    def __enter__(self) -> Ledger:
        return Ledger(self._database, Settings())

    def __exit__(self, *reason: object) -> None:
        self._database.close()


def test_a_flow_goes_on_on_the_other_side(way: tuple[str, str], make: Callable[[str], Store]) -> None:
    old, new = make(way[0]), make(way[1])
    over = {"over": {"result_of": "split"}, "as": "item"}
    nodes = ({"key": "split"}, {"key": "parts", "map": over}, {"key": "gather", "depends_on": ["parts"]})
    before = Dispatcher(old, FakeClock())
    flow = Flow(Builder(before), *nodes)
    before.close()

    copy(old, new)
    after = Dispatcher(new, FakeClock())
    flow.tasks, flow.flows = Builder(after), after.ledger.flows
    flow.complete("split", ["a", "b", "c"])
    flow.drain()
    again = Flow(Builder(after), *nodes)
    statuses = flow.statuses()
    after.close()

    assert statuses == dict.fromkeys(["split", "parts[0]", "parts[1]", "parts[2]", "gather"], "completed")
    assert again.id > flow.id
    new.check()


def test_a_copy_that_was_killed_goes_on_where_it_was(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BITE_ROWS", 4)
    total = sum(map(len, contents(source).values()))
    stops = 0
    while True:
        done = _Counter(stop_after=20)
        try:
            compared = copy(source, target, done)
            break
        except Stopped:
            stops += 1
        assert done.again <= total

    assert stops > 3
    assert [table for table, ours, theirs in compared if ours != theirs] == []
    target.check()


class _Counter:
    """Stops the copy after so many rows that were copied, not found there."""

    def __init__(self, stop_after: int) -> None:
        self._left = stop_after
        self.again = 0
        self._bites: list[str] = []

    def __call__(self, table: str, rows: int) -> None:
        if rows > copying.BITE_ROWS or rows == 1:  # found there, or compared
            self.again += rows
            return
        self._left -= rows
        if self._left < 0:
            raise Stopped


def test_a_bite_ends_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BITE_BYTES", 10)

    bites = list(copying._bites([(1, b"12345"), (2, "123456"), (3, b"1234567890"), (4, None)]))

    assert [len(bite) for bite in bites] == [2, 1, 1]


ONE_WAY = pytest.mark.parametrize("way", [("sqlite", "postgresql")], indirect=True, ids="-to-".join)


@ONE_WAY
def test_a_source_that_changed_meanwhile_is_noticed(source: Store, target: Store) -> None:
    changed: list[str] = []

    def tell(table: str, rows: int) -> None:
        if table == "workers" and not changed:  # tasks have been copied by then
            changed.append(table)
            with Served(source) as ledger:
                ledger.submit([Submission("noop")])

    compared = copy(source, target, tell)

    assert {table for table, ours, theirs in compared if ours != theirs} >= {"tasks", "task_counts"}
    with pytest.raises(CannotStart, match="not finished"):
        _check_whole(target)


def _check_whole(store: Store) -> None:
    engine = store.open()
    try:
        startup.check_whole(engine)
    finally:
        engine.close()


def test_a_target_with_data_of_its_own_is_refused(source: Store, target: Store) -> None:
    with Served(target) as ledger:
        ledger.submit([Submission("noop")])

    with pytest.raises(CannotStart, match=r"data of its own \(.*tasks.*\); copy into an empty database"):
        copy(source, target)

    assert target.rows("SELECT COUNT(*) FROM tasks") == [(1,)]


@ONE_WAY
def test_a_database_that_was_only_ever_opened_counts_as_empty(source: Store, target: Store) -> None:
    with Served(target):
        pass

    assert all(ours == theirs for _, ours, theirs in copy(source, target))


@ONE_WAY
def test_an_unfinished_copy_of_another_database_is_refused(
    source: Store, target: Store, make: Callable[[str], Store]
) -> None:
    def stop(table: str, rows: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        copy(source, target, stop)

    with pytest.raises(CannotStart, match=f"unfinished copy of {re.escape(source.url)}"):
        copy(make("sqlite"), target)
    with pytest.raises(CannotStart, match="itself an unfinished copy"):
        copy(target, make("sqlite"))


@pytest.fixture(params=[0, 3600, -3600], ids="{:+d}".format)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the machine that copies differs from the server's by so many seconds."""
    monkeypatch.setattr(clock.time, "time", lambda real=clock.time.time: real() + request.param)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("serves", ["source", "target"])
@pytest.mark.parametrize("way", [("postgresql", "postgresql")], indirect=True, ids="-to-".join)
def test_nothing_is_copied_while_a_dispatcher_serves(source: Store, target: Store, serves: str) -> None:
    with Served(source if serves == "source" else target) as ledger:
        assert ledger.leadership.holds()
        with pytest.raises(CannotStart, match="stop it first"):
            copy(source, target)
        ledger.leadership.give_up()

    assert all(ours == theirs for _, ours, theirs in copy(source, target))


@ONE_WAY
def test_a_table_that_a_later_version_brings_is_copied_too(
    source: Store, make: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FILES, folder)
    (folder / "9000_notes.sql").write_text(
        "CREATE TABLE notes (note_id INTEGER PRIMARY KEY AUTOINCREMENT, missing_since REAL, body BLOB);"
        "CREATE TABLE words (word TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;"
        "INSERT INTO words (word, n) VALUES ('born with it', 1);"
        "INSERT INTO notes (missing_since, body) SELECT 5.0, NULL FROM tasks;"
    )
    monkeypatch.setattr(migrations, "FILES", folder)
    _forget_schema()
    target = PostgreSQLStore(request.getfixturevalue("postgres")[0], None)
    try:
        compared = {table: (ours, theirs) for table, ours, theirs in copy(source, target)}
    finally:
        target.drop()
        _forget_schema()

    assert all(ours == theirs for ours, theirs in compared.values())
    assert compared["notes"][0].rows > 30
    assert compared["words"][0].rows == 1


def _forget_schema() -> None:
    tables.cache_clear()
    copy_sides.at_birth.cache_clear()


def test_a_large_table_may_take_longer_than_a_dispatcher_s_statements(make: Callable[[str], Store]) -> None:
    engine = make("postgresql").open()
    try:
        copied = side(engine, "large")
        with copied.reading() as reader:
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                for connection in (reader, engine.connection):
                    assert connection.execute(f"SHOW {name}").fetchone() == ("0",)
    finally:
        engine.close()


@pytest.mark.parametrize("way", [("postgresql", "sqlite")], indirect=True, ids="-to-".join)
def test_times_are_copied_to_their_last_digit_whatever_the_server_shows(source: Store, target: Store) -> None:
    assert isinstance(source, PostgreSQLStore)
    source._administer(f"ALTER DATABASE {source.name} SET extra_float_digits = 0")  # the default before 12
    try:
        copy(source, target)
    finally:
        source._administer(f"ALTER DATABASE {source.name} RESET extra_float_digits")

    assert contents(target) == contents(source)
