"""python -m dispatcher copy, migrate: what is done with a database while no dispatcher serves it."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from dispatcher import migrations, startup
from dispatcher.copy_sides import Side, side
from dispatcher.copying import Compared, Copy
from dispatcher.engine import CannotStart
from shared import errors
from shared.settings import DATABASES, Settings, load_or_exit


@click.command()
def migrate() -> None:
    """Bring the schema of DATABASE_URL up to date, and end."""
    settings = load_or_exit()
    try:
        with startup.opened(settings) as engine:
            engine.close()
    except (CannotStart, migrations.TooNew) as problem:
        _refuse(str(problem))
    click.echo(f"{settings.database_name} has schema {migrations.numbered()[-1][0]}")


@click.command()
@click.option("--from", "source", required=True, metavar="URL", help="sqlite:///data/baton.db or postgresql://…")
@click.option(
    "--to", "target", required=True, metavar="URL", help="The same; a database that is empty or not yet there."
)
def copy(source: str, target: str) -> None:
    """Copy everything from one database to another, and compare both.

    No dispatcher may serve either. Stopped in the middle (Ctrl-C, kill -9), the same command goes on.
    """
    settings = load_or_exit()
    try:
        compared = _copied(settings, source, target)
    except (CannotStart, migrations.TooNew) as problem:
        _refuse(str(problem))
    except KeyboardInterrupt:
        _refuse("stopped; the same command goes on")
    different = [table for table, ours, theirs in compared if ours != theirs]
    if different:
        _refuse(
            f"both sides differ in {', '.join(different)}: the source was changed meanwhile; "
            "stop its dispatchers and copy again, into an empty database"
        )


def _copied(settings: Settings, source: str, target: str) -> list[Compared]:
    with ExitStack() as stack:
        sides = _side(stack, settings, "--from", source), _side(stack, settings, "--to", target)
        progress = stack.enter_context(_progress())
        bar = progress.add_task("", total=None)
        copying = Copy(*sides, lambda table, rows: progress.update(bar, advance=rows, description=table))
        progress.update(bar, total=2 * copying.rows())  # each row is copied, then compared
        try:
            compared = copying.run()
        except sides[0].engine.errors + sides[1].engine.errors as problem:
            reason = " ".join(str(problem).split())
            raise CannotStart(f"the copy stopped ({reason}); mend that, and the same command goes on") from problem
        except errors.Unavailable as problem:
            raise CannotStart(problem.message) from problem
    Console().print(_grid(compared))
    return compared


def _side(stack: ExitStack, settings: Settings, option: str, url: str) -> Side:
    if not url.startswith(DATABASES):
        raise CannotStart(f"{option}: expected sqlite:///path or postgresql://user@host/name")
    chosen = dataclasses.replace(settings, database_url=url)
    name = chosen.database_name
    if url.startswith("sqlite:///"):
        path = Path(name).resolve()
        if option == "--from" and not path.exists():
            raise CannotStart(f"--from: there is no file {path}")
        name = str(path)
    try:
        engine = stack.enter_context(startup.opened(chosen))
    except CannotStart as problem:
        raise CannotStart(f"{option}: {str(problem).removeprefix('DATABASE_URL ')}") from problem
    stack.callback(engine.close)
    return side(engine, name)


def _progress() -> Progress:
    words, bar, count = TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn()
    return Progress(words, bar, count, TimeRemainingColumn(), console=Console(stderr=True))


def _grid(compared: list[Compared]) -> Grid:
    """What both sides hold, table by table."""
    grid = Grid("table", "rows", "checksum", "", box=None, pad_edge=False)
    for table, ours, theirs in compared:
        same = "the same" if ours == theirs else f"differs: {theirs.rows} rows, {theirs.checksum:016x}"
        grid.add_row(table, str(ours.rows), f"{ours.checksum:016x}", same)
    return grid


def _refuse(problem: str) -> NoReturn:
    print(problem, file=sys.stderr)
    sys.exit(2)
