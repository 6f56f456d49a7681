"""What cleanup.sh does: stop what the records in DATA_DIR/run name, and with --data remove the data."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import click

from shared import exits, pidfile
from shared.settings import load_or_exit

POLITE_SECONDS = 30.0  # DRAIN_SECONDS and a little; after that SIGKILL
# Workers first, so that what they hold is handed back to a living dispatcher.
_KINDS: Final[tuple[pidfile.Kind, ...]] = ("crew", "worker", "dispatcher")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", "remove_data", is_flag=True, help="Remove the data folder too; asks on a terminal.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def main(remove_data: bool, yes: bool) -> None:
    """Stop the dispatcher and workers whose records are in DATA_DIR."""
    data = load_or_exit().data_path
    with exits.exit_codes():
        try:
            _clean(data, remove_data, yes)
        except OSError as problem:
            exits.fail(f"{problem.filename or data}: {problem.strerror}", exits.FAILED)


def _clean(data: Path, remove_data: bool, yes: bool) -> None:
    if remove_data and data.exists() and _is_ours(data) and sys.stdin.isatty() and not yes:
        click.echo(f"{data} holds {_content(data)}")
        if not click.confirm("Stop what runs there and remove it?"):
            exits.fail("nothing was changed", exits.INTERRUPTED)
    for kind in _KINDS:
        _stop(data, kind)
    if remove_data:
        _remove(data)


def _stop(data: Path, kind: pidfile.Kind) -> None:
    records = pidfile.records(data, kind)
    running = [record for record in records if record.alive]
    stubborn = pidfile.stop(records, POLITE_SECONDS)
    foreign = []
    for record in running:
        what = f"{kind} {record.pid}" + (f" ({record.name})" if record.name else "")
        if record in stubborn and not pidfile.send(record.pid, signal.SIGKILL):
            foreign.append(what)
        elif record in stubborn:
            record.path.unlink(missing_ok=True)
            print(f"{what} did not stop in {POLITE_SECONDS:g} s: killed")
        else:
            print(f"{what} stopped")
    if foreign:
        exits.fail(f"left alone, since of another user: {', '.join(foreign)}", exits.FAILED)
    if not running and kind != "crew":
        print(f"no {kind} runs with DATA_DIR={data}")


def _remove(data: Path) -> None:
    if not data.exists():
        print(f"{data} does not exist")
        return
    if not _is_ours(data):
        print(f"{data} does not look like Baton's data folder (no baton.db, run, outbox or logs): left alone")
        sys.exit(1)
    print(f"removing {data}: {_content(data)}")
    for entry in data.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    with contextlib.suppress(OSError):  # a link, a disk of its own, or in a folder of root's: it stays, empty
        data.rmdir()


def _content(data: Path) -> str:
    """What there is in the folder, and how much of it."""
    sizes = []
    for file in data.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # who runs there makes and removes some
            sizes += [file.stat().st_size] if file.is_file() else []
    names = ", ".join(sorted(entry.name for entry in data.iterdir())) or "nothing"
    return f"{names} ({len(sizes)} file(s), {sum(sizes) / 1e6:.1f} MB)"


def _is_ours(data: Path) -> bool:
    """A wrong DATA_DIR must not cost somebody their home folder."""
    known = {"run", "outbox", "logs"}
    return all(entry.name in known or entry.name.startswith("baton.db") for entry in data.iterdir())


if __name__ == "__main__":
    main(prog_name="./cleanup.sh")
