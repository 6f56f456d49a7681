"""WriterHeld: makes operations meet in one commit."""

from __future__ import annotations

import threading

from dispatcher.database import Database
from dispatcher.transaction import Transaction
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until


class WriterHeld:
    """While inside, the writer is busy, so that what is asked meanwhile shares one commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.go_on = threading.Event()
        self.busy = threading.Event()

    def __enter__(self) -> WriterHeld:
        self.call = Call(self.database.write, self._hold)
        assert self.busy.wait(LIMIT_SECONDS)
        return self

    def _hold(self, tx: Transaction) -> None:
        self.busy.set()
        self.go_on.wait(LIMIT_SECONDS)

    def wait_for_queued(self, count: int) -> None:
        wait_until(lambda: len(self.database._waiting) >= count, f"{count} operations to be queued")

    def wait_for_closing(self) -> None:
        wait_until(lambda: self.database._closed, "the database to take nothing more")

    def __exit__(self, *error: object) -> None:
        self.go_on.set()
        self.call.result()
