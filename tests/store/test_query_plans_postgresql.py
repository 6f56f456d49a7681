"""How PostgreSQL finds rows: along an index, from its first column on, whatever its statistics say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dispatcher import postgresql, statements
from dispatcher.postgresql import PostgreSQL
from shared.settings import FEATURES
from tests.support.stores import PostgreSQLStore

LARGE = {"tasks", "task_payloads", "task_results", "attempts", "edges", "nodes", "fan_outs"}
LARGE |= {"idempotency", "schedule_slots"}
# What a writer does with tasks and nodes that it has in hand.
OF_A_GRANT = "renew miss hand_over checkpoint held end_attempt complete ended_grants"
OF_A_CLAIM = "claimable claimable_after claim edges_above ends ends_bytes parents_bytes"
OF_A_FLOW = (
    "children count_down count_down_nodes count_up count_up_nodes descendants cancel_blocked cancel_forks"
    " hold_flow flow_nodes flow_tasks recount_nodes block_in_flow ready_nodes live_parents parts_ended"
    " ended_forks reopen_fork dead_above lift_deadlines flow_edges flow_forks live_parent_ids"
)
OF_WHAT_WAITS = "promote admit admit_any hold_back_any"
OF_A_PAGE = "task_views bodies_bytes parent_ids"
OF_WHAT_IS_OLD = "prunable droppable flows_from drop_fan_outs drop_flow_edges prune_keys prune_slots"
NAMES = f"{OF_A_GRANT} {OF_A_CLAIM} {OF_A_FLOW} {OF_WHAT_WAITS} {OF_A_PAGE} {OF_WHAT_IS_OLD}".split()

# What the planner may have been told: nothing yet; that there are a few rows; or, since it was looked while all
# rows were gone or not yet committed, that many pages hold none, which it believes until the next look.
STATISTICS = {
    "none yet": "SELECT 1",
    "a few rows": "UPDATE pg_class SET reltuples = 3, relpages = 1 WHERE relnamespace = 'public'::regnamespace",
    "no rows": "UPDATE pg_class SET reltuples = 0, relpages = 1000 WHERE relnamespace = 'public'::regnamespace",
}


@pytest.fixture(scope="module", params=STATISTICS)
def connection(request: pytest.FixtureRequest, postgres: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    store = PostgreSQLStore(postgres[0], None)  # one in which no other test has left its pages behind
    with contextlib.closing(PostgreSQL(store.url, FEATURES)) as engine:
        engine.connection.execute(STATISTICS[request.param])
        yield engine.connection
    store.drop()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_found_along_an_index(connection: psycopg.Connection[Any], name: str) -> None:
    ways = ways_to_tables(connection, name)

    assert {table for table, _, _ in ways} & LARGE
    assert [(table, index) for table, index, starts in ways if table in LARGE and not starts] == []


def ways_to_tables(connection: psycopg.Connection[Any], name: str) -> list[tuple[str, str, bool]]:
    """By which index each table is reached, and whether the first column of that index is asked for."""
    _, text = {**statements.texts("statements.sql"), **statements.texts("postgresql.sql")}[name]
    names = list(dict.fromkeys(postgresql.PARAMETER.findall(text)))
    numbered = postgresql.PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text).strip().rstrip(";")
    explain = f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {numbered}"
    row = connection.execute(explain, prepare=False).fetchone()
    assert row is not None
    indexes = {
        index: (table, column)
        for index, table, column in connection.execute(
            "SELECT indexrelid::regclass::text, indrelid::regclass::text, pg_get_indexdef(indexrelid, 1, false)"
            " FROM pg_index"
        )
    }
    ways = []
    for step in steps(row[0][0]["Plan"]):
        if "Index Name" in step:
            table, column = indexes[step["Index Name"]]
            ways.append((table, step["Index Name"], column in step.get("Index Cond", "")))
        elif "Relation Name" in step and step["Node Type"] == "Seq Scan":
            ways.append((step["Relation Name"], "", False))
    return ways


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from steps(below)


def test_the_check_sees_a_walk(connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    walk = "SELECT task_id FROM tasks WHERE failures = :failures;"
    monkeypatch.setattr(statements, "texts", lambda file: {"walk": (None, walk)})

    assert [starts for _, _, starts in ways_to_tables(connection, "walk")] == [False]
