"""The schema: made and brought up to date in steps, each whole or not at all, never backwards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import apsw
import pytest

from dispatcher import migrations
from dispatcher.sqlite import Schema
from shared.lifecycle import ENDED, Outcome, TaskStatus, WorkerState


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real migrations, and two more that a later version might bring."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FILES, folder)
    newest = migrations.numbered()[-1][0]
    (folder / f"{newest + 1:04}_colour.sql").write_text("ALTER TABLE tasks ADD COLUMN colour TEXT")
    (folder / f"{newest + 2:04}_rows.sql").write_text(
        "CREATE TABLE notes (note TEXT); INSERT INTO notes SELECT type FROM tasks; CREATE INDEX n ON notes (note)"
    )
    monkeypatch.setattr(migrations, "FILES", folder)
    return folder


def _schema(connection: apsw.Connection) -> list[tuple[object, ...]]:
    return list(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"))


def _version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").get)


def test_a_migrated_database_equals_a_fresh_one(
    tmp_path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated, fresh = (apsw.Connection(str(tmp_path / name)) for name in ("migrated.db", "fresh.db"))
    every = migrations.numbered()
    for count in range(1, len(every) + 1):
        monkeypatch.setattr(migrations, "numbered", lambda count=count: every[:count])
        migrations.apply(Schema(migrated))

    migrations.apply(Schema(fresh))

    assert _schema(migrated) == _schema(fresh)
    assert _version(migrated) == _version(fresh) == every[-1][0]


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "baton.db"))
    migrations.apply(Schema(connection))
    before = (_schema(connection), connection.total_changes())

    migrations.apply(Schema(connection))

    assert (_schema(connection), connection.total_changes()) == before


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "baton.db"))
    migrations.apply(Schema(connection))
    connection.execute("PRAGMA user_version = 9999")

    with pytest.raises(migrations.TooNew, match=r"schema 9999.*start the newer version"):
        migrations.apply(Schema(connection))

    assert _version(connection) == 9999


@pytest.mark.parametrize("statements_done", range(4))
def test_a_kill_in_a_migration_leaves_the_old_schema(tmp_path: Path, steps: Path, statements_done: int) -> None:
    """The process ends after so many statements of the last step; what is on disk is opened anew."""
    path = tmp_path / "baton.db"
    connection = apsw.Connection(str(path))
    every = migrations.numbered()
    number, sql = every[-1]
    _apply_all_but_the_last(connection, every)
    before = _schema(connection)
    parts = ["BEGIN IMMEDIATE", *sql.split(";")]
    for part in parts[: statements_done + 1]:
        connection.execute(part)
    for suffix in ("", "-journal", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copy(source, tmp_path / f"killed.db{suffix}")

    survivor = apsw.Connection(str(tmp_path / "killed.db"))

    assert (_schema(survivor), _version(survivor)) == (before, number - 1)
    migrations.apply(Schema(survivor))
    assert _version(survivor) == number


def _apply_all_but_the_last(connection: apsw.Connection, every: list[tuple[int, str]]) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    for number, sql in every[:-1]:
        connection.execute(f"BEGIN; {sql}; PRAGMA user_version = {number}; COMMIT")


def test_a_step_that_fails_leaves_the_old_schema(tmp_path: Path, steps: Path) -> None:
    newest = migrations.numbered()[-1][0]
    (steps / f"{newest + 1:04}_wrong.sql").write_text("CREATE TABLE x (a); CREATE TABLE x (a)")
    connection = apsw.Connection(str(tmp_path / "baton.db"))

    with pytest.raises(apsw.SQLError):
        migrations.apply(Schema(connection))

    assert _version(connection) == newest
    assert [row for row in _schema(connection) if row[1] == "x"] == [] or connection.in_transaction


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("attempts", "outcome", list(Outcome)),
        ("workers", "state", list(WorkerState)),
    ],
)
def test_the_schema_knows_the_words_of_the_lifecycle(table: str, column: str, words: list[str]) -> None:
    (sql,) = (sql for _, sql in migrations.numbered() if f"CREATE TABLE {table} " in sql)
    check = sql.split(f"CREATE TABLE {table} ")[1].split(f"CHECK ({column} IN (")[1].split("))")[0]

    assert [word.strip().strip("'") for word in check.split(",")] == words


def test_the_schema_refuses_what_the_lifecycle_forbids(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "baton.db"))
    migrations.apply(Schema(connection))
    fit = {
        TaskStatus.BLOCKED: {"waiting": 1},
        TaskStatus.SCHEDULED: {"run_at": 1.0},
        TaskStatus.PENDING: {},
        TaskStatus.IN_PROGRESS: {"lease_id": "a", "lease_expires_at": 1.0, "worker_key": 1, "started_at": 1.0},
        **{status: {"finished_at": 1.0} for status in ENDED},
    }
    spoiling = [{"finished_at": 1.0}, {"lease_id": "a"}, {"lease_expires_at": 1.0}, {"waiting": 1}]

    for status in TaskStatus:
        _insert(connection, status, fit[status])
        for field in fit[status]:
            with pytest.raises(apsw.ConstraintError):
                _insert(connection, status, {**fit[status], field: 0 if field == "waiting" else None})
        for other in spoiling:
            if not other.keys() & fit[status].keys():
                with pytest.raises(apsw.ConstraintError):
                    _insert(connection, status, fit[status] | other)
    with pytest.raises(apsw.ConstraintError):
        _insert(connection, "done", {})


def _insert(connection: apsw.Connection, status: str, more: Mapping[str, object]) -> None:
    row = {"type": "t", "status": status, "created_at": 0.0, **more}
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO tasks ({', '.join(row)}) VALUES ({places})", tuple(row.values()))
