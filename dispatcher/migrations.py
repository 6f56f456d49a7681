"""Brings the schema up to date by numbered files, each in one transaction; never backwards."""

from __future__ import annotations

from pathlib import Path

import apsw

FILES = Path(__file__).parent / "sql" / "migrations"


class TooNew(Exception):
    """The database was written by a newer Baton."""


def numbered() -> list[tuple[int, str]]:
    """The migrations, as (number, SQL), in order."""
    return [(int(file.name[:4]), file.read_text()) for file in sorted(FILES.glob("[0-9]*.sql"))]


def apply(connection: apsw.Connection) -> None:
    """Apply what is missing. A kill between or in migrations leaves the old schema or the new one."""
    steps = numbered()
    newest = steps[-1][0]
    present: int = connection.execute("PRAGMA user_version").get
    if present > newest:
        raise TooNew(
            f"the database has schema {present}, this Baton knows up to {newest}; "
            "start the newer version that wrote it"
        )
    for number, sql in steps:
        if number > present:
            connection.execute(f"BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {number}; COMMIT")
