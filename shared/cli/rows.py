"""Payloads from a file, one a row: a CSV with a header, or lines of JSON.

All of it is read and checked before anything is sent; what is wrong is told with file and line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec
from msgspec import Raw

from shared import errors
from shared.cli.documents import read_text
from shared.payload import check_payload
from shared.protocol import BODY_BYTES_MAX

Row = tuple[int, dict[str, Raw]]  # the line where it begins, and its fields
_TRUTH: Final = {
    word: Raw(word.lower().encode()) for word in ("True", "TRUE", "False", "FALSE")
}  # as others write it
_SHORT_NUMBER: Final = re.compile(r"-?(\d+\.|\.\d+)([eE][+-]?\d+)?")  # 5. and .5, which JSON does not have
_object: Final = msgspec.json.Decoder(dict[str, Raw])


def payloads(file: str, common: Mapping[str, Raw]) -> list[Raw]:
    """The payload of each row: its own fields over the `common` ones. Usage error for a row that cannot be one."""
    kind = "jsonl" if file == "-" else Path(file).suffix.lower().removeprefix(".")
    if kind not in ("csv", "jsonl", "ndjson"):
        raise click.UsageError(f"{file} must end in .csv or .jsonl; '-' is JSON lines on standard input")
    where, text = read_text(file)
    found = []
    for line, fields in _csv_rows(text, where) if kind == "csv" else _json_rows(text, where):
        body = Raw(msgspec.json.encode({**common, **fields}))
        try:
            check_payload(body, "its payload")
        except errors.Refused as error:
            _refuse(where, line, error.message)
        found.append(body)
    if not found:
        raise click.UsageError(f"{where} has no rows: there is nothing to submit")
    return found


def _refuse(where: str, line: int, problem: str) -> NoReturn:
    raise click.UsageError(f"{where} line {line}: {problem}")


# --- CSV


def _csv_rows(text: str, where: str) -> Iterator[Row]:
    lines = _csv_lines(text, where)
    first, header = next(lines, (1, []))
    names = [name.strip() for name in header]
    _check_names(names, where, first)
    for line, cells in lines:
        if len(cells) != len(names):
            _refuse(where, line, f"{len(cells)} cell(s), and the header names {len(names)}")
        yield line, {name: value(cell) for name, cell in zip(names, cells, strict=True) if cell.strip()}


def _csv_lines(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line where it begins: a quoted cell may go on over several. Empty lines are no rows."""
    csv.field_size_limit(BODY_BYTES_MAX)
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        _refuse(where, line, f"this is no CSV: {error}")


def _check_names(names: list[str], where: str, line: int) -> None:
    if not names:
        raise click.UsageError(f"{where} is empty: its first line must name the columns")
    for place, name in enumerate(names, 1):
        if not name:
            hint = "; with pandas write to_csv(…, index=False)" if place == 1 else ""
            _refuse(where, line, f"column {place} has no name{hint}")
        if name in names[: place - 1]:
            _refuse(where, line, f"two columns are named {name!r}")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        _refuse(where, line, f"there is one column, {names[0]!r}; separate columns by commas")


def value(cell: str) -> Raw:
    """What a cell says: a number, true, false or other JSON as it stands there, anything else as text."""
    try:
        msgspec.json.decode(cell)
    except (msgspec.DecodeError, RecursionError):
        bare = cell.strip()
        if _SHORT_NUMBER.fullmatch(bare):
            return Raw(msgspec.json.encode(float(bare)))
        return _TRUTH.get(bare) or Raw(msgspec.json.encode(cell))
    return Raw(cell.encode())


# --- lines of JSON


def _json_rows(text: str, where: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                yield line, _object.decode(content)
            except msgspec.ValidationError:
                _refuse(where, line, "this is no JSON object: a line is a payload, as {…}")
            except (msgspec.DecodeError, RecursionError) as error:
                _refuse(where, line, f"this is not JSON: {error}")
