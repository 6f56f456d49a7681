"""What a copy knows of the tables: their keys, the times on the lease clock, and fingerprints of rows."""

from __future__ import annotations

import re

from dispatcher import migrations
from dispatcher.copy_sides import LEASE_TIMES, LOCAL, Fingerprint, tables


def test_every_table_has_a_key_of_numbers_and_words() -> None:
    assert [table.name for table in tables() if not table.key] == []
    assert {table.name for table in tables()} & LOCAL == set()
    assert {"tasks", "workers", "task_outputs"} <= {table.name for table in tables() if table.numbered}


def test_every_time_on_the_lease_clock_is_known() -> None:
    """The migrations say of such a column that it is on the lease clock."""
    sql = "\n".join(text for _, text in migrations.numbered())
    told = {
        (table, column)
        for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", sql, re.DOTALL)
        for column in re.findall(r"^ +(\w+) .*-- lease clock", body, re.MULTILINE)
    }
    known = {(table, column) for table, columns in LEASE_TIMES.items() for column in columns}
    columns = {(table.name, column) for table in tables() for column in table.columns}

    assert told <= known <= columns
    assert ("limit_starts", "started_at") in told


def test_a_fingerprint_tells_values_apart() -> None:
    rows = [(1,), (1.0,), ("1",), (b"1",), (None,), (0.1 + 0.2,), (0.3,)]

    assert len({Fingerprint.of([row]) for row in rows}) == len(rows)
    assert Fingerprint.of(rows) == Fingerprint.of(reversed(rows))
    assert Fingerprint.of([(1,), (1,)]) != Fingerprint.of([])
