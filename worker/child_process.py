"""A child process as its worker sees it: one life, from its start to its burial.

Only the executor's thread uses it, but for `current` and `running`, which any thread may ask. Read
child.py for the inside, tasks/board.py for the memory they share.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

from shared.protocol import Grant
from shared.settings import ROOT
from tasks.board import BOARD_BYTES, Board, StopReason
from worker.channel import WORK, Channel, Work, to_bytes

KILL_AFTER_SECONDS: Final = 2.0  # from the polite request to SIGKILL
_BUFFER_BYTES: Final = 1 << 20  # a batch fits, and a few thousand results
_WITHDRAWAL_SECONDS: Final = 0.001  # see Board.taken
_LINES_KEPT: Final = 20
_LINE_CHARS: Final = 2000
NEVER: Final = float("inf")


class Running(NamedTuple):
    """What a child runs now, and what the task shows of itself."""

    grant: Grant
    progress: float | None
    message: str | None


class ChildProcess:
    """A child, its channel and board, and the tasks it was sent. Starts with the object."""

    def __init__(self, options: str) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        ours.setblocking(False)
        self.channel = Channel(ours)
        output, child_output = os.pipe()
        os.set_blocking(output, False)
        self.output = open(output, "rb", buffering=0)  # noqa: SIM115 - closed when the child is buried
        with theirs, tempfile.TemporaryFile() as memory, open(child_output, "wb") as stdout:
            os.ftruncate(memory.fileno(), BOARD_BYTES)
            self.board = Board(memory.fileno())
            self._process = _spawn((theirs.fileno(), memory.fileno()), stdout.fileno(), options)
        self.pid = self._process.pid
        # A process that a task forked keeps the channel open, so the child itself is watched, too.
        self.pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self.is_ready = False  # until its hello
        self.is_dead = False
        self.sent: deque[tuple[int, Grant]] = deque()  # without a result yet, in running order
        self.stop_reason = StopReason.NONE  # why the running task was asked to stop
        self.kill_at = NEVER
        self.announced = 0  # serial of the last task whose start was logged
        self.last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._line = ""
        self._last_serial = 0
        self._low_water = 0  # with so many tasks left it gets more
        self._collect_at = NEVER  # when withdrawn tasks can be collected

    def kill(self) -> None:
        """Kill the whole process group; the executor notices the death as any other."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def bury(self) -> tuple[int, int]:
        """Collect the dead child: its wait status and its peak memory in bytes."""
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait, too
        self.is_dead = True
        self.channel.socket.close()
        self.output.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        return status, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    # --- its tasks

    @property
    def has_room(self) -> bool:
        """Whether it should be given tasks now."""
        return self.is_ready and len(self.sent) <= self._low_water and self._collect_at == NEVER

    def give(self, grants: list[Grant]) -> None:
        """Send tasks to run after those it has."""
        first = self._last_serial + 1
        self._last_serial += len(grants)
        self.sent.extend(enumerate(grants, first))
        self._low_water = len(grants) // 2
        self.channel.post(WORK, to_bytes(Work(first, grants)))

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

    def stop(self, reason: StopReason) -> None:
        """Ask the running task to stop; unless for a drain, interrupt it now, and kill it if that fails."""
        self.stop_reason = reason
        self.board.stop(self.sent[0][0], reason)  # if it has ended meanwhile, nobody is meant
        if reason is not StopReason.DRAIN:
            self.kill_at = time.monotonic() + KILL_AFTER_SECONDS
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

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

    def read_lines(self) -> list[str]:
        """The lines that the child, or what it started, has printed since."""
        read = self.output.read(1 << 16)
        if read is None:
            return []
        *lines, rest = (self._line + read.decode(errors="replace")).split("\n")
        if len(rest) > _LINE_CHARS or not read:
            lines, rest = [*lines, rest], ""
        self._line = rest
        lines = [line[:_LINE_CHARS] for line in lines if line.strip()]
        self.last_lines.extend(lines)
        return lines


def _spawn(fds: tuple[int, int], stdout: int, options: str) -> subprocess.Popen[bytes]:
    """A fresh interpreter in a session, and so a process group, of its own."""
    # -P and PYTHONPATH: it finds our packages whatever its folder, and nothing of that folder instead.
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.child", *map(str, fds), options],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stdout,
        pass_fds=fds,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
