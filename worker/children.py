"""The children of a worker: one for each slot, started, listened to, buried, and started again.

What they say and how they die is handed on to the executor; here is only the coming and going.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec

from shared.backoff import RECONNECT
from shared.log import Log
from worker.bell import Bell
from worker.channel import HELLO, Declared, Frame, Gone, Hello
from worker.child_process import ChildProcess
from worker.failure import death
from worker.watchdog import Watchdog

_STARTS_TRIED: Final = 3  # before giving up, if none has ever succeeded
_hello: Final = msgspec.json.Decoder(Hello)


class UnusableTasks(Exception):
    """No child can run anything; the message says why."""


class _Slot:
    """A place for one child at a time."""

    def __init__(self) -> None:
        self.child: ChildProcess | None = None
        self.failed_starts = 0  # in a row
        self.start_at = 0.0


class Children:
    """The living children. `on_frames` gets what one has said, `on_death` one that is dead and why."""

    def __init__(
        self,
        slots: int,
        options: str,
        log: Log,
        on_frames: Callable[[ChildProcess, list[Frame]], None],
        on_death: Callable[[ChildProcess, msgspec.Raw], None],
    ) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._options = options
        self._log = log
        self._on_frames = on_frames
        self._on_death = on_death
        self._watchdog = Watchdog()
        self.bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.bell, selectors.EVENT_READ, self.bell.quiet)
        self.types: dict[str, Declared] = {}  # what they can run, once one has said hello

    def __iter__(self) -> Iterator[ChildProcess]:
        """Those that live now; any thread may ask."""
        return (child for slot in self._slots if (child := slot.child) is not None)

    def start_missing(self) -> None:
        """Start a child in each empty slot whose time has come."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.child is None and now >= slot.start_at:
                self._start(slot)

    def attend(self, seconds: float) -> None:
        """Wait up to `seconds` for something from a child, or the bell, and deal with it."""
        for key, _ in self._selector.select(seconds):
            key.data()

    def listen(self, hold_off: bool) -> None:
        """Say what to wait for: frames, unless they are to be held off, and room for ours that wait."""
        for slot in self._slots:
            if slot.child is not None:
                self._listen(slot, slot.child, 0 if hold_off else selectors.EVENT_READ)

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
            child = slot.child = ChildProcess(self._options)
        except OSError as error:  # no memory, no processes left: that may pass
            self._log("child_unusable", reason=error)
            self._start_later(slot)
            return
        self._watchdog.watch(child.pid)
        self._listen(slot, child, selectors.EVENT_READ)
        self._selector.register(child.output, selectors.EVENT_READ, partial(self._hear_output, child))
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._bury, slot, child))

    def _start_later(self, slot: _Slot) -> None:
        slot.failed_starts += 1
        slot.start_at = time.monotonic() + RECONNECT.delay_seconds(slot.failed_starts)

    def _on_hello(self, child: ChildProcess, hello: Hello) -> None:
        if hello.problem is None:
            child.is_ready = True
            self.types = hello.types
        elif self.types:  # a module was broken while we run: try on, somebody may mend it
            self._log("child_unusable", reason=hello.problem)
            child.kill()
        else:
            raise UnusableTasks(hello.problem)

    # --- hearing

    def _listen(self, slot: _Slot, child: ChildProcess, wanted: int) -> None:
        wanted |= selectors.EVENT_WRITE if child.channel.is_full else 0
        end = child.channel.socket
        known = self._selector.get_map().get(end)
        if known is None and wanted:
            self._selector.register(end, wanted, partial(self._hear, slot, child))
        elif known is not None and not wanted:
            self._selector.unregister(end)
        elif known is not None and known.events != wanted:
            self._selector.modify(end, wanted, known.data)

    def _hear(self, slot: _Slot, child: ChildProcess) -> None:
        if child.is_dead:  # of several signs at once, its death was seen first
            return
        child.channel.flush()
        try:
            self._receive(child)
        except Gone:
            self._bury(slot, child)

    def _receive(self, child: ChildProcess) -> bool:
        """Hand on what a child has sent; returns whether there was any, raises Gone at its end."""
        frames = child.channel.receive()
        if frames and not child.is_ready:
            (kind, body), *frames = frames
            assert kind == HELLO
            self._on_hello(child, _hello.decode(body))
        if frames:
            self._on_frames(child, frames)
        return frames is not None

    def _hear_output(self, child: ChildProcess) -> None:
        if child.is_dead:
            return
        running = child.running()
        for line in child.read_lines():
            self._log("task_line", task_id=running.grant.task_id if running else "-", text=line)

    # --- going

    def _bury(self, slot: _Slot, child: ChildProcess) -> None:
        """A child is dead or has closed its channel: hear its last words, and make room for another."""
        if child.is_dead:
            return
        try:
            while self._receive(child):
                continue
        except Gone:
            pass  # all that it said has been heard
        self._hear_output(child)
        for end in (child.channel.socket, child.output, child.pidfd):
            if end is not None and end in self._selector.get_map():
                self._selector.unregister(end)
        child.kill()  # what it left behind in its group, while the group's number is still ours
        self._watchdog.forget(child.pid)
        status, peak_rss_bytes = child.bury()
        slot.child = None
        self._on_death(child, death(status, peak_rss_bytes, child.last_lines))
        if child.is_ready:
            slot.failed_starts = 0
            return
        self._start_later(slot)
        if not self.types and slot.failed_starts >= _STARTS_TRIED:
            raise UnusableTasks(f"task processes die while starting: {' | '.join(child.last_lines)}")
