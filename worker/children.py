"""The children of a worker: one for each slot, started, listened to, buried, and started again.

What they say and how they die is handed on to the executor; here is only the coming and going.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, Final

import msgspec

from shared.backoff import RECONNECT
from shared.log import Log
from shared.watchdog import Watchdog
from worker.bell import Bell
from worker.channel import HELLO, Declared, Frame, Garbled, Gone, Hello
from worker.child_process import ChildProcess
from worker.output import Line
from worker.strand import Strand

_STARTS_TRIED: Final = 3  # before giving up, if none has ever succeeded
# After so long without a child that is ready, a slot counts for nothing: other workers shall have its tasks. A
# child that has died is replaced in 0.1 s, on a loaded machine in two.
_ABSENCE_SECONDS: Final = 5.0
_READS_MAX: Final = 32  # of a pipe at once: twice what it holds, so that what keeps printing stops nobody
_hello: Final = msgspec.json.Decoder(Hello)


class UnusableTasks(Exception):
    """No child can run anything; the message says why."""


class _Slot:
    """A place for one child at a time."""

    def __init__(self) -> None:
        self.child: ChildProcess | None = None
        self.failed_starts = 0  # in a row
        self.start_at = 0.0
        self.absent_since = time.monotonic()  # of a child that is not ready

    @property
    def is_usable(self) -> bool:
        """Whether its child can work, or is expected to in a moment."""
        child = self.child
        return (child is not None and child.is_ready) or time.monotonic() < self.absent_since + _ABSENCE_SECONDS


class Children:
    """The living children, each with `threads` strands beside its main one.

    `on_frames` gets what a strand has said, `on_lines` what was printed in one, before the frames that were
    sent after it; `on_death` a child that is dead, its wait status and its peak memory in bytes.
    """

    def __init__(
        self,
        slots: int,
        threads: int,
        options: str,
        log: Log,
        on_frames: Callable[[Strand, list[Frame]], None],
        on_lines: Callable[[ChildProcess, Strand, list[Line]], None],
        on_death: Callable[[ChildProcess, int, int], None],
    ) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._threads = threads
        self._options = options
        self._log = log
        self._on_frames = on_frames
        self._on_lines = on_lines
        self._on_death = on_death
        self._watchdog = Watchdog()
        self.bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.bell, selectors.EVENT_READ, self.bell.quiet)
        self.types: dict[str, Declared] = {}  # what they can run, once one has said hello

    def __iter__(self) -> Iterator[ChildProcess]:
        """Those that live now; any thread may ask."""
        return (child for slot in self._slots if (child := slot.child) is not None)

    def strands(self, waits: bool) -> Iterator[Strand]:
        """The main strands of those that can work, or (`waits`) the strands on threads; any thread may ask."""
        working = (child for child in self if child.is_ready and not child.is_killed)
        return (strand for child in working for strand in child.strands if strand.is_main is not waits)

    def usable(self, waits: bool) -> int:
        """How many such strands there are, those of children that are expected in a moment included."""
        return sum(slot.is_usable for slot in self._slots) * (self._threads if waits else 1)

    def start_missing(self) -> None:
        """Start a child in each empty slot whose time has come."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.child is None and now >= slot.start_at:
                self._start(slot)

    def wait(self, seconds: float) -> list[Callable[[], Any]]:
        """Wait up to `seconds` for something from a child, or the bell; returns what deals with it."""
        return [key.data for key, _ in self._selector.select(seconds)]

    def listen(self, hold_off: bool) -> None:
        """Say what to wait for: frames, unless they are to be held off, and room for ours that wait."""
        for slot in self._slots:
            if slot.child is not None:
                for strand in slot.child.strands:
                    self._listen(slot, slot.child, strand, not hold_off)

    def close(self) -> None:
        """Kill every child and all it started."""
        for child in self:
            child.kill()
            self._watchdog.forget(child.pid)
            child.bury()
        self._watchdog.close()
        self._selector.close()
        self.bell.close()

    # --- coming

    def _start(self, slot: _Slot) -> None:
        try:
            child = slot.child = ChildProcess(self._options, self._threads)
        except OSError as error:  # no memory, no processes left: that may pass
            self._log("child_unusable", reason=error)
            self._start_later(slot)
            return
        self._watchdog.watch(child.pid)
        for strand in child.strands:
            self._listen(slot, child, strand, listens=True)
            hear = partial(self._hear_lines, child, strand)
            self._selector.register(strand.output.file, selectors.EVENT_READ, hear)
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._bury, slot, child))

    def _start_later(self, slot: _Slot) -> None:
        slot.failed_starts += 1
        slot.start_at = time.monotonic() + RECONNECT.delay_seconds(slot.failed_starts)

    def _on_hello(self, child: ChildProcess, hello: Hello) -> None:
        if hello.problem is None:
            child.is_ready = True
            for module in () if self.types else hello.empty:  # told once, by the first child
                self._log("module_empty", module=module)
            self.types = hello.types
        elif self.types:  # a module was broken while we run: try on, somebody may mend it
            self._log("child_unusable", reason=hello.problem)
            child.is_killed = True
            child.kill()
        else:
            raise UnusableTasks(hello.problem)

    # --- hearing

    def _listen(self, slot: _Slot, child: ChildProcess, strand: Strand, listens: bool) -> None:
        channel, known = strand.channel, self._selector.get_map()
        if listens and channel.reads not in known:
            self._selector.register(channel.reads, selectors.EVENT_READ, partial(self._hear, slot, child, strand))
        elif not listens:
            self._forget(channel.reads)
        if channel.is_full and channel.writes not in known:
            self._selector.register(channel.writes, selectors.EVENT_WRITE, channel.flush)
        elif not channel.is_full:
            self._forget(channel.writes)

    def _hear(self, slot: _Slot, child: ChildProcess, strand: Strand) -> None:
        if child.is_dead:  # of several signs at once, its death was seen first
            return
        try:
            self._receive(child, strand)
        except Gone as end:
            child.is_garbled = isinstance(end, Garbled)
            self._bury(slot, child)

    def _receive(self, child: ChildProcess, strand: Strand) -> bool:
        """Hand on what a strand has sent; returns whether there was any, raises Gone at its end."""
        frames = strand.channel.receive()
        if frames and not child.is_ready:
            (kind, body), *frames = frames
            assert kind == HELLO
            self._on_hello(child, _hello.decode(body))
        if frames:
            self._hear_all_lines(child, strand)  # what a task printed was in the pipe before its result
            self._on_frames(strand, frames)
        return frames is not None

    def _hear_lines(self, child: ChildProcess, strand: Strand) -> bool:
        """Hand on what has been printed in a strand, a pipe full at most; returns whether there may be more."""
        if child.is_dead:
            return False
        lines = strand.output.read()
        if lines is None:
            return False
        strand.note(lines)
        if lines:
            self._on_lines(child, strand, lines)
        return True

    def _hear_all_lines(self, child: ChildProcess, strand: Strand) -> None:
        for printed_in in (strand,) if strand.is_main else (child.main, strand):
            reads = 0
            while reads < _READS_MAX and self._hear_lines(child, printed_in):
                reads += 1
            if rest := printed_in.output.finish():
                self._on_lines(child, printed_in, rest)

    # --- going

    def _bury(self, slot: _Slot, child: ChildProcess) -> None:
        """A child is dead or has closed its channel: hear its last words, and make room for another."""
        if child.is_dead:
            return
        for strand in child.strands:
            try:
                while self._receive(child, strand):
                    continue
            except Gone:
                pass  # all that it said has been heard
            self._hear_all_lines(child, strand)
            self._forget(strand.channel.reads)
            self._forget(strand.channel.writes)
            self._forget(strand.output.file)
        self._forget(child.pidfd)
        child.kill()  # what it left behind in its group, while the group's number is still ours
        self._watchdog.forget(child.pid)
        status, peak_rss_bytes = child.bury()
        if child.is_ready:
            slot.failed_starts, slot.absent_since = 0, time.monotonic()
        slot.child = None
        self._on_death(child, status, peak_rss_bytes)
        if child.is_ready:
            return
        self._start_later(slot)
        if not self.types and slot.failed_starts >= _STARTS_TRIED:
            last_lines = " | ".join(line.text for line in child.main.last_lines)
            raise UnusableTasks(f"task processes die while starting: {last_lines}")

    def _forget(self, end: IO[bytes] | int | None) -> None:
        if end is not None and end in self._selector.get_map():
            self._selector.unregister(end)
