"""What must hold before the database is opened: alone with it, on a local disk, undamaged."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import IO

import apsw

# Over these a write-ahead log silently corrupts, or locks mean nothing (sqlite.org/useovernet.html).
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "9p",
            "virtiofs",
            "afs",
            "ceph",
            "glusterfs",
            "lustre",
            "beegfs",
        ),
        *("ocfs2", "gfs2", "fuse", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse"),
    }
)
# quick_check reads the whole file: about a second a gigabyte here. Above this a start would be slow.
CHECKED_BYTES_MAX = 256 * 1024 * 1024


class CannotStart(Exception):
    """Why the dispatcher cannot start, and what to do about it."""


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
