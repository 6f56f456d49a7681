"""What an older version wrote is told as before, on each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import psycopg
import pytest

from dispatcher import migrations
from shared.lifecycle import TaskStatus
from shared.operating import HistoryFilter
from shared.protocol import Exchange, Result, WorkerInfo
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.stores import PostgreSQLStore, SQLiteStore, Store

WHERE_EVERY_ATTEMPT_THAT_ENDED_IS_A_ROW = 5
ATTEMPTS = """
    INSERT INTO workers (worker_key, worker_id, name, host, slots, state, last_heartbeat, last_heartbeat_at)
    VALUES (7, 'w7', 'w7', 'here', 1, 'alive', 0, 0);
    INSERT INTO tasks (task_id, type, status, created_at, started_at, finished_at, attempt, worker_key,
                       resumed_seq, resumed_seconds, elapsed_seconds)
    VALUES (1, 'noop', 'completed', 10, 20, 30, 2, 7, 4, 0.1, 0.3),
           (2, 'noop', 'failed', 10, 20, 40, 1, 7, NULL, NULL, NULL);
    INSERT INTO task_results (task_id, attempt) VALUES (1, 2), (2, 1);
    INSERT INTO task_counts (shard, queue, type, status, n)
    VALUES (0, 'default', 'noop', 'completed', 1), (0, 'default', 'noop', 'failed', 1);
    INSERT INTO attempts (task_id, attempt, worker_key, lease_id, outcome, started_at, finished_at,
                          elapsed_seconds, resumed_seq, cached)
    VALUES (1, 1, 7, 'a', 'released', 11, 12, 0.1, NULL, 0), (1, 2, 7, 'b', 'completed', 20, 30, 0.2, 4, 1),
           (2, 1, 7, 'c', 'failed', 20, 40, 5, NULL, 0);
"""

WHERE_THE_WINNER_IS_IN_TASKS = 7
FLOW = """
    INSERT INTO workers (worker_key, worker_id, name, host, slots, state, last_heartbeat, last_heartbeat_at)
    VALUES (7, 'w7', 'w7', 'here', 1, 'alive', 0, 0);
    INSERT INTO tasks (task_id, type, status, created_at, started_at, finished_at, attempt, worker_key,
                       resumed_seconds, elapsed_seconds, won_lease_id, won_seconds, won_cached, kin)
    VALUES (1, 'noop', 'completed', 10, 20, 30, 1, 7, NULL, 0.2, 'b', 0.2, 1, 2);
    INSERT INTO tasks (task_id, type, status, created_at, started_at, attempt, worker_key, lease_id,
                       lease_expires_at, kin)
    VALUES (2, 'noop', 'in-progress', 10, 20, 1, 7, 'c', 1000, 2);
    INSERT INTO tasks (task_id, type, status, created_at, kin) VALUES (3, 'noop', 'blocked', 10, 1);
    INSERT INTO task_results (task_id, attempt, result) VALUES (1, 1, NULL);
    INSERT INTO nodes (node_id, kind, key, position, run_if, waiting, counted)
    VALUES (3, 'task', '', 0, 'all_completed', 1, 0);
    INSERT INTO edges (child_id, parent_id, key, position) VALUES (3, 1, '1', 0), (3, 2, '2', 1);
    INSERT INTO task_counts (shard, queue, type, status, n)
    VALUES (0, 'default', 'noop', 'completed', 1), (0, 'default', 'noop', 'in-progress', 1),
           (0, 'default', 'noop', 'blocked', 1);
"""

WHERE_NOTHING_SAYS_WHEN_A_FLOW_ENDED = 9
NOW = FakeClock().wall()
ENDED_FLOW = f"""
    INSERT INTO flows (flow_id, created_at) VALUES (1, 10);
    INSERT INTO tasks (task_id, type, status, created_at, finished_at, flow_id)
    VALUES (1, 'noop', 'failed', 10, {NOW - 31 * 86400}, 1), (2, 'noop', 'failed', 10, {NOW - 29 * 86400}, 1);
    INSERT INTO task_results (task_id, attempt) VALUES (1, 0), (2, 0);
    INSERT INTO nodes (node_id, flow_id, kind, key, position, run_if, waiting, counted)
    VALUES (1, 1, 'task', 'a', 0, 'all_completed', 0, 1), (2, 1, 'task', 'b', 1, 'all_completed', 0, 1);
    INSERT INTO flow_counts (flow_id, status, shard, n) VALUES (1, 'live', 0, 0), (1, 'failed', 0, 2);
    INSERT INTO task_counts (shard, queue, type, status, n) VALUES (0, 'default', 'noop', 'failed', 2);
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A database without any schema."""
    if request.param == "sqlite":
        yield SQLiteStore(tmp_path)
        return
    store = PostgreSQLStore(request.getfixturevalue("postgres")[0], None)
    yield store
    store.drop()


@pytest.fixture
def older(empty: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], Store]:
    """Makes a database as the version with that schema left it, with these rows."""

    def make(schema: int, rows: str) -> Store:
        every = migrations.numbered()
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "numbered", lambda: every[:schema])
            empty.open().close()
        if isinstance(empty, SQLiteStore):
            apsw.Connection(str(empty.path)).execute(rows)
        else:
            with psycopg.connect(empty.url) as connection:
                connection.execute(rows, prepare=False)
        return empty

    return make


def test_completed_attempts_are_told_as_before(older: Callable[[int, str], Store]) -> None:
    store = older(WHERE_EVERY_ATTEMPT_THAT_ENDED_IS_A_ROW, ATTEMPTS)

    dispatcher = Dispatcher(store, FakeClock())
    released, won = dispatcher.records.attempts(1)
    history = dispatcher.records.history.attempts(HistoryFilter())["attempts"]
    tasks = Builder(dispatcher)
    seconds = tasks.view(1).elapsed_seconds
    dispatcher.close()

    assert (released.outcome, released.elapsed_seconds, released.cached) == ("released", 0.1, False)
    assert (won.outcome, won.worker, won.elapsed_seconds, won.resumed_seq) == ("completed", "w7", 0.2, 4)
    assert (won.cached, seconds) == (True, 0.1 + 0.2)
    assert [(view.task_id, view.attempt, view.outcome) for view in history] == [
        (2, 1, "failed"),
        (1, 2, "completed"),
        (1, 1, "released"),
    ]
    store.check()


def test_what_waits_for_a_parent_and_who_won_are_known_as_before(older: Callable[[int, str], Store]) -> None:
    store = older(WHERE_THE_WINNER_IS_IN_TASKS, FLOW)
    repeated = Result(task_id=1, attempt=1, lease_id="b", outcome="completed", elapsed_seconds=0.2, cached=True)
    last_parent = Result(task_id=2, attempt=1, lease_id="c", outcome="completed", elapsed_seconds=0.1)

    dispatcher = Dispatcher(store, FakeClock())
    tasks = Builder(dispatcher)
    (won,) = dispatcher.records.attempts(1)
    before = tasks.view(3).status
    answer = dispatcher.ledger.exchange(Exchange(WorkerInfo("w7"), results=[repeated, last_parent]))
    after = tasks.view(3).status
    dispatcher.close()

    assert (won.outcome, won.elapsed_seconds, won.cached) == ("completed", 0.2, True)
    assert answer.lost == []
    assert (before, after) == (TaskStatus.BLOCKED, TaskStatus.PENDING)
    store.check()


def test_a_flow_that_had_ended_before_is_kept_until_the_last_of_its_tasks_is_old(
    older: Callable[[int, str], Store],
) -> None:
    dispatcher = Dispatcher(older(WHERE_NOTHING_SAYS_WHEN_A_FLOW_ENDED, ENDED_FLOW), FakeClock())

    before = dispatcher.ledger.prune()
    dispatcher.clock.advance(2 * 86400)
    after = dispatcher.ledger.prune()
    dispatcher.close()

    assert (before, after) == (0, 2)


def test_no_id_is_given_twice_after_the_table_was_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(tmp_path)
    before = migrations.numbered()[:WHERE_THE_WINNER_IS_IN_TASKS]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "numbered", lambda: before)
        store.open().close()
    apsw.Connection(str(store.path)).execute("UPDATE sqlite_sequence SET seq = 41 WHERE name = 'tasks'")

    dispatcher = Dispatcher(store, FakeClock())
    task_id = Builder(dispatcher).submit()
    dispatcher.close()

    assert task_id == 42
