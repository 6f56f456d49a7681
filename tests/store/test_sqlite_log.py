"""The write-ahead log's file: its size when the dispatcher starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from dispatcher import sqlite
from dispatcher.sqlite import LOG_PAGES_BUSY, SQLite

WHOLE_LOG = LOG_PAGES_BUSY * 4096


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A database as the dispatcher opens it; gives the size of its log in bytes."""
    engine = SQLite(path)
    try:
        yield path.with_name(path.name + "-wal").stat().st_size
    finally:
        engine.close()


def test_the_log_has_its_size_from_the_start_and_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "baton.db"

    for _ in range(2):
        with opened(path) as log_bytes:
            tables = apsw.Connection(str(path)).execute("SELECT name FROM sqlite_schema WHERE name = 'filler'").get

        assert log_bytes > WHOLE_LOG
        assert tables is None
        assert path.stat().st_size < WHOLE_LOG / 10


def test_a_disk_with_little_room_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=9 * WHOLE_LOG)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with opened(tmp_path / "baton.db") as log_bytes:
        assert log_bytes < WHOLE_LOG / 10


def test_a_stranger_who_writes_does_not_keep_the_dispatcher_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.sqlite._BUSY_MILLISECONDS", 300)
    path = tmp_path / "baton.db"
    with opened(path):
        stranger = apsw.Connection(str(path))
        stranger.execute("BEGIN IMMEDIATE")

        with opened(path):
            pass

    assert stranger.in_transaction


def test_a_limit_on_files_does_not_keep_the_dispatcher_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sqlite.named_statements(), "widen_log", _over_quota)

    with opened(tmp_path / "baton.db") as log_bytes:
        assert log_bytes < WHOLE_LOG / 10


def _over_quota(connection: apsw.Connection, size: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    raise apsw.IOError("disk I/O error")
