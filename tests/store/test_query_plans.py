"""No statement may walk all tasks: with ten million of them that would hold up everything else."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

from dispatcher import migrations
from dispatcher.sqlite import Schema
from dispatcher.statements import SQL

TEXT = (SQL / "statements.sql").read_text()
# A name may have several statements, one after the other.
STATEMENTS = {
    f"{name}-{n}" if n else name: sql
    for name, text in re.findall(r"-- name: (\w+)[\^$!*]*\n(.*?;)\n(?=\n|\Z)", TEXT, re.DOTALL)
    for n, sql in enumerate(text.split(";\n"))
}
# Newest first with a filter that may match nobody: a page ends the walk as soon as it is full.
WALKS_BY_ID = {"task_ids"}
LARGE = {"tasks", "attempts", "task_results", "task_payloads", "task_outputs", "checkpoints", "t", "a", "r", "p"}
LARGE |= {"nodes", "edges", "flows", "schedule_slots", "n", "e"}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> apsw.Connection:
    opened = apsw.Connection(str(Path(tmp_path_factory.mktemp("plans")) / "baton.db"))
    migrations.apply(Schema(opened))
    return opened


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - WALKS_BY_ID))
def test_no_statement_walks_all_tasks(connection: apsw.Connection, name: str) -> None:
    sql = STATEMENTS[name]
    values = dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", sql), 1)

    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]

    scans = [step for step in plan if step.startswith("SCAN") and "USING" not in step and "VIRTUAL" not in step]
    walks = [step for step in scans if step.split()[1] in LARGE]
    assert walks == []
