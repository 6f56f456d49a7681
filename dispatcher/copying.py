"""Moves everything from one database to another, of whichever kinds: `python -m dispatcher copy`.

Rows travel in bites, each with a note in the target of how far it went, so a copy that was killed
goes on where it stopped. The note is removed when both sides hold the same; until then no dispatcher
serves the target. Task ids stay what they were, and no id is ever given twice. Leases and silence are
shifted from one database's lease clock to the other's, so that workers which are still there keep
their tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from dispatcher.copy_sides import Fingerprint, Row, Side, Table, at_birth, tables, writing
from dispatcher.engine import CannotStart
from dispatcher.leadership import TERM_SECONDS

# A bite ends with whichever comes first: enough rows to share a commit, few enough to fit in memory.
BITE_ROWS: Final = 5000
BITE_BYTES: Final = 8 * 1024 * 1024

Tell = Callable[[str, int], None]  # so many more rows of that table are done


class Compared(NamedTuple):
    """A table after the copy."""

    table: str
    source: Fingerprint
    target: Fingerprint


class Copy:
    """From `source` to `target`, both open and of the newest schema."""

    def __init__(self, source: Side, target: Side, tell: Tell) -> None:
        self._source = source
        self._target = target
        self._tell = tell
        self._notes: dict[str, Any] = {}
        self._lease_now = 0.0  # where the target's lease clock stands

    def rows(self) -> int:
        """How many rows the source has."""
        return sum(int(self._source.say("count", table)[0][0]) for table in tables())

    def run(self) -> list[Compared]:
        """Copy what is missing, then compare. Raises CannotStart where that must not be done."""
        _refuse_if_served(self._source)
        self._lease_now = _refuse_if_served(self._target)
        if _unfinished(self._source):
            raise CannotStart(f"{self._source.name} is itself an unfinished copy; finish that one first")
        if _unfinished(self._target):
            self._go_on()
        else:
            self._begin()
        for table in tables():
            self._copy(table)
        compared = [self._compare(table) for table in tables()]
        if all(source == target for _, source, target in compared):
            self._finish()
        return compared

    def _begin(self) -> None:
        own = [table.name for table in tables() if not self._is_empty(table)]
        if own:
            raise CannotStart(
                f"{self._target.name} has data of its own ({', '.join(own)}); copy into an empty database"
            )
        shift = self._lease_now - _lease_now(self._source)
        with writing(self._target, self._lease_now):
            self._target.say("note_begin")
            self._note("source", self._source.name)
            self._note("lease_shift", shift)
            for table in tables():
                self._target.say("clear", table)

    def _is_empty(self, table: Table) -> bool:
        """Does the target hold no more of it than every new database?"""
        birth = at_birth()[table.name]
        with self._target.reading() as connection:
            return Fingerprint.of(islice(self._target.rows(connection, table), birth.rows + 1)) == birth

    def _go_on(self) -> None:
        self._notes = {name: msgspec.json.decode(value) for name, value in self._target.say("notes")}
        if self._notes["source"] != self._source.name:
            raise CannotStart(
                f"{self._target.name} is an unfinished copy of {self._notes['source']}; "
                "finish that one, or copy into an empty database"
            )

    def _copy(self, table: Table) -> None:
        after = self._notes.get(f"at {table.name}")
        if after is not None:
            self._tell(table.name, int(self._target.say("count", table)[0][0]))
        with self._source.reading() as connection:
            for bite in _bites(self._source.rows(connection, table, after)):
                with writing(self._target, self._lease_now):
                    self._target.put(table, list(self._moved(table, bite)))
                    self._note(f"at {table.name}", table.position(bite[-1]))
                self._tell(table.name, len(bite))

    def _compare(self, table: Table) -> Compared:
        with self._source.reading() as connection:
            rows = self._moved(table, self._source.rows(connection, table))
            source = Fingerprint.of(self._told(table, rows))
        return Compared(table.name, source, self._fingerprint(table))

    def _finish(self) -> None:
        """The next ids are fresh, even if those given last are gone; and the note goes."""
        with writing(self._target, self._lease_now):
            for table in (table for table in tables() if table.numbered):
                last = int(self._source.say("last_id", table, name=table.name)[0][0])
                for word in ("set_last_id", "add_last_id"):
                    self._target.say(word, table, name=table.name, last=last)
            self._target.say("note_end")

    def _note(self, name: str, value: Any) -> None:
        self._notes[name] = value
        self._target.say("note", name=name, value=msgspec.json.encode(value).decode())

    def _moved(self, table: Table, rows: Iterable[Row]) -> Iterator[Row]:
        shift = self._notes["lease_shift"]
        return (table.moved(row, shift) for row in rows)

    def _told(self, table: Table, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            yield row
            self._tell(table.name, 1)

    def _fingerprint(self, table: Table) -> Fingerprint:
        with self._target.reading() as connection:
            return Fingerprint.of(self._target.rows(connection, table))


def _refuse_if_served(side: Side) -> float:
    """Returns where its lease clock stands."""
    lease_now = _lease_now(side)
    if side.say("served", since=side.engine.clock.wall() - TERM_SECONDS):
        raise CannotStart(
            f"a dispatcher serves {side.name}; stop it first (after a kill -9 wait {TERM_SECONDS:g} s)"
        )
    return lease_now


def _lease_now(side: Side) -> float:
    """Read in a transaction, which asks a server for its time."""
    side.engine.begin()
    try:
        side.engine.hear_time()
        return side.engine.clock.lease()
    finally:
        side.engine.rollback()


def _unfinished(side: Side) -> bool:
    return bool(side.engine.statements["copy_unfinished"](side.engine.connection))


def _bites(rows: Iterable[Row]) -> Iterator[list[Row]]:
    bite: list[Row] = []
    size = 0
    for row in rows:
        bite.append(row)
        size += sum(len(cell) for cell in row if isinstance(cell, bytes | str))
        if len(bite) >= BITE_ROWS or size >= BITE_BYTES:
            yield bite
            bite, size = [], 0
    if bite:
        yield bite
