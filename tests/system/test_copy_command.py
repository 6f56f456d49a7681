"""`python -m dispatcher copy` and `migrate` as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shared.protocol import Submission
from shared.settings import ROOT
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.messages import raw
from tests.support.stores import PostgreSQLStore
from tests.support.waiting import wait_until

TASKS = 30_000  # several bites


@pytest.fixture
def target(postgres: tuple[str, str]) -> Iterator[PostgreSQLStore]:
    """A database without a schema."""
    store = PostgreSQLStore(postgres[0], None)
    yield store
    store.drop()


def command(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    return subprocess.Popen(
        [sys.executable, "-m", "dispatcher", *arguments],
        cwd=ROOT,
        env={**kept, "DATA_DIR": str(folder), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def test_a_copy_killed_in_the_middle_goes_on_and_comes_to_its_end(tmp_path: Path, target: PostgreSQLStore) -> None:
    dispatcher = Dispatcher(tmp_path, FakeClock())
    for _ in range(TASKS // 10_000):
        dispatcher.ledger.submit([Submission("noop", raw({"text": "x" * 100}))] * 10_000)
    dispatcher.close()
    options = ("copy", "--from", f"sqlite:///{tmp_path / 'baton.db'}", "--to", target.url)

    first = command(tmp_path, *options)
    wait_until(lambda: _copied(target, "task_payloads") > 0, "the first bite", 30)
    first.kill()
    first.communicate()
    left = _copied(target, "task_payloads") + _copied(target, "tasks")
    served = said(command(tmp_path, DATABASE_URL=target.url, DISPATCHER_PORT="0"))
    second = said(command(tmp_path, *options))

    assert 0 < left < 2 * TASKS
    assert (served[0], "run the same 'python -m dispatcher copy' again" in served[2]) == (2, True)
    assert second[0] == 0, second
    assert "the same" in second[1]
    assert "differs" not in second[1]
    assert _copied(target, "task_payloads") == _copied(target, "tasks") == TASKS
    target.check()


def _copied(target: PostgreSQLStore, table: str) -> int:
    try:
        return int(target.rows(f"SELECT COUNT(*) FROM {table}")[0][0])
    except psycopg.errors.UndefinedTable:
        return 0


def test_migrate_makes_the_schema_and_ends(tmp_path: Path, target: PostgreSQLStore) -> None:
    code, out, _ = said(command(tmp_path, "migrate", DATABASE_URL=target.url))

    assert (code, "has schema" in out) == (0, True)
    assert target.rows("SELECT COUNT(*) FROM tasks") == [(0,)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--from", "sqlite:///no/such/file.db", "--to", "sqlite:///x.db"), "--from: there is no file"),
        (("--from", "mysql://host/name", "--to", "sqlite:///x.db"), "--from: expected sqlite:///path"),
    ],
)
def test_a_wrong_end_is_refused_in_a_sentence(tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    code, _, err = said(command(tmp_path, "copy", *options))

    assert code == 2
    assert problem in err
    assert len(err.strip().splitlines()) == 1


def test_help_says_what_there_is(tmp_path: Path) -> None:
    code, out, _ = said(command(tmp_path, "--help"))

    assert code == 0
    assert out.startswith("Usage: ./start_dispatcher.sh [OPTIONS]")
    assert "copy" in out
    assert "migrate" in out
