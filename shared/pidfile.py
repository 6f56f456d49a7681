"""Records of running processes in DATA_DIR/run, so that cleanup.sh stops ours and nobody else's.

A record holds the pid and when that process started; a pid that was given to another process since
does not match and is left alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def recorded(data_path: Path, kind: str) -> Iterator[None]:
    """Keep a record of this process while it runs; `kind` is dispatcher or worker."""
    folder = data_path / "run"
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"{kind}-{os.getpid()}.pid"
    record.write_text(f"{os.getpid()} {start_ticks(os.getpid())}\n")
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def start_ticks(pid: int) -> str:
    """When the process started, in the system's own unit; '-' where /proc does not tell, '' if gone."""
    if not Path("/proc/self/stat").exists():
        return "-"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def alive(pid: int, started: str) -> bool:
    """Does the process still run that a record is of? A zombie does not; pid 0 never did."""
    if pid <= 0:
        return False
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z" and start_ticks(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
