"""How SQLite is opened, and which of its errors mean what.

Each setting has its reason in docs/decisions/one-writer.md. apsw brings a SQLite of its own, newer
than the WAL-reset bug (fixed in 3.51.3); the version is checked all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

OLDEST_SAFE: Final = 3_051_003  # sqlite.org/changes.html: the WAL-reset bug can lose commits before it

# The file can no longer be trusted: stop, and let the next start check it.
FATAL: Final = (apsw.IOError, apsw.CorruptError, apsw.NotADBError)
# The transaction is gone, the file is fine: full disk, lock by a stranger, no memory.
PASSING: Final = (apsw.FullError, apsw.BusyError, apsw.LockedError, apsw.NoMemError, apsw.ReadOnlyError)


def open_writer(path: Path, durability: str) -> apsw.Connection:
    """The one connection that writes, and alone moves the log into the file."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    answer = connection.execute("PRAGMA journal_mode = WAL").get
    if answer != "wal":
        raise apsw.CantOpenError(f"the file system of {path} does not allow a write-ahead log ({answer})")
    connection.execute(f"PRAGMA synchronous = {durability.upper()}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA cache_size = -65536")
    _guard(connection)
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """A connection that cannot write."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5000)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -4096")
    _guard(connection)
    return connection


def _guard(connection: apsw.Connection) -> None:
    for pragma in ("temp_store = MEMORY", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
