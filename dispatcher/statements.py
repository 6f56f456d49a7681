"""Named SQL as functions: loads dispatcher/sql/*.sql with aiosql, for whichever engine runs it.

statements.sql is written once for both databases; an engine may replace single statements, by name,
with those of a small file of its own. A statement's suffix says what it answers: none = rows; `^` =
one row or None; `$` = one value; `!` = nothing; `*!` = nothing, and runs once per row of the
columns given. Columns are lists (or ranges) of one length; anything else is the same in each row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import aiosql
from aiosql.adapters.generic import GenericAdapter
from aiosql.types import SQLOperationType as Kind

SQL = Path(__file__).parent / "sql"
PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_COMMENT = re.compile(r"--[^\n]*")

Run = Callable[..., Any]

__all__ = ["PARAMETER", "SQL", "Kind", "Run", "columns_to_rows", "load", "texts"]


def load(runner: Callable[[Kind, str], Run], own: str | None = None) -> dict[str, Run]:
    """Every statement by name, as `run(connection, **parameters)`.

    `runner` makes a function of one statement; `own` names the engine's file of its own ones and replacements.
    """
    files = ("statements.sql", *([own] if own else []))
    return {name: runner(kind, text) for file in files for name, (kind, text) in texts(file).items()}


def texts(file: str) -> dict[str, tuple[Kind, str]]:
    """The statements of a file by name, as text."""
    queries = aiosql.from_path(SQL / file, GenericAdapter, mandatory_parameters=False)
    names = [name for name in queries.available_queries if not name.endswith("_cursor")]
    found = {name: getattr(queries, name) for name in names}
    return {name: (query.operation, _COMMENT.sub("", query.sql)) for name, query in found.items()}


def columns_to_rows(names: list[str], columns: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The rows that a `*!` statement runs with, from the columns its caller gave."""
    values = (columns[name] for name in names)
    return zip(*(v if isinstance(v, list | range) else repeat(v) for v in values), strict=False)
