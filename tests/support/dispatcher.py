"""A dispatcher without its server: a real database file, the ledger, the records, the monitor."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from dispatcher.database import Database
from dispatcher.ledger import Ledger
from dispatcher.monitor import Monitor
from dispatcher.records import Records
from shared import VERSION
from shared.log import Log
from shared.settings import Settings
from tests.support.fake_clock import FakeClock

# What a refused verb must leave as it was.
TASK_TABLES = ("tasks", "attempts", "checkpoints", "task_results", "task_outputs", "task_payloads", "task_logs")


class Dispatcher:
    """Opened on `folder`; `restart()` closes it and opens the same file again."""

    def __init__(self, folder: Path, clock: FakeClock, **settings: Any) -> None:
        self.path = folder / "baton.db"
        self.clock = clock
        self.settings = dataclasses.replace(Settings(), **settings)
        self.log_stream = io.StringIO()
        self.fatal: list[str] = []
        self.open()

    def open(self) -> None:
        log = Log("dispatcher", self.log_stream)
        self.database = Database(
            self.path,
            log=log,
            on_fatal=self.fatal.append,
            durability="normal",  # no power cut in a test; no wait for the disk either
            parked_max=self.settings.parked_requests_max,
            clock=self.clock,
        )
        self.ledger = Ledger(self.database, self.settings)
        self.records = Records(self.database, self.settings, VERSION)
        self.monitor = Monitor(self.ledger, log)

    def close(self) -> None:
        self.database.close()

    def restart(self) -> None:
        """A new process on the same file: nothing but the file and the clock goes on."""
        self.close()
        self.clock.grace()
        self.open()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look into the file with a connection of our own."""
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(connection.execute(sql, values))
        finally:
            connection.close()

    def dump(self, tables: Sequence[str] = TASK_TABLES) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of these tables."""
        return {table: self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines logged so far about an event."""
        lines = [msgspec.json.decode(line) for line in self.log_stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]
