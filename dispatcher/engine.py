"""What differs between the databases that Baton can live in; everything above it is the same.

sqlite.py: one file, one dispatcher, nothing to install. postgresql.py: a server that any number of
dispatchers share. The writer in database.py decides what is one transaction; an engine only knows
how its database begins, keeps and undoes one, and what its errors mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dispatcher.clock import Clock
from dispatcher.statements import Run
from shared.errors import BatonError


class CannotStart(Exception):
    """Why the dispatcher cannot start, and what to do about it."""


class Overtaken(Exception):
    """Another dispatcher has changed a row between our look at it and our write: the transaction starts over."""


class Engine(Protocol):
    """An open database. Only who writes calls what is not marked otherwise, one at a time."""

    statements: dict[str, Run]
    shard: int  # where this dispatcher counts
    shared: bool  # may other dispatchers work on the same database?

    @property
    def clock(self) -> Clock:
        """The one that decides, where no test brings its own."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """All of its errors …"""

    @property
    def aborting(self) -> tuple[type[Exception], ...]:
        """… those after which the transaction is gone …"""

    @property
    def retryable(self) -> tuple[type[Exception], ...]:
        """… those where the same transaction may succeed next time …"""

    @property
    def full(self) -> tuple[type[Exception], ...]:
        """… those of a disk that is full or a server that only reads: an empty write may still succeed …"""

    @property
    def fatal(self) -> tuple[type[Exception], ...]:
        """… and those after which the database can no longer be trusted."""

    @property
    def connection(self) -> Any:
        """The connection that writes, which named statements run on."""

    def begin(self) -> None:
        """Begin a transaction, connecting again if that is needed."""

    def hear_time(self) -> None:
        """Let the clock know what time it was when the transaction began, if the database says so."""

    def savepoint(self) -> None:
        """What follows can be undone by itself, until the next one."""

    def undo(self) -> None:
        """Undo what happened since the savepoint."""

    def commit(self, lease_now: float, arrivals: Counter[str], older: Collection[str]) -> None:
        """Keep everything; `arrivals`: tasks that nobody here takes, told to other dispatchers.

        `older`: lanes where something came to stand before what was pending already.
        """

    def rollback(self) -> None:
        """Undo everything; never raises."""

    def refusal(self, error: Exception) -> BatonError:
        """What the callers of a transaction hear that `error` ended."""

    @property
    def is_tired(self) -> bool:
        """Is a `rest` due, as soon as nobody waits?"""

    def rest(self, idle: bool) -> None:
        """Between two transactions: housekeeping. `idle`: nobody waits."""

    def reading(self) -> AbstractContextManager[Any]:
        """A connection that sees one state of the database and cannot change it. From any thread."""

    def listen(self, wake: Callable[[Counter[str]], None]) -> None:
        """Call `wake` when other dispatchers have stored work that nobody there takes."""

    def close(self) -> None:
        """After the last transaction."""
