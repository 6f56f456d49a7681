"""Named SQL as functions: loads dispatcher/sql/statements.sql with aiosql, runs it on apsw.

A statement's suffix says what it answers: none = rows, lazily; `^` = one row or None; `$` = one
value; `!` = number of changed rows; `*!` = runs once per row of the columns given, answers every
row it returned. Columns are lists (or ranges) of one length; anything else is the same in each row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import aiosql
import apsw
from aiosql.adapters.generic import GenericAdapter
from aiosql.types import SQLOperationType

SQL = Path(__file__).parent / "sql"
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_COMMENT = re.compile(r"--[^\n]*")

Run = Callable[..., Any]


@cache
def load() -> dict[str, Run]:
    """Every statement by name, as `run(connection, **parameters)`."""
    queries = aiosql.from_path(SQL / "statements.sql", GenericAdapter, mandatory_parameters=False)
    names = [name for name in queries.available_queries if not name.endswith("_cursor")]
    return {name: _runner(getattr(queries, name)) for name in names}


def _runner(query: Any) -> Run:
    sql: str = _COMMENT.sub("", query.sql)
    kind = query.operation
    if kind is SQLOperationType.INSERT_UPDATE_DELETE_MANY:
        return _many(sql)
    if kind is SQLOperationType.SELECT_ONE:
        return lambda connection, **values: connection.execute(sql, values).fetchone()
    if kind is SQLOperationType.SELECT_VALUE:
        return lambda connection, **values: connection.execute(sql, values).get
    if kind is SQLOperationType.INSERT_UPDATE_DELETE:
        return lambda connection, **values: _changed(connection, sql, values)
    return lambda connection, **values: connection.execute(sql, values)


def _changed(connection: apsw.Connection, sql: str, values: dict[str, Any]) -> int:
    connection.execute(sql, values)
    return connection.changes()


def _many(sql: str) -> Run:
    # SQLite numbers named parameters by first appearance, so rows can be plain tuples in that
    # order: binding tuples costs half of binding dicts (measured: 0.8 µs less per row).
    names = list(dict.fromkeys(_PARAMETER.findall(sql)))

    def run(connection: apsw.Connection, **columns: Any) -> list[Any]:
        values = [columns[name] for name in names]
        rows = zip(*(v if isinstance(v, list | range) else repeat(v) for v in values), strict=False)
        return list(connection.executemany(sql, rows))

    return run
