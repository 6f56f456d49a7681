"""The board: a piece of memory that a child and its worker both see, so that neither has to ask.

The child writes which task it runs, since when, and how far it is; the worker writes which task shall
stop, and which tasks it takes back. Each word has one writer, and an aligned 64-bit word is written
whole. A task goes by its serial number: a child's tasks are numbered 1, 2, 3, ... in running order.
"""

from __future__ import annotations

import mmap
import time
from enum import IntEnum
from typing import Final

_TEXT_AT: Final = 128  # two cache lines for the words, then the message
TEXT_BYTES_MAX: Final = 4096  # 1,024 characters of up to 4 bytes
BOARD_BYTES: Final = _TEXT_AT + TEXT_BYTES_MAX

# Written by the child.
_STARTED, _ENDED, _STARTED_AT, _PROGRESS_OF, _PROGRESS, _TEXT_OF, _TEXT_LENGTH, _SHOWN_AT = range(8)
# Written by the worker, in a cache line of their own.
_STOP, _TAKEN_FROM, _TAKEN_TO = range(8, 11)


class StopReason(IntEnum):
    """Why a running task shall stop; NONE while nobody asks."""

    NONE = 0
    DRAIN = 1  # the worker stops: keep a checkpoint, the task is released
    TIMEOUT = 2  # it overran its time limit and fails
    DROP = 3  # cancelled or lost: whatever it reports is ignored
    STALL = 4  # it showed no sign of life for too long and fails


class Board:
    """A child's board. `fd` names memory to share; without it the board is private (for trials)."""

    def __init__(self, fd: int = -1) -> None:
        memory = memoryview(mmap.mmap(fd, BOARD_BYTES))
        self._words = memory[:_TEXT_AT].cast("q")
        self._reals = memory[:_TEXT_AT].cast("d")
        self._text = memory[_TEXT_AT:]

    # --- the child's side

    def start(self, serial: int) -> bool:
        """Say that task `serial` starts now; False if the worker has taken it back.

        The child announces first and looks second; the worker withdraws first and looks later
        (see `taken`). So a task is either run here or taken, never both.
        """
        words = self._words
        self._reals[_STARTED_AT] = time.monotonic()
        words[_STARTED] = serial
        return not words[_TAKEN_FROM] <= serial < words[_TAKEN_TO]

    def end(self, serial: int) -> None:
        """Say that task `serial` has ended."""
        self._words[_ENDED] = serial

    def stop_reason(self, serial: int) -> int:
        """Why task `serial` shall stop, a StopReason; 0 while it may go on."""
        word = self._words[_STOP]
        return word & 7 if word >> 3 == serial else 0

    def tell(self, serial: int, progress: float | None, message: str | None) -> None:
        """Show how far task `serial` is, and a line about it; None leaves what was shown."""
        words = self._words
        self.touch(time.monotonic())
        if progress is not None:
            self._reals[_PROGRESS] = progress
            words[_PROGRESS_OF] = serial
        if message is not None:
            text = message.encode(errors="replace")[:TEXT_BYTES_MAX]
            words[_TEXT_OF] = 0  # nobody's while it is half written
            self._text[: len(text)] = text
            words[_TEXT_LENGTH] = len(text)
            words[_TEXT_OF] = serial

    def touch(self, now: float) -> None:
        """Show a sign of life."""
        self._reals[_SHOWN_AT] = now

    # --- the worker's side

    @property
    def running(self) -> int:
        """The serial of the task that runs, or 0."""
        started = self._words[_STARTED]
        return started if started > self._words[_ENDED] else 0

    @property
    def started_at(self) -> float:
        """When the last task started, on the monotonic clock."""
        return self._reals[_STARTED_AT]

    @property
    def shown_at(self) -> float:
        """When a task showed something last, on the monotonic clock."""
        return self._reals[_SHOWN_AT]

    def told(self, serial: int) -> tuple[float | None, str | None]:
        """What task `serial` shows: progress and message, each None if it has shown none."""
        words = self._words
        progress = self._reals[_PROGRESS] if words[_PROGRESS_OF] == serial else None
        if words[_TEXT_OF] != serial:
            return progress, None
        text = bytes(self._text[: words[_TEXT_LENGTH]])
        whole = words[_TEXT_OF] == serial  # rewritten while we read it: better nothing than a mixture
        return progress, text.decode(errors="ignore") if whole else None

    def stop(self, serial: int, reason: StopReason) -> None:
        """Ask task `serial` to stop; it sees that at its next checkpoint or `ctx.stopping`."""
        self._words[_STOP] = serial << 3 | reason

    def take(self, last: int) -> None:
        """Withdraw every task up to `last` that has not started yet; see `taken` for what that got."""
        self._words[_TAKEN_TO] = last + 1
        self._words[_TAKEN_FROM] = self._words[_STARTED] + 1

    def taken(self) -> int:
        """The first serial that was withdrawn before the child started it.

        To be asked a millisecond after `take`, or later: a child that did not see the withdrawal
        had announced its start before, and that announcement has arrived here by then (a processor
        keeps a write to itself for less than a microsecond).
        """
        return max(self._words[_TAKEN_FROM], self._words[_STARTED] + 1)
