"""A dispatcher without its server: a real database, the ledger, the records, the monitor."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dispatcher.database import Database
from dispatcher.ledger import Ledger
from dispatcher.monitor import Monitor
from dispatcher.profiles import Profiles
from dispatcher.records import Records
from shared import VERSION
from shared.log import Log
from shared.settings import Settings
from tests.support.fake_clock import FakeClock
from tests.support.stores import SQLiteStore, Store

# What a refused verb must leave as it was.
TASK_TABLES = ("tasks", "attempts", "checkpoints", "task_results", "task_outputs", "task_payloads", "task_logs")


class Dispatcher:
    """Opened on a store (a folder: a SQLite file in it); `restart()` closes it and opens the same again."""

    def __init__(self, store: Store | Path, clock: FakeClock, **settings: Any) -> None:
        self.store = SQLiteStore(store) if isinstance(store, Path) else store
        self.clock = clock
        self.settings = dataclasses.replace(Settings(), **settings)
        self.log_stream = io.StringIO()
        self.fatal: list[str] = []
        self.profiles = Profiles()
        self.open()

    def open(self) -> None:
        self.log = Log("dispatcher", self.log_stream)
        self.database = Database(
            self.store.open(),
            log=self.log,
            on_fatal=self.fatal.append,
            parked_max=self.settings.parked_requests_max,
            clock=self.clock,
        )
        self.ledger = Ledger(self.database, self.settings, self.profiles)
        self.records = Records(self.database, self.settings, VERSION)
        self.monitor = Monitor(self.ledger, self.log)
        with self.clock.undisturbed():  # the grace of a new leader would be in every test's way
            self.ledger.leadership.holds()

    def close(self) -> None:
        self.ledger.leadership.give_up()
        self.database.close()

    def restart(self) -> None:
        """A new process on the same database: nothing but that and the clock goes on."""
        self.close()
        self.clock.grace()
        self.open()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look into the database with a connection of our own."""
        return self.store.rows(sql, *values)

    @property
    def waits_for_a_lock(self) -> bool:
        """Does anybody on its PostgreSQL?"""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(self.rows(waiting))

    def dump(self, tables: Sequence[str] = TASK_TABLES) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of these tables."""
        return {table: self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines logged so far about an event."""
        lines = [msgspec.json.decode(line) for line in self.log_stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]
