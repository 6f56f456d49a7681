"""PostgreSQL: statements that travel together are prepared once, and each refusal is heard by who asked for it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dispatcher.transaction import Transaction
from tests.support.builder import Builder
from tests.support.stores import PostgreSQLStore
from tests.support.troubles import stranger
from tests.support.waiting import Call, wait_until
from tests.support.writer_held import WriterHeld


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
            wait_until(lambda: tasks.dispatcher.waits_for_a_lock, "ours to wait")
            other.execute("UPDATE tasks SET priority = 2 WHERE task_id = %s", (first,))

    ours.result()
    assert len(reached) == 2
