"""Lines on their way from a task to its log: whose they are, how long, how many."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shared.protocol import LOG_CHARS_MAX, LOG_LINES_MAX, Grant
from worker.output import Line, LineReader, Printer, Router
from worker.tail import Tail


class Pipe:
    """A printer whose task has the number `serial`, and a reader at its other end."""

    def __init__(self) -> None:
        ours, self.theirs = os.pipe()
        self.serial = 1
        self.reader = LineReader(ours)
        self.printer = Printer(self.theirs, lambda: self.serial)

    def print_raw(self, text: bytes) -> None:
        os.write(self.theirs, text)

    def lines(self) -> list[Line]:
        found: list[Line] = []
        while (read := self.reader.read()) is not None:
            found += read
        return found

    def texts(self) -> list[str]:
        return [line.text for line in self.lines()]

    def close(self) -> None:
        self.reader.close()
        self.printer.close()
        os.close(self.theirs)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_lines_belong_to_the_task_that_printed_them(pipe: Pipe) -> None:
    print("one", file=pipe.printer)
    pipe.serial = 7
    print("seven", file=pipe.printer)
    pipe.printer.say("careful\nvery", "warning")
    print("still seven", file=pipe.printer)

    assert pipe.lines() == [
        Line(1, "info", "one"),
        Line(7, "info", "seven"),
        Line(7, "warning", "careful"),
        Line(7, "warning", "very"),
        Line(7, "info", "still seven"),
    ]


def test_what_comes_from_outside_python_is_of_whoever_printed_last(pipe: Pipe) -> None:
    pipe.print_raw(b"first\n")
    print("python", file=pipe.printer)
    pipe.print_raw(b"second\n")

    assert [(line.serial, line.text) for line in pipe.lines()] == [(0, "first"), (1, "python"), (1, "second")]


def test_half_a_line_ends_with_its_task(pipe: Pipe) -> None:
    clean = not pipe.printer.is_dirty
    print("half", end="", file=pipe.printer)
    dirty = pipe.printer.is_dirty
    pipe.printer.settle()
    pipe.serial = 2
    print("whole", file=pipe.printer)

    assert clean
    assert dirty
    assert pipe.texts() == ["half", "whole"]


@pytest.mark.parametrize("cut", range(1, 30))
def test_marks_and_characters_survive_a_cut_anywhere(pipe: Pipe, cut: int) -> None:
    stream = "\x1e12 warning\nnaïve …\n\x1e12 info\n".encode()

    pipe.print_raw(stream[:cut])
    lines = pipe.lines()
    pipe.print_raw(stream[cut:])
    lines += pipe.lines()

    assert lines == [Line(12, "warning", "naïve …")]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"a\n\n  \nb\n", ["a", "b"]),
        (b"10 %\r20 %\r30 %\n", ["30 %"]),
        (b"10 %\r20 %\r", ["20 %"]),
        (b"\x1enot a mark\n", ["not a mark"]),
        (b"\xff\x00\n", ["\ufffd\ufffd"]),
        (b"x" * 100_000 + b"\ny\n", ["x" * LOG_CHARS_MAX, "y"]),
        (b"no end", ["no end"]),
    ],
)
def test_a_line_is_what_a_terminal_would_show_of_it(pipe: Pipe, printed: bytes, shown: list[str]) -> None:
    writing = threading.Thread(target=pipe.print_raw, args=(printed,))
    writing.start()
    texts: list[str] = []
    while writing.is_alive():
        texts += pipe.texts()

    texts += pipe.texts()
    texts += [line.text for line in pipe.reader.finish()]
    assert texts == shown


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["10%\r", "20%\r", "30%\r", "done\n"], ["done"]),
        (["10%\r", "20%\r", "30%\r"], ["30%"]),
        (["\r10%", "\r20%", "\r30%", "\n", "next"], ["30%", "next"]),
        (["a line\r", "\n", "\r", "\n"], ["a line"]),
        (["x" * LOG_CHARS_MAX + "y\r", "\r", "z"], ["z"]),
    ],
)
def test_a_line_that_rewrites_itself_is_shown_as_it_was_last(
    pipe: Pipe, pieces: list[str], shown: list[str]
) -> None:
    texts: list[str] = []
    for piece in pieces:
        pipe.print_raw(piece.encode())
        texts += pipe.texts()

    texts += [line.text for line in pipe.reader.finish()]

    assert texts == shown


def test_each_thread_prints_into_its_own_pipe(pipe: Pipe) -> None:
    other = Pipe()
    router = Router(pipe.printer)

    def in_its_thread() -> None:
        router.enter(other.printer)
        print("from the thread", file=router)

    thread = threading.Thread(target=in_its_thread)
    thread.start()
    thread.join()
    print("from elsewhere", file=router)

    assert (other.texts(), pipe.texts()) == (["from the thread"], ["from elsewhere"])
    other.close()


@pytest.mark.parametrize("through_router", [False, True])
def test_a_task_may_close_its_stdout_or_make_another_of_it(pipe: Pipe, through_router: bool) -> None:
    stdout: Any = Router(pipe.printer) if through_router else pipe.printer

    with stdout:
        print("closed", file=stdout)
    for words in ("first", "second"):
        wrapped = io.TextIOWrapper(stdout.buffer, "utf-8")
        print(words, file=wrapped)
        wrapped.close()
    with io.TextIOWrapper(stdout.detach(), "utf-8") as wrapped:
        print("detached", file=wrapped)
    stdout.reconfigure(line_buffering=True)
    print("still there", file=stdout)

    assert pipe.texts() == ["closed", "first", "second", "detached", "still there"]


def test_of_very_many_lines_the_newest_are_kept() -> None:
    tail = Tail(Grant(1, 1, "lease", 100.0, "noop"))

    tail.extend((0.0, "info", str(number)) for number in range(3 * LOG_LINES_MAX))

    assert [line.message for line in tail.aged(0.0)] == [
        str(number) for number in range(2 * LOG_LINES_MAX, 3 * LOG_LINES_MAX)
    ]


def test_very_long_lines_make_room_sooner() -> None:
    tail = Tail(Grant(1, 1, "lease", 100.0, "noop"))

    tail.extend((0.0, "info", str(number % 10) * LOG_CHARS_MAX) for number in range(LOG_LINES_MAX))

    assert tail.chars <= 2**20
    assert tail.aged(0.0)[-1].message[0] == "9"


def test_ages_are_counted_when_a_message_is_made() -> None:
    tail = Tail(Grant(1, 1, "lease", 100.0, "noop"))
    tail.extend([(10.0, "info", "a"), (12.5, "error", "b")])

    assert [(line.age_seconds, line.level) for line in tail.aged(13.0)] == [(3.0, "info"), (0.5, "error")]
    assert [line.age_seconds for line in tail.aged(20.0)] == [10.0, 7.5]
