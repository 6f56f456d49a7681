"""What tasks print, on its way from a child to its worker: lines in a pipe, with marks between them.

A mark says which task prints from here on, by its serial number, and at which level. What runs outside
Python (C code, programs that a task starts) writes to the same pipe and makes no marks; the worker counts
that for the task that runs. A task that prints nothing costs nothing: the first write makes the mark.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import FileIO, RawIOBase, TextIOBase, TextIOWrapper
from typing import Any, Final, NamedTuple

from shared.protocol import LOG_CHARS_MAX
from tasks.context import Level

NOBODY: Final = 0  # the serial of lines without a mark
_MARK: Final = "\x1e"  # ASCII's record separator: no terminal shows it
_HEADER: Final = re.compile(r"([0-9]{1,19}) (debug|info|warning|error)$")
_HEADER_CHARS: Final = 30
_READ_BYTES: Final = 1 << 16  # what a pipe holds


class Line(NamedTuple):
    """A line as the worker gets it."""

    serial: int
    level: Level
    text: str


def _mark(serial: int, level: Level) -> str:
    return f"{_MARK}{serial} {level}\n"


# --- the child's side


class _Way(FileIO):
    """The raw way into the pipe: marks whose output begins here."""

    def __init__(self, fd: int, serial: Callable[[], int]) -> None:
        super().__init__(fd, "wb", closefd=False)
        self._serial = serial
        self._marked = NOBODY

    def write(self, data: Any) -> int:
        """Write all of it."""
        serial = self._serial()
        if serial != self._marked:
            self._marked = serial
            self._write_all(_mark(serial, "info").encode())
        self._write_all(data)
        return len(data)

    def _write_all(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.fileno(), view) :]

    def close(self) -> None:
        """Stay open: a task that is done with its stdout is not the last one here."""


class Printer(TextIOWrapper):
    """A child's stdout and stderr in one, for the tasks of one strand."""

    def __init__(self, fd: int, serial: Callable[[], int]) -> None:
        self._way = _Way(fd, serial)
        self._whose = serial
        self.is_dirty = False  # whether half a line may wait here
        super().__init__(self._way, "utf-8", errors="backslashreplace", newline="\n", line_buffering=True)

    def write(self, text: str) -> int:
        """Print."""
        self.is_dirty = True
        return super().write(text)

    def say(self, text: str, level: Level) -> None:
        """Print whole lines at a level."""
        self.flush()
        serial = self._whose()
        text = text.replace(_MARK, " ")
        body = f"{_mark(serial, level)}{text}\n{_mark(serial, 'info')}"
        self._way.write(body.encode(errors="backslashreplace"))

    def settle(self) -> None:
        """The task has ended: what waits here goes out, or in what it has put in the place of this."""
        self.is_dirty = False
        self.flush()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # it may be of any kind
                stream.flush()

    def close(self) -> None:
        """Stay open, see _Way."""
        self.flush()

    def detach(self) -> Any:
        """For a task that makes a stdout of its own of it; this one remains as well."""
        self.flush()
        return self.buffer


class Router(TextIOBase):
    """sys.stdout of a child with several strands: each thread prints into its own, strangers into the first."""

    def __init__(self, first: Printer) -> None:
        self._first = first
        self._threads = threading.local()

    def enter(self, printer: Printer) -> None:
        """This thread prints here from now on."""
        self._threads.printer = printer

    @property
    def printer(self) -> Printer:
        """Where this thread prints."""
        found: Printer = getattr(self._threads, "printer", self._first)
        return found

    def write(self, text: str) -> int:
        """Print."""
        return self.printer.write(text)

    def flush(self) -> None:
        """Send what waits."""
        self.printer.flush()

    def close(self) -> None:
        """Stay open, see _Way."""
        self.flush()

    def detach(self) -> Any:
        """The thread's own way into its pipe."""
        return self.printer.detach()

    def reconfigure(self, **options: Any) -> None:
        """Change how this thread's text is written."""
        self.printer.reconfigure(**options)

    def fileno(self) -> int:
        """For programs that are to print here, too."""
        return self.printer.fileno()

    @property
    def buffer(self) -> RawIOBase:
        """For bytes."""
        return self.printer.buffer  # type: ignore[return-value]

    encoding = "utf-8"
    errors = "backslashreplace"


# --- the worker's side


class LineReader:
    """Cuts what comes out of a pipe into lines, without ever holding more than one of them."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.file = open(fd, "rb", buffering=0)  # noqa: SIM115 - closed with its strand
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._serial = NOBODY
        self._level: Level = "info"
        self._rest = ""  # a line that has not ended, or a mark

    def read(self) -> list[Line] | None:
        """The lines that have come since, at most a pipe full; None if nothing has come."""
        data = self.file.read(_READ_BYTES)
        if data is None:
            return None
        lines: list[Line] = []
        if not data:  # the end
            self._end_line(lines)
            return lines or None
        self._cut(self._rest + self._decode(data), lines)
        return lines

    def finish(self) -> list[Line]:
        """What has been printed of a line that nobody will end."""
        lines: list[Line] = []
        if not self._rest.startswith(_MARK):
            self._end_line(lines)
        return lines

    def close(self) -> None:
        """Give the pipe back."""
        self.file.close()

    def _cut(self, text: str, lines: list[Line]) -> None:
        self._rest = ""
        if "\0" in text:
            text = text.replace("\0", "\ufffd")  # no database keeps it
        before, *marked = text.split(_MARK)
        self._take(before, lines)
        for piece in marked:
            header, newline, body = piece.partition("\n")
            mark = _HEADER.match(header)
            if not newline and piece is marked[-1] and len(header) < _HEADER_CHARS:
                self._end_line(lines)
                self._rest = _MARK + piece  # the rest of the mark comes later
            elif mark is None:
                self._take(piece, lines)  # somebody printed this character
            else:
                self._end_line(lines)
                self._serial, self._level = int(mark[1]), mark[2]  # type: ignore[assignment]
                self._take(body, lines)

    def _take(self, text: str, lines: list[Line]) -> None:
        *whole, rest = (self._rest + text).split("\n")
        serial, level = self._serial, self._level
        lines += [Line(serial, level, _shown(line)) for line in whole if line and not line.isspace()]
        self._rest = _shown(rest)
        if rest.endswith("\r"):
            self._rest += "\r"  # what comes next is written over it

    def _end_line(self, lines: list[Line]) -> None:
        if self._rest.strip():
            lines.append(Line(self._serial, self._level, _shown(self._rest)))
        self._rest = ""


def _shown(line: str) -> str:
    """What a terminal would show of a line that rewrites itself, and not more than may travel."""
    if "\r" in line:
        line = line.rstrip("\r").rpartition("\r")[2]
    return line[:LOG_CHARS_MAX]
