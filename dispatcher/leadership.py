"""Which of several dispatchers acts as the monitor: one row with a term, renewed while its holder lives.

A dispatcher leads once it has stored a new term, and as long as nobody stored a newer one: every
transaction of its monitor reads the term in force and locks it, so that one which lost the lead
without noticing (paused, cut off) changes nothing any more. A row instead of a lock of the server's:
it works behind a pooler and on every database that speaks PostgreSQL's protocol. Where only one
dispatcher can be (SQLite), it leads.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import Any

from dispatcher.database import Database
from dispatcher.operation import Run
from dispatcher.transaction import Transaction
from shared import errors

TERM_SECONDS = 3.0  # a leader that has not renewed its term for so long is followed by another
RENEW_SECONDS = 0.5


class NotLeading(errors.Unavailable):
    """Another dispatcher's monitor acts; ours changes nothing. No client ever hears of it."""


class Leadership:
    """This dispatcher's part in it. Used by the monitor's thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = secrets.token_hex(8)
        self._term: int | None = None
        self._renewed = 0.0

    def holds(self) -> bool:
        """Do we lead? Renews the term, or tries to take the next one, when it is time for that."""
        if not self._database.engine.shared:
            return True
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            self._renewed = time.monotonic()
            before, self._term = self._term, self._database.write(self._renew)
            if self._term is not None and before is None:
                self._database.clock.grace()  # what the last leader heard, we have not
        return self._term is not None

    def write(self, run: Run) -> Any:
        """As Database.write, but only in our term; raises NotLeading otherwise."""
        if not self._database.engine.shared:
            return self._database.write(run)
        if self._term is None and not self.holds():
            raise NotLeading

        def guarded(tx: Transaction) -> Any:
            if tx.present_term() != self._term:
                raise NotLeading
            return run(tx)

        try:
            return self._database.write(guarded)
        except NotLeading:
            self._term = None
            raise

    def give_up(self) -> None:
        """The dispatcher stops: another one need not wait until the term is over."""
        if self._term is not None:
            with contextlib.suppress(errors.Unavailable):
                self._database.write(lambda tx: tx.give_up_term(term=self._term))
            self._term = None

    def _renew(self, tx: Transaction) -> int | None:
        if self._term is not None:
            kept: int | None = tx.renew_term(term=self._term, now=tx.now)
            return kept
        taken: int | None = tx.take_term(holder=self._holder, now=tx.now, before=tx.now - TERM_SECONDS)
        if taken is not None:
            tx.log("monitor_leads", term=taken)
        return taken
