"""Ends transactions in which a dispatcher stands still, so that no other one waits for its rows (PostgreSQL).

The server does so by itself (idle_in_transaction_session_timeout), but not while statements travel together:
until a pipeline has come to its end, its transaction is not idle to the server, however long nothing comes.
One that freezes in the middle of it, or is gone with its host, would keep its rows for hours, the leader's
among them. So each dispatcher looks after the others.
"""

from __future__ import annotations

from typing import Any, Final

from dispatcher.statements import Run

LOOK_SECONDS: Final = 1.0


class Frozen:
    """Sessions that stood still when we last looked. Used by one thread."""

    def __init__(self, statements: dict[str, Run]) -> None:
        self._statements = statements
        self._seen: set[tuple[Any, ...]] = set()

    def end(self, connection: Any) -> None:
        """End those that do so still: at a single look, one may be just about to go on."""
        now = {tuple(row) for row in self._statements["standing_still"](connection)}
        for pid, _ in now & self._seen:
            self._statements["end_session"](connection, pid=pid)
        self._seen = now
