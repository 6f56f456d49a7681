"""Opens the database, and what must hold before: alone with a file, on a local disk, undamaged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import apsw

from dispatcher.engine import CannotStart, Engine
from dispatcher.sqlite import OLDEST_SAFE, SQLite
from shared.settings import Settings

# Over these a write-ahead log silently corrupts, or locks mean nothing (sqlite.org/useovernet.html).
NETWORK_FILE_SYSTEMS = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "glusterfs", "lustre", "beegfs",
    "ocfs2", "gfs2", "fuse", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse",
})  # fmt: skip
# quick_check reads the whole file: about a second a gigabyte here. Above this a start would be slow.
CHECKED_BYTES_MAX = 256 * 1024 * 1024


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Engine]:
    """The database that DATABASE_URL names, checked and open; raises CannotStart."""
    url = settings.database_address
    with _sqlite(url, settings) if url.startswith("sqlite:///") else _postgresql(url, settings) as engine:
        yield engine


@contextlib.contextmanager
def _sqlite(url: str, settings: Settings) -> Iterator[Engine]:
    path = Path(url.removeprefix("sqlite:///"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path):
            check_version()
            check_file_system(path.parent)
            check_database(path)
            yield SQLite(path, settings.durability, settings.start_grace_seconds)
    except apsw.Error as problem:
        raise CannotStart(f"{url} cannot be opened: {problem}; is DATA_DIR writable?") from problem


@contextlib.contextmanager
def _postgresql(url: str, settings: Settings) -> Iterator[Engine]:
    import psycopg  # only who uses it pays for it

    from dispatcher.postgresql import PostgreSQL
    from dispatcher.postgresql_problems import explained

    try:
        engine = PostgreSQL(url, settings.features, settings.durability, settings.start_grace_seconds)
    except psycopg.Error as problem:
        raise CannotStart(explained(problem)) from problem
    yield engine


def check_whole(engine: Engine) -> None:
    """Refuse a database that a copy has not yet filled."""
    if engine.statements["copy_unfinished"](engine.connection):
        raise CannotStart(
            "a copy into this database is not finished; run the same 'python -m dispatcher copy' again"
        )


def check_version(number: int = apsw.SQLITE_VERSION_NUMBER) -> None:
    """Refuse a SQLite that can lose commits."""
    if number < OLDEST_SAFE:
        raise CannotStart(f"this SQLite ({number}) can lose commits; install the apsw that requirements.txt pins")


def lock(path: Path) -> IO[str]:
    """Be the only dispatcher on this database; keep the answer open as long as it serves.

    The lock is a file beside the database, never the database itself: closing any handle on that
    would drop SQLite's own locks (sqlite.org/howtocorrupt.html, 2.2).
    """
    lock_path = path.with_name(path.name + ".lock")
    handle = lock_path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise CannotStart(
            f"another dispatcher (pid {owner}) already serves {path}; stop it, or give this one another DATA_DIR"
        ) from None
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def check_file_system(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse network file systems; where the system does not tell, trust."""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return
    best, kind = "", ""
    target = str(folder.resolve())
    for line in lines:
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    if kind in NETWORK_FILE_SYSTEMS:
        raise CannotStart(
            f"{folder} is on a network file system ({kind}, mounted at {best}), where SQLite loses data; "
            "set DATA_DIR to a local disk"
        )


def check_database(path: Path) -> None:
    """Run SQLite's quick_check on what is there; a damaged file is never repaired silently."""
    if not path.exists() or path.stat().st_size > CHECKED_BYTES_MAX:
        return
    try:
        connection = apsw.Connection(str(path))
        try:
            findings = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        finally:
            connection.close()
    except apsw.Error as error:
        findings = [str(error)]
    if findings != ["ok"]:
        raise CannotStart(
            f"{path} is damaged ({'; '.join(findings)}); keep a copy, then restore a backup "
            "or set DATA_DIR to a new folder"
        )
