"""Records of running processes in DATA_DIR/run, so that we stop ours and nobody else's.

A record holds the pid, when that process started, and its name; a pid that was given to another process
since does not match and is left alone. A crew (several workers started by one process) is a kind of its
own: its end is the end of its workers, and they must hear of it once only.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Final, Literal, NamedTuple

Kind = Literal["crew", "worker", "dispatcher"]
NAME_CHARS: Final = 80  # so that a number and the random part of worker_id fit into 100
_NAME: Final = re.compile(rf"[\w@+-][\w.@+-]{{0,{NAME_CHARS - 1}}}")


class Unwritable(Exception):
    """Nothing can be written to DATA_DIR, or even read there; the message says why."""


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a worker: it is in file names, in URLs and in lines of logs."""
    if _NAME.fullmatch(name):
        return None
    return f"a worker's name is 1 to {NAME_CHARS} letters, digits and _ . @ + -, and does not begin with a dot"


class Record(NamedTuple):
    """Of a process that was started here; `name` is empty where it has none."""

    path: Path
    pid: int
    started: str
    name: str

    @property
    def alive(self) -> bool:
        """Does it still run?"""
        return alive(self.pid, self.started)


@contextlib.contextmanager
def recorded(data_path: Path, kind: Kind, name: str = "") -> Iterator[None]:
    """Keep a record of this process while it runs; raises Unwritable."""
    folder = data_path / "run"
    record = folder / f"{kind}-{os.getpid()}.pid"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{os.getpid()} {start_ticks(os.getpid())} {name}".rstrip() + "\n")
    except OSError as problem:
        raise Unwritable(unwritable(data_path, problem)) from None
    try:
        yield
    finally:
        _forget(record)


def unwritable(data_path: Path, problem: OSError) -> str:
    """A sentence about a data folder that takes nothing."""
    return f"DATA_DIR={data_path} cannot be written ({problem.strerror}); set it to a folder of yours"


def records(data_path: Path, kind: Kind) -> list[Record]:
    """The records of a kind, also of those that ended without tidying up, by name and pid; raises Unwritable."""
    try:
        found = [_read(path) for path in (data_path / "run").glob(f"{kind}-*.pid")]
    except OSError as problem:
        raise Unwritable(unwritable(data_path, problem)) from None
    return sorted(filter(None, found), key=lambda record: (len(record.name), record.name, record.pid))


def free_names(data_path: Path, n: int, prefix: str = "worker") -> list[str]:
    """The first `n` of prefix-1, prefix-2, ... that no living worker here has."""
    taken = {record.name for record in records(data_path, "worker") if record.alive}
    return list(islice((name for i in count(1) if (name := f"{prefix}-{i}") not in taken), n))


def namesake(data_path: Path, name: str) -> Record | None:
    """Another worker that lives here under this name, if there is one."""
    others = (r for r in records(data_path, "worker") if r.name == name and r.pid != os.getpid())
    return next((record for record in others if record.alive), None)


def stop(those: Sequence[Record], seconds: float) -> list[Record]:
    """Ask the living ones of these to end; returns those that still live after `seconds`.

    The records of those that are gone are removed.
    """
    asked = [record for record in those if not record.alive or send(record.pid, signal.SIGTERM)]
    give_up_at = time.monotonic() + seconds
    for record in asked:
        while record.alive and time.monotonic() < give_up_at:
            time.sleep(0.05)
        if not record.alive:
            _forget(record.path)
    return [record for record in those if record.alive]


def _forget(record: Path) -> None:
    """Remove a record; one that a folder will not let go of does no harm, since its process is gone."""
    with contextlib.suppress(OSError):
        record.unlink()


def send(pid: int, number: signal.Signals) -> bool:
    """Signal a process that may have gone; False: it is another user's, and may not be."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _read(path: Path) -> Record | None:
    try:
        pid, started, name = [*path.read_text().strip().split(" ", 2), "", "", ""][:3]
    except (OSError, UnicodeDecodeError):  # it ends just now, is another user's, or nothing of ours
        return None
    is_pid = pid.isascii() and pid.isdigit()
    return Record(path, int(pid), started, name) if is_pid and started else Record(path, 0, "", name)


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
