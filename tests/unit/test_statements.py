"""The SQL of the dispatcher: in one folder, every statement named, explained, valid and used."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

from dispatcher import migrations, sqlite, statements
from dispatcher.sqlite import Schema

DISPATCHER = Path(statements.__file__).parent
SOURCES = {file: file.read_text() for file in DISPATCHER.rglob("*.py")}
TEXT = (statements.SQL / "statements.sql").read_text()
NAMES = re.findall(r"^-- name: (\w+)", TEXT, re.M)
OWN = re.findall(r"^-- name: (\w+)", (statements.SQL / "sqlite.sql").read_text(), re.M)
# A verb, then its object, in capitals: prose about SQL does not look like that.
SQL_IN_PYTHON = re.compile(r"\b(SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b")


def test_there_is_no_sql_outside_the_sql_folder() -> None:
    strays = {file.name: found for file, text in SOURCES.items() if (found := SQL_IN_PYTHON.findall(text))}

    assert strays == {}


def test_every_statement_has_a_name_of_its_own() -> None:
    assert sorted(sqlite.named_statements()) == sorted(NAMES + OWN)


@pytest.mark.parametrize("name", NAMES + OWN)
def test_a_statement_is_used(name: str) -> None:
    everything = "\n".join(SOURCES.values())
    built = [prefix for prefix in re.findall(r'f"(\w+_)\{', everything) if name.startswith(prefix)]
    parts = [f'"{name.removeprefix(prefix)}"' for prefix in built]

    assert re.search(rf'\.{name}\(|"{name}"', everything) or any(part in everything for part in parts)


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_fits_the_schema(name: str) -> None:
    connection = apsw.Connection(":memory:")
    migrations.apply(Schema(connection))
    sql = TEXT.split(f"-- name: {name}", 1)[1].split("\n", 1)[1].split("-- name:")[0]
    parameters = dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", re.sub(r"--[^\n]*", "", sql)))

    connection.execute("EXPLAIN " + re.sub(r"--[^\n]*", "", sql), parameters)


def test_a_statement_answers_as_its_suffix_says() -> None:
    connection = apsw.Connection(":memory:")
    migrations.apply(Schema(connection))
    run = sqlite.named_statements()

    ranges = run["fresh_task_ids"](connection, n=3).fetchall()
    added = run["add_tag"](connection, task_id=[1, 2, 3], tag="same")
    nothing = run["task_state"](connection, task_id=1)
    dropped = run["restart"](connection, task_id=1)
    reserved = [run["reserve_key"](connection, key="k", body_hash="", answer=b"", now=0) for _ in range(2)]
    rows = run["prunable"](connection, before=0, ended=0, task_id=0, n=1).fetchall()

    assert (ranges, added, nothing, dropped, rows) == ([(1, 3)], None, None, None, [])
    assert reserved == ["k", None]
    assert connection.execute("SELECT COUNT(*) FROM task_tags").get == 3
