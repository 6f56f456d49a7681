"""A program that a task runs: in a process group of its own, its output as lines, gone when its task is.

Read command_task.py for what the task makes of it.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import IO, Any, Final

from tasks.context import Level

_READ_BYTES: Final = 1 << 16
_GLANCE_SECONDS: Final = 0.05  # an end that closes no pipe is noticed so late
_DRAIN_READS: Final = 32  # twice what a pipe holds: what is left in it when the program has ended
TAIL_CHARS: Final = 4096


class Group:
    """A process group that dies with us, whatever happens to us.

    Its leader is there before any member. It waits for the end of a pipe that only we hold, and then kills
    its own group. So there is no moment at which a program runs and nobody would end it.
    """

    def __init__(self) -> None:
        self._leader = subprocess.Popen(
            ["/bin/sh", "-c", "read -r _; kill -s KILL 0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env={},
        )
        self.id = self._leader.pid
        self.members: list[Program] = []

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.id, signal.SIGKILL)
        self._leader.communicate()
        for program in self.members:
            program.close()


class Program:
    """A program in a group. `say` gets its lines: what it writes to stdout is info, to stderr a warning."""

    def __init__(
        self,
        group: Group,
        path: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        say: Callable[[str, Level], None],
    ) -> None:
        self._say = say
        self._process = subprocess.Popen(
            argv,
            executable=path,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=group.id,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.output, self.errors = _Stream(self._process.stdout, "info"), _Stream(self._process.stderr, "warning")
        group.members.append(self)
        self._selector = selectors.DefaultSelector()
        for stream in (self.output, self.errors):
            self._selector.register(stream.file, selectors.EVENT_READ, partial(self._hear, stream))

    def serve(self) -> int | None:
        """Pass on its lines for a moment; returns its exit code once it has ended."""
        for key, _ in self._selector.select(_GLANCE_SECONDS):
            key.data()
        status = self._process.poll()
        if status is not None:
            self._hear_the_rest()
        return status

    def serve_until(self, until: float) -> int | None:
        """The same, until it ends or the monotonic clock says `until`."""
        while (status := self.serve()) is None and time.monotonic() < until:
            continue
        return status

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def close(self) -> None:
        """Collect it; its group calls this when all have been killed."""
        self._process.wait()
        self._selector.close()
        self.output.file.close()
        self.errors.file.close()

    def _hear(self, stream: _Stream) -> bool:
        text = stream.read()
        if text is None:
            return False
        if text:
            self._say(text, stream.level)
        if stream.is_over and stream.file in self._selector.get_map():
            self._selector.unregister(stream.file)
        return not stream.is_over

    def _hear_the_rest(self) -> None:
        for stream in (self.output, self.errors):
            reads = 0  # what it has left behind may hold the pipe, and go on printing
            while reads < _DRAIN_READS and not stream.is_over and self._hear(stream):
                reads += 1
            if rest := stream.finish():
                self._say(rest, stream.level)


class _Stream:
    """One pipe of a program, cut into lines."""

    def __init__(self, file: IO[Any], level: Level) -> None:
        os.set_blocking(file.fileno(), False)
        self.file = file
        self.level = level
        self.tail = ""  # the end of all that came
        self.is_over = False
        self._rest = ""
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def read(self) -> str | None:
        """The whole lines that have come since, without the last line's end; None if nothing has come."""
        try:
            data = os.read(self.file.fileno(), _READ_BYTES)
        except BlockingIOError:
            return None
        self.is_over = not data
        text = self._decode(data, final=self.is_over)
        self.tail = (self.tail + text)[-TAIL_CHARS:]
        whole, newline, rest = (self._rest + text).rpartition("\n")
        if not newline and len(rest) > _READ_BYTES:  # a line without end; its log keeps its beginning
            whole, rest = rest, ""
        self._rest = rest
        return whole

    def finish(self) -> str:
        """The last line, if it has no end."""
        rest, self._rest = self._rest, ""
        return rest
