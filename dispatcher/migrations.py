"""Brings the schema up to date by numbered files, each in one transaction; never backwards."""

from __future__ import annotations

from typing import Protocol

from dispatcher.statements import SQL

FILES = SQL / "migrations"


class TooNew(Exception):
    """The database was written by a newer Baton."""


class Schema(Protocol):
    """The schema of one database."""

    def number(self) -> int:
        """The last migration that was applied; 0: none yet."""

    def migrate(self, steps: list[tuple[int, str]]) -> None:
        """Apply these (number, SQL), in order."""


def numbered() -> list[tuple[int, str]]:
    """The migrations, as (number, SQL), in order."""
    return [(int(file.name[:4]), file.read_text()) for file in sorted(FILES.glob("[0-9]*.sql"))]


def own_part(engine: str, number: int) -> str:
    """What one engine alone adds to a migration."""
    return "".join(file.read_text() for file in (SQL / engine).glob(f"{number:04d}_*.sql"))


def apply(schema: Schema) -> None:
    """Apply what is missing. A kill between or in migrations leaves the old schema or the new one."""
    steps = numbered()
    newest = steps[-1][0]
    present = schema.number()
    if present > newest:
        raise TooNew(
            f"the database has schema {present}, this Baton knows up to {newest}; "
            "start the newer version that wrote it"
        )
    missing = [(number, sql) for number, sql in steps if number > present]
    if missing:
        schema.migrate(missing)
