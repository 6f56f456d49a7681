"""A strand: a line of tasks in a child, run one after the other, as its worker sees it.

Every child has one on its main thread; with WORKER_THREADS each has so many more, one on each thread,
for tasks that wait. A strand has its own channel, board and pipe. Only the executor's thread uses it, but
for `current` and `running`, which any thread may ask.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections import deque
from typing import IO, Final, NamedTuple

from shared.protocol import Grant
from tasks.board import BOARD_BYTES, Board, StopReason
from worker.channel import WORK, Channel, Work, to_bytes
from worker.output import NOBODY, Line, LineReader

KILL_AFTER_SECONDS: Final = 2.0  # from the polite request to SIGKILL
NEVER: Final = float("inf")
_PIPE_BYTES: Final = 1 << 18  # a batch fits, and a thousand results
_WITHDRAWAL_SECONDS: Final = 0.001  # see Board.taken
_LINES_KEPT: Final = 20  # for the report of a death


class Running(NamedTuple):
    """What runs now, and what the task shows of itself."""

    grant: Grant
    progress: float | None
    message: str | None


class ChildEnds:
    """What a strand's child inherits: its end of the channel, the board's memory, and of the pipe."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as undo:  # should descriptors run out on the way
            self.work, send_work = _pipe(undo)
            read_results, self.results = _pipe(undo)
            self.ours = Channel(read_results, send_work)
            for end in (read_results, send_work):
                os.set_blocking(end, False)
                _widen(end)
            self.output, self.printed = _pipe(undo)
            self.memory: IO[bytes] = undo.enter_context(_memory())
            os.ftruncate(self.memory.fileno(), BOARD_BYTES)
            undo.pop_all()

    @property
    def fds(self) -> tuple[int, int, int, int]:
        """The numbers to inherit."""
        return self.work, self.results, self.memory.fileno(), self.printed

    def close(self) -> None:
        """The child has them now, or never will."""
        self.memory.close()
        for end in (self.work, self.results, self.printed):
            os.close(end)

    def abandon(self) -> None:
        """There will be no child."""
        self.ours.close()
        os.close(self.output)


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _memory() -> IO[bytes]:
    """A file without a place: on a full disk the first touch of a page would kill who touches it (SIGBUS)."""
    if not hasattr(os, "memfd_create"):
        return tempfile.TemporaryFile()
    return open(os.memfd_create("board"), "w+b", buffering=0)


def _widen(end: int) -> None:
    """Where the system allows it (Linux, as long as a user's pipes have not grown too large)."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class Strand:
    """The tasks that one thread of a child was sent, and how it is talked to."""

    def __init__(self, ends: ChildEnds, is_main: bool) -> None:
        self.is_main = is_main
        self.channel = ends.ours
        self.board = Board(ends.memory.fileno())
        self.output = LineReader(ends.output)
        self.sent: deque[tuple[int, Grant]] = deque()  # without a result yet, in running order
        self.stop_reason = StopReason.NONE  # why the running task was asked to stop
        self.kill_at = NEVER
        self.announced = 0  # serial of the last task whose start was logged
        self.heard_at = 0.0  # when the running task last printed or saved something
        self.last_lines: deque[Line] = deque(maxlen=_LINES_KEPT)
        self._unheard = 0, 0.0  # for how many seconds the task of that serial was not listened to
        self._last_serial = 0
        self._low_water = 0  # with so many tasks left it gets more
        self._collect_at = NEVER  # when withdrawn tasks can be collected

    def close(self) -> None:
        """Give back what it took."""
        self.channel.close()
        self.output.close()

    @property
    def has_room(self) -> bool:
        """Whether it should be given tasks now, if its child is ready."""
        return len(self.sent) <= self._low_water and self._collect_at == NEVER

    def give(self, grants: list[Grant], start_by: dict[tuple[int, int], float]) -> None:
        """Send tasks to run after those it has; `start_by`: when it is too late to start some, by key."""
        first = self._last_serial + 1
        self._last_serial += len(grants)
        self.sent.extend(enumerate(grants, first))
        self._low_water = len(grants) // 2
        work = Work(first, grants)
        if start_by:
            keys = enumerate(((g.task_id, g.attempt) for g in grants), first)
            work.start_by = {serial: start_by[key] for serial, key in keys if key in start_by}
        self.channel.post(WORK, to_bytes(work))

    def ended(self) -> Grant:
        """The task whose result has come: always the oldest."""
        self.stop_reason, self.kill_at = StopReason.NONE, NEVER
        return self.sent.popleft()[1]

    def current(self) -> tuple[Grant, float] | None:
        """The task that runs, and for how long it has."""
        try:
            serial, grant = self.sent[0]
        except IndexError:
            return None
        return (grant, time.monotonic() - self.board.started_at) if self.board.running == serial else None

    def running(self) -> Running | None:
        """What runs, and what it shows."""
        try:
            serial, grant = self.sent[0]
        except IndexError:
            return None
        return Running(grant, *self.board.told(serial)) if self.board.running == serial else None

    @property
    def silent_seconds(self) -> float:
        """For how long the running task has shown nothing: no progress, no checkpoint, no line."""
        return time.monotonic() - max(self.board.started_at, self.board.shown_at, self.heard_at)

    @property
    def unheard_seconds(self) -> float:
        """For how long the running task was held up, since nobody listened: that counts for no limit."""
        serial, seconds = self._unheard
        return seconds if self.sent and self.sent[0][0] == serial else 0.0

    def hold_up(self, seconds: float) -> None:
        """Nobody has listened to the running task for so long."""
        if self.sent:
            self._unheard = self.sent[0][0], self.unheard_seconds + seconds
            self.heard_at = time.monotonic()

    def stop(self, reason: StopReason) -> None:
        """Ask the running task to stop, by its board; unless for a drain, it has only so long."""
        self.stop_reason = reason
        self.board.stop(self.sent[0][0], reason)  # if it has ended meanwhile, nobody is meant
        if reason is not StopReason.DRAIN:
            self.kill_at = time.monotonic() + KILL_AFTER_SECONDS

    # --- taking back what it has not started

    def take_back(self) -> None:
        """Withdraw the tasks that wait behind the running one; `collect` gets them a moment later."""
        if len(self.sent) > 1 and self._collect_at == NEVER:
            self.board.take(self._last_serial)
            self._collect_at = time.monotonic() + _WITHDRAWAL_SECONDS

    @property
    def is_withdrawing(self) -> bool:
        """Whether `collect` should be called soon."""
        return self._collect_at != NEVER

    def collect(self) -> list[Grant]:
        """The withdrawn tasks that the child did not start; none before they can be known."""
        taken: deque[Grant] = deque()
        if time.monotonic() >= self._collect_at:
            self._collect_at = NEVER
            first = self.board.taken()
            while self.sent and self.sent[-1][0] >= first:
                taken.appendleft(self.sent.pop()[1])
        return list(taken)

    def skipped(self, serial: int) -> list[Grant]:
        """The task that the child left out since it was withdrawn; none if it was collected already."""
        return [self.sent.popleft()[1]] if self.sent and self.sent[0][0] == serial else []

    # --- its lines

    def note(self, lines: list[Line]) -> None:
        """Something was printed here."""
        self.heard_at = time.monotonic()
        self.last_lines.extend(lines)

    def whose(self, serial: int) -> Grant | None:
        """The task that printed lines: as they were marked, or the oldest without a result.

        A mark of a task that has ended is over: what follows it came from outside Python.
        """
        if not self.sent:
            return None
        oldest, grant = self.sent[0]
        if serial <= oldest:
            return grant
        return next((grant for sent, grant in self.sent if sent == serial), None)

    def last_words(self) -> list[str]:
        """The last lines of the task that ran, as far as they can be told from others'."""
        serial = self.sent[0][0] if self.sent else NOBODY
        return [line.text for line in self.last_lines if line.serial in (NOBODY, serial)]
