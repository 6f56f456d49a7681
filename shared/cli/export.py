"""Writes every task that fits as a row of a CSV or as a line of JSON, oldest first.

They come newest first, a page at a time, and the columns are known only when the last has come. Until then the
tasks wait in a temporary file, so memory holds the names of the columns and where each task begins, no bodies.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from shared import exits
from shared.wording import reason_in_words

BEFORE: Final = ("task_id", "status")
BEHIND: Final = ("error", "attempt", "worker", "started_at", "finished_at", "elapsed_seconds")
WHOLE: Final = "result"  # the column of results that are no objects
_object: Final = msgspec.json.Decoder(dict[str, Raw])


class Out(Protocol):
    """Where the text goes."""

    def write(self, text: str, /) -> Any:
        """Take a line."""


class Exported(Struct):
    """Of a task what stands in a row."""

    task_id: int
    status: str
    payload: Raw
    result: Raw
    error: Any
    attempt: int
    worker: str | None
    started_at: str | None
    finished_at: str | None
    elapsed_seconds: float | None


_exported: Final = msgspec.json.Decoder(Exported)


class Spool:
    """Tasks on their way, in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, page: Sequence[Raw]) -> None:
        """Keep these; ends the program where there is no room for them."""
        try:
            for task in page:
                self._ends.append(self._ends[-1] + self._file.write(task))
            self._file.flush()
        except OSError as error:
            where = f"the folder for temporary files, {tempfile.gettempdir()}, cannot be written"
            exits.fail(f"{where}: {error.strerror}; name another one with TMPDIR", exits.UNWRITTEN)

    def __reversed__(self) -> Iterator[bytes]:
        """The last one first, which is the oldest."""
        for place in range(len(self) - 1, -1, -1):
            self._file.seek(self._ends[place])
            yield self._file.read(self._ends[place + 1] - self._ends[place])


def write_lines(pages: Iterable[Sequence[Raw]], out: Out) -> int:
    """Each task as the dispatcher shows it, one a line; returns how many."""
    with tempfile.TemporaryFile() as file:
        spool = Spool(file)
        for page in pages:
            spool.add(page)
        for task in reversed(spool):
            out.write(f"{_on_one_line(task)}\n")
        return len(spool)


def write_table(pages: Iterable[Sequence[Raw]], out: Out) -> int:
    """A header with every field that any of them has, and a row for each; returns how many."""
    payload, result = dict[str, str](), dict[str, str]()  # each field, empty: what stands where a task has none
    with tempfile.TemporaryFile() as file:
        spool = Spool(file)
        for page in pages:
            spool.add(page)
            for task in map(_exported.decode, page):
                payload |= dict.fromkeys(_fields(task.payload), "")
                result |= dict.fromkeys(_results(task), "")
        table = csv.writer(out, lineterminator="\n")
        table.writerow([*BEFORE, *_columns(payload, result), *BEHIND])
        for task in map(_exported.decode, reversed(spool)):
            table.writerow(_row(task, payload, result))
        return len(spool)


def _columns(payload: Iterable[str], result: Iterable[str]) -> list[str]:
    """The fields' names, each once: of two that are equal the later one says where it is from."""
    taken = {*BEFORE, *BEHIND}
    columns = []
    for origin, names in (("payload", payload), ("result", result)):
        for name in names:
            column = name
            while column in taken:
                column = f"{origin}.{column}"
            taken.add(column)
            columns.append(column)
    return columns


def _row(task: Exported, payload: dict[str, str], result: dict[str, str]) -> list[Any]:
    given = payload | {name: _cell(value) for name, value in _fields(task.payload).items()}
    found = result | {name: _cell(value) for name, value in _results(task).items()}
    behind = (task.attempt, task.worker, task.started_at, task.finished_at, task.elapsed_seconds)
    return [task.task_id, task.status, *given.values(), *found.values(), reason_in_words(task.error), *behind]


def _fields(body: Raw) -> dict[str, Raw]:
    return _object.decode(body) if bytes(body).lstrip().startswith(b"{") else {}


def _results(task: Exported) -> dict[str, Raw]:
    """The result's fields, or all of it as one if it is anything else."""
    body = bytes(task.result).strip()
    return _fields(task.result) if body.startswith(b"{") or body == b"null" else {WHOLE: task.result}


def _cell(value: Raw) -> str:
    """Text as it is, nothing for null, anything else as its JSON."""
    body = bytes(value)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # letters that are none
        if body.startswith(b'"'):
            return str(msgspec.json.decode(body))
    return "" if body == b"null" else _on_one_line(body)


def _on_one_line(body: bytes) -> str:
    """JSON as it came; line breaks stand only between its values, so blanks do as well."""
    return body.replace(b"\r", b" ").replace(b"\n", b" ").decode(errors="replace")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Out]:
    """A file that is there, whole, when the block has ended well; else what stood there before still does."""
    target = path.resolve()
    if target.exists() and not target.is_file():  # a pipe, /dev/null: there is nothing to keep
        with target.open("w", encoding="utf-8", newline="") as out:
            yield out
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        if target.exists():
            shutil.copymode(target, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
