"""How things look to people: tables, facts, times. Piped: no colours, nothing cut to a width, no boxes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.wording import clean

PIPED_COLUMNS: Final = 100_000  # a pipe has no width
CELL_CHARS: Final = 300  # of a text in a table; `show` has all of it
NARROWEST: Final = 8  # of a column that gives way
GAP: Final = 2  # between columns
NONE: Final = "–"
_STYLES: Final = {
    "completed": "green", "in-progress": "cyan", "running": "cyan", "alive": "green", "yes": "green",
    "failed": "red", "crashed": "red", "dead": "red", "no": "red", "reclaimed": "red", "error": "red",
    "cancelled": "yellow", "paused": "yellow", "draining": "yellow", "warning": "yellow", "skipped": "yellow",
    "missed": "yellow", "blocked": "dim", "scheduled": "dim", "stopped": "dim", "released": "dim",
}  # fmt: skip


def console() -> Console:
    """Standard output, as it is now."""
    width = None if sys.stdout.isatty() else PIPED_COLUMNS
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False, width=width)


def show(*things: RenderableType) -> None:
    """Print these, one below the other."""
    out = console()
    if out.is_terminal:
        out.print(*things, sep="\n")
        return
    with out.capture() as captured:
        out.print(*things, sep="\n")
    for line in captured.get().splitlines():
        print(line.rstrip())


class Plain:
    """Standard output for lines that programs read. A terminal gets them without what would move its cursor."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()

    def write(self, line: str) -> None:
        """Write a line, which ends in a line break."""
        sys.stdout.write(f"{clean(line.rstrip())}\n" if self._is_terminal else line)


def json_line(value: Any) -> None:
    """Print a value as JSON on one line."""
    print(msgspec.json.encode(value).decode(), flush=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], text: Sequence[str] = ()) -> Table:
    """Columns by name, numbers to the right. On a terminal those in `text` give way, the first one first.

    Where that is not enough, the last columns are left out, and named below.
    """
    listed = [list(row) for row in rows]
    cells = [[cell(value) for value in row] for row in listed]
    widths = _widths(headers, cells, text)
    made = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for place, (header, width) in enumerate(zip(headers, widths, strict=False)):
        numbers = any(isinstance(row[place], int) for row in listed)
        made.add_column(
            header, justify="right" if numbers else "left", no_wrap=True, overflow="ellipsis", width=width
        )
    for row in cells:
        made.add_row(*row[: len(widths)])
    left_out = [header for header in headers[len(widths) :] if header]  # a bar has no name
    if left_out:
        made.caption = f"(no room for {', '.join(left_out)})"
    return made


def _widths(headers: Sequence[str], cells: Sequence[Sequence[Text]], text: Sequence[str]) -> list[int]:
    """As wide as what stands in them; less, or fewer, where the terminal is narrower."""
    full = [max([len(header), *(row[i].cell_len for row in cells)]) for i, header in enumerate(headers)]
    for n in range(len(headers), 0, -1):
        widths = full[:n]
        excess = sum(widths) + GAP * (n - 1) - console().width
        for place in (headers.index(header) for header in text):
            if place < n:
                cut = max(0, min(excess, widths[place] - max(len(headers[place]), NARROWEST)))
                widths[place] -= cut
                excess -= cut
        if excess <= 0:
            break
    return widths


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, two columns; what is None or empty is left out."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "" and value != []:
            made.add_row(name, value if isinstance(value, Text) else cell(value, None))
    return made


def stack(*things: RenderableType) -> Group:
    """One below the other, as one."""
    return Group(*things)


def cell(value: Any, most: int | None = CELL_CHARS) -> Text:
    """A value as text; a word that says how something stands has its colour."""
    if isinstance(value, Text):
        return value
    text = NONE if value is None else clean(f"{value:,}" if isinstance(value, float) else str(value))
    text = text if most is None or len(text) <= most else f"{text[: most - 1]}…"
    return Text(text, style=_STYLES.get(text, ""))


# --- time


def seconds_since(moment: str) -> float:
    """How long ago an ISO 8601 time was; below zero: still ahead."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def age(moment: str | None) -> str:
    """Short, for a column: 12s, 3m05s, 2h10m, 4d3h; ahead: in 12s."""
    if moment is None:
        return NONE
    seconds = seconds_since(moment)
    return f"in {span(-seconds)}" if seconds <= -0.5 else span(max(0.0, seconds))


def ago(moment: str | None) -> str | None:
    """In a sentence: '3m05s ago', 'in 12s'."""
    if moment is None:
        return None
    text = age(moment)
    return text if text.startswith("in ") else f"{text} ago"


def span(seconds: float | None) -> str:
    """A duration, short."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 59.5:
        return f"{seconds:.0f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def period(seconds: float) -> str:
    """A duration as one types it: 90s, 5m, 2h, 1d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def ahead(moment: str) -> str:
    """Of what is to come, in a sentence: 'in 12s', 'at once' where its time has come."""
    text = age(moment)
    return text if text.startswith("in ") else "at once"


def dated(moment: str, timezone: str) -> str:
    """As a calendar there has it: Mon 2026-11-23 06:00 Europe/Berlin. In UTC if the zone is not known here."""
    try:
        there = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        timezone, there = "UTC", ZoneInfo("UTC")
    at = datetime.fromisoformat(moment).astimezone(there)
    return f"{at:%a %Y-%m-%d %H:%M}{f':{at:%S}' if at.second else ''} {timezone}"


def clock(moment: str) -> str:
    """A time of day here, with the date unless it is today's."""
    here = datetime.fromisoformat(moment).astimezone()
    return here.strftime("%H:%M:%S" if here.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


def percent(share: float | None) -> str:
    """A share in percent; never 100% before all is done."""
    return NONE if share is None else f"{int(share * 100)}%"
