"""What cleanup.sh does: stop what the records in DATA_DIR/run name, and with --data remove the data."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from shared import pidfile
from shared.settings import load_or_exit

POLITE_SECONDS = 30.0  # DRAIN_SECONDS and a little; after that SIGKILL


def main(remove_data: bool) -> None:
    """Workers first, so that what they hold is handed back to a living dispatcher."""
    data = load_or_exit().data_path
    _stop(data, "crew")
    _stop(data, "worker")
    _stop(data, "dispatcher")
    if remove_data:
        _remove(data)


def _stop(data: Path, kind: pidfile.Kind) -> None:
    records = pidfile.records(data, kind)
    running = [record for record in records if record.alive]
    stubborn = pidfile.stop(records, POLITE_SECONDS)
    for record in running:
        what = f"{kind} {record.pid}" + (f" ({record.name})" if record.name else "")
        if record in stubborn:
            pidfile.send(record.pid, signal.SIGKILL)
            record.path.unlink(missing_ok=True)
            print(f"{what} did not stop in {POLITE_SECONDS:g} s: killed")
        else:
            print(f"{what} stopped")
    if not running and kind != "crew":
        print(f"no {kind} of this checkout is running")


def _remove(data: Path) -> None:
    if not data.exists():
        print(f"{data} does not exist")
        return
    if not _is_ours(data):
        print(f"{data} does not look like Baton's data folder (no baton.db, run, outbox or logs): left alone")
        sys.exit(1)
    files = [file for file in data.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"removing {data}: {', '.join(sorted(entry.name for entry in data.iterdir())) or 'empty'}")
    shutil.rmtree(data)
    print(f"{len(files)} file(s), {size / 1e6:.1f} MB removed")


def _is_ours(data: Path) -> bool:
    """A wrong DATA_DIR must not cost somebody their home folder."""
    known = {"run", "outbox", "logs"}
    return all(entry.name in known or entry.name.startswith("baton.db") for entry in data.iterdir())


if __name__ == "__main__":
    main("--data" in sys.argv[1:])
