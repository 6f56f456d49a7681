"""What the experiments' commands have in common: their options, a bar, the reading at the end."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from analysis import results
from shared import errors
from shared.settings import ROOT

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}
Tell = Callable[[str, float], None]


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """A comma list of whole numbers of `least` or more."""

    name = "n,n,…"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The numbers, each once."""
        try:
            return value if isinstance(value, list) else results.numbers(value, self._least)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _made(ctx: click.Context, param: click.Parameter, folder: Path) -> Path:
    """Made and tried before minutes of measuring, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".tried").touch()
        (folder / ".tried").unlink()
    except OSError as problem:
        raise click.BadParameter(f"{folder} cannot be written ({problem.strerror})") from None
    return folder


out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    callback=_made,
    default=results.FOLDER,
    show_default="analysis/results",
    help="Folder for JSON, PNG and HTML.",
)


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Tell]:
    """A bar for the whole experiment; call what it gives with a label and the share done, 0 to 1."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def tell(label: str, share: float) -> None:
            bar.update(task, description=label, completed=share)

        yield tell


def end_politely() -> None:
    """SIGTERM, and a terminal that closes, end the program as Ctrl-C does: what it has started goes too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """What went wrong in a line, not in a traceback; 1 for a failed run, 130 for Ctrl-C."""
    end_politely()
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        sys.exit(130)
    except (RuntimeError, TimeoutError, ValueError, OSError, errors.BatonError) as error:
        print(f"the experiment could not be completed: {error}", file=sys.stderr)
        sys.exit(1)


def finish(console: Console, reading: Sequence[str], written: Sequence[Path], wrong: bool) -> None:
    """Print the reading and where the files are; exit 1 if an answer was wrong."""
    console.print()
    for sentence in reading:
        console.print(sentence, style="red" if sentence.startswith("WRONG") else None, soft_wrap=True)
    console.print()
    for path in written:
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        console.print(f"written: {shown}", soft_wrap=True)
    if wrong:
        sys.exit(1)
