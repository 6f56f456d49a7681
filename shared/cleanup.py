"""What cleanup.sh does: stop what the records in DATA_DIR/run name, and with --data remove the data."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from shared import pidfile
from shared.settings import load_or_exit

POLITE_SECONDS = 30.0  # DRAIN_SECONDS and a little; after that SIGKILL


def main(remove_data: bool) -> None:
    """Workers first, so that what they hold is handed back to a living dispatcher."""
    data = load_or_exit().data_path
    for kind in ("worker", "dispatcher"):
        _stop(sorted((data / "run").glob(f"{kind}-*.pid")), kind)
    if remove_data:
        _remove(data)


def _stop(records: list[Path], kind: str) -> None:
    running = [(record, *_read(record)) for record in records]
    running = [(record, pid, started) for record, pid, started in running if pidfile.alive(pid, started)]
    for record in set(records) - {record for record, *_ in running}:
        record.unlink(missing_ok=True)  # it ended without tidying up, or its pid is another's now
    for _, pid, _ in running:
        _signal(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + POLITE_SECONDS
    for record, pid, started in running:
        while pidfile.alive(pid, started) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        if pidfile.alive(pid, started):
            _signal(pid, signal.SIGKILL)
            print(f"{kind} {pid} did not stop in {POLITE_SECONDS:g} s: killed")
        else:
            print(f"{kind} {pid} stopped")
        record.unlink(missing_ok=True)
    if not running:
        print(f"no {kind} of this checkout is running")


def _read(record: Path) -> tuple[int, str]:
    pid, _, started = record.read_text().strip().partition(" ")
    return (int(pid), started) if pid.isdigit() and started else (0, "")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _remove(data: Path) -> None:
    if not data.exists():
        print(f"{data} does not exist")
        return
    if not _is_ours(data):
        print(f"{data} does not look like Baton's data folder (no baton.db, run or outbox): left alone")
        sys.exit(1)
    files = [file for file in data.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"removing {data}: {', '.join(sorted(entry.name for entry in data.iterdir())) or 'empty'}")
    shutil.rmtree(data)
    print(f"{len(files)} file(s), {size / 1e6:.1f} MB removed")


def _is_ours(data: Path) -> bool:
    """A wrong DATA_DIR must not cost somebody their home folder."""
    known = {"run", "outbox"}
    return all(entry.name in known or entry.name.startswith("baton.db") for entry in data.iterdir())


if __name__ == "__main__":
    main("--data" in sys.argv[1:])
