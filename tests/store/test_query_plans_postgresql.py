"""How PostgreSQL finds rows: by their ids, however small its tables were when a statement was planned."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dispatcher import postgresql, statements
from dispatcher.postgresql import PostgreSQL
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.stores import PostgreSQLStore

ON_POSTGRESQL = pytest.mark.parametrize("store", ["postgresql"], indirect=True)
CLAIM = "SET status = 'in-progress', attempt"
FENCED = ["renew", "miss", "hand_over", "checkpoint", "held", "end_attempt"]


def connection_of(dispatcher: Dispatcher) -> psycopg.Connection[Any]:
    engine = dispatcher.database.engine
    assert isinstance(engine, PostgreSQL)
    return engine.connection


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from steps(below)


def ways_to(table: str, explained: Any) -> list[tuple[str | None, bool]]:
    """By which index each step of a plan reaches the table, and whether it asks the index for something."""
    plan = explained.fetchone()[0][0]["Plan"]
    scans = [step for step in steps(plan) if re.search("(?<!Heap )Scan", step["Node Type"])]
    found = [step for step in scans if table in (step.get("Relation Name"), index_of(step))]
    return [(step.get("Index Name"), "Index Cond" in step) for step in found]


def index_of(step: dict[str, Any]) -> str:
    """The table whose index it scans; a bitmap does not say it otherwise than by its name."""
    return str(step.get("Index Name", "")).partition("_")[0]


@ON_POSTGRESQL
@pytest.mark.parametrize("name", FENCED)
def test_a_fenced_task_is_found_by_its_id_even_if_the_plan_was_made_for_no_tasks(
    dispatcher: Dispatcher, name: str
) -> None:
    _, text = statements.texts("statements.sql")[name]
    names = list(dict.fromkeys(postgresql.PARAMETER.findall(text)))
    numbered = postgresql.PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text).strip().rstrip(";")

    explain = f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {numbered}"
    connection = connection_of(dispatcher)

    of_few = ways_to("tasks", connection.execute(explain, prepare=False))
    delete_all_tasks(dispatcher)
    of_none = ways_to("tasks", connection.execute(explain, prepare=False))
    connection.execute("ROLLBACK")

    assert of_few == of_none == [("tasks_pkey", True)]


def delete_all_tasks(dispatcher: Dispatcher) -> None:
    """The planner now knows many pages, no rows, and how the rows used to lie. To be rolled back."""
    Builder(dispatcher).submit_many(3000)
    connection = connection_of(dispatcher)
    connection.execute("ANALYZE tasks")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM tasks")
    connection.execute("ANALYZE tasks")


def test_statements_are_planned_anew_once_the_table_has_grown(
    postgres: tuple[str, str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PLANS_SECONDS", 0.0)
    store = PostgreSQLStore(postgres[0], None)  # one in which no other test has left its pages behind
    with contextlib.closing(Dispatcher(store, clock)) as dispatcher:
        tasks = Builder(dispatcher)
        tasks.start()
        for_few = ways_to("tasks", explain_prepared(dispatcher, CLAIM))

        tasks.submit_many(5000)
        tasks.claim_one("w1")

        assert for_few == [("tasks_pkey", False)]  # it walks them: else this test shows nothing
        assert ways_to("tasks", explain_prepared(dispatcher, CLAIM)) == [("tasks_pkey", True)]
    store.drop()


def explain_prepared(dispatcher: Dispatcher, words: str) -> Any:
    """The plan of the one statement that was prepared with these words, as it would be used now."""
    connection = connection_of(dispatcher)
    named = connection.execute(
        "SELECT name, parameter_types FROM pg_prepared_statements WHERE statement LIKE %s", (f"%{words}%",)
    )
    name, types = next(row for row in named if "pg_prepared" not in row[0])
    values = ", ".join(["NULL"] * len(re.findall(r"[^{},]+", str(types))))
    return connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name}({values})", prepare=False)
