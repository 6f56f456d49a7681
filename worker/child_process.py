"""A child process as its worker sees it: one life, from its start to its burial.

Read strand.py for what it runs, child.py for its inside, tasks/board.py for the memory they share.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from shared.settings import ROOT
from tasks.board import StopReason
from worker.strand import ChildEnds, Strand


class ChildProcess:
    """A child and its strands. Starts with the object."""

    def __init__(self, options: str, threads: int) -> None:
        ends: list[ChildEnds] = []
        self.strands: list[Strand] = []
        process = None
        try:
            for number in range(1 + threads):
                ends.append(ChildEnds())
                self.strands.append(Strand(ends[-1], is_main=number == 0))
            self._process = process = _spawn([end.fds for end in ends], options)
            self.pid = process.pid
            # A process that a task forked keeps the channel open, so the child itself is watched, too.
            self.pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        except OSError:
            if process is not None:
                process.kill()
                process.wait()
            for strand in self.strands:
                strand.close()
            for end in ends[len(self.strands) :]:
                end.abandon()
            raise
        finally:
            for end in ends:
                end.close()
        self.is_ready = False  # until its hello
        self.is_dead = False
        self.is_garbled = False  # it was killed since nobody could read what it said
        self.is_killed = False  # by us: a task in it did not stop, or it can run nothing

    @property
    def main(self) -> Strand:
        """The strand on the main thread."""
        return self.strands[0]

    def stop(self, strand: Strand, reason: StopReason) -> None:
        """Ask a strand's running task to stop; unless for a drain, interrupt it now, if it can be.

        A signal reaches the main thread only; what runs on another one has to look at its context.
        """
        strand.stop(reason)
        if strand.is_main and reason is not StopReason.DRAIN:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the whole process group; the executor notices the death as any other."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def bury(self) -> tuple[int, int]:
        """Collect the dead child: its wait status and its peak memory in bytes."""
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait, too
        self.is_dead = True
        for strand in self.strands:
            strand.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        return status, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _spawn(strands: list[tuple[int, int, int, int]], options: str) -> subprocess.Popen[bytes]:
    """A fresh interpreter in a session, and so a process group, of its own."""
    # -P and PYTHONPATH: it finds our packages whatever its folder, and nothing of that folder instead.
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    *_, printed = strands[0]
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "worker.child",
            ",".join(":".join(map(str, fds)) for fds in strands),
            options,
        ],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        pass_fds=[fd for fds in strands for fd in fds],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
