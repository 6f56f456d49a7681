"""One HTML page that needs nothing else: the reading, the pictures (embedded), the tables, the machine."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #111; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto }
figcaption { color: #444; font-size: .9rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
@media print { body { max-width: none; margin: 0; padding: 0 } figure, table { break-inside: avoid }
  h2 { break-after: avoid } .wide { overflow: visible } table { font-size: .7rem }
  th, td { white-space: normal; padding: .2rem .35rem } }
"""


class Picture(NamedTuple):
    """A PNG and what it shows, in a sentence that also serves those who cannot see it."""

    path: Path
    caption: str


class Numbers(NamedTuple):
    """A table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write(
    path: Path,
    title: str,
    reading: Sequence[str],
    pictures: Sequence[Picture],
    tables: Sequence[Numbers],
    made_with: dict[str, Any],
) -> Path:
    """Write the page; `reading` are its paragraphs, `made_with` the options and the machine."""
    parts = [
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>",
        *(f"<p>{escape(sentence)}</p>" for sentence in reading),
        *map(_figure, pictures),
        *map(_table, tables),
        _table(Numbers("Made with", ("what", "value"), [(k, _text(v)) for k, v in made_with.items()])),
        "</html>\n",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts))
    return path


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode()
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _table(table: Numbers) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
