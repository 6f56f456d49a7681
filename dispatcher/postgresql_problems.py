"""Why a PostgreSQL cannot be used, and what to do about it, in a sentence."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from dispatcher.engine import CannotStart

OLDEST: Final = 140_000  # server_version_num of the oldest supported server


def check_version(number: int) -> None:
    """Refuse a server that is too old."""
    if number < OLDEST:
        raise CannotStart(
            f"the server runs PostgreSQL {number // 10_000}; Baton needs {OLDEST // 10_000} or newer: upgrade it"
        )


def check_encoding(name: str | None) -> None:
    """Refuse a database that cannot hold every text."""
    if name not in ("UTF8", None):  # None: a likeness that does not say
        raise CannotStart(
            f"the database has the encoding {name}; Baton needs UTF8: "
            "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
        )


def explained(problem: psycopg.Error) -> str:
    """Why the database cannot be used, and what to do about it, in a sentence."""
    reason = " ".join(str(problem).split()) or type(problem).__name__
    for kind, words, remedy in _REMEDIES:
        if isinstance(problem, kind) and re.search(words, reason):
            return f"DATABASE_URL cannot be used: {reason}; {remedy}"
    return f"DATABASE_URL cannot be used: {reason}; is the server running, and the URL right?"


_REMEDIES: Final[tuple[tuple[type[psycopg.Error], str, str], ...]] = (
    (
        psycopg.errors.InsufficientPrivilege,
        "",
        "let its owner run 'python -m dispatcher migrate' once and grant the rights in docs/postgresql.md",
    ),
    (
        psycopg.errors.LockNotAvailable,
        "",
        "stop the dispatchers and whatever else uses its tables now, such as a backup, or try again later",
    ),
    (
        psycopg.errors.ReadOnlySqlTransaction,
        "",
        "this server only reads, as a stand-by does: name the one that writes",
    ),
    (
        psycopg.errors.UndefinedObject,
        "configuration parameter",  # sessions are set up before anything is asked
        f"Baton needs PostgreSQL {OLDEST // 10_000} or newer: upgrade it",
    ),
    (
        psycopg.errors.InvalidSchemaName,
        "",
        "the role may use no schema of its search_path: grant it the rights in docs/postgresql.md",
    ),
    (
        psycopg.Error,
        "too many (clients|connections)|connection slots",
        "raise max_connections or stop other clients",
    ),
    (psycopg.Error, "password|authentication", "check the user and the password in it"),
    (psycopg.Error, 'database ".*" does not exist', "create it first: createdb NAME"),
    (psycopg.Error, 'role ".*" does not exist', "create it first: docs/postgresql.md, Set-up"),
    (psycopg.ProgrammingError, "", "expected postgresql://user:password@host:5432/database"),
)
