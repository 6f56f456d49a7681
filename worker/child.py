"""A child process: runs the tasks its worker sends, and reports each at once.

It alone imports task modules. It talks to nobody but its worker, and ends when the worker is gone. Each
strand runs one task after the other: the first on the main thread, further ones on threads of their own.
Started as `python -m worker.child IN:OUT:BOARD:PRINTED[,...] OPTIONS`; see child_process.py for the other side.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import ClassVar, Final, NoReturn

import msgspec
from msgspec import Raw

from shared.protocol import Checkpoint, Grant, Result
from tasks import REGISTRY, DiscoveryError, TaskType, discover
from tasks.board import Board, StopReason
from tasks.body import NotSendable, encode_body
from tasks.context import Interrupted, TaskContext, TaskLog
from worker.channel import (
    CHECKPOINT,
    HELLO,
    LAST,
    RESULT,
    SKIPPED,
    Channel,
    Declared,
    Gone,
    Hello,
    Options,
    Work,
    to_bytes,
)
from worker.failure import FORCED, OVERRUN, deadline_missed, failure_of
from worker.offspring import is_left, leave, on_signals
from worker.output import Printer, Router


class StrandRunner:
    """Runs a strand's tasks until the worker closes the channel."""

    stdout: ClassVar[Printer | Router]  # of this process, unless a task has put something else in its place

    def __init__(self, fds: str, options: Options, is_only: bool) -> None:
        reads, writes, board, pipe = map(int, fds.split(":"))
        self._channel = Channel(reads, writes)
        self._board = Board(board)
        self._interval_seconds = options.checkpoint_interval_seconds
        self.printer: Final = Printer(pipe, lambda: self._serial)
        self._work: Final = msgspec.json.Decoder(Work)
        self._is_only = is_only
        self._serial = 0
        self._pid = os.getpid()
        self._inside = False  # whether a task's own code runs, so that a signal may interrupt it
        self._interrupt = False  # whether one came for this task

    def say_hello(self, hello: Hello) -> None:
        """Tell the worker what can be run, or why nothing can."""
        self._channel.send(HELLO, to_bytes(hello))

    def run_forever(self) -> NoReturn:
        """Run what comes; raises Gone when the worker has closed the channel."""
        while True:
            for _, body in self._channel.receive() or ():
                work = self._work.decode(body)
                for serial, grant in enumerate(work.grants, work.first):
                    self._take(serial, grant, work.start_by.get(serial))

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: interrupt the task, if it is the one that shall stop."""
        if self._board.stop_reason(self._serial):
            self._interrupt = True
            if self._inside:
                raise Interrupted

    def _take(self, serial: int, grant: Grant, start_by: float | None) -> None:
        if not self._board.start(serial):
            self._channel.send(SKIPPED, b"%d" % serial)
            self._board.end(serial)
            return
        self._serial, self._interrupt = serial, False
        late = start_by is not None and time.monotonic() > start_by
        result = deadline_missed(grant) if late else self._run(grant)
        if self.printer.is_dirty or sys.stdout is not self.stdout or sys.stderr is not self.stdout:
            self.printer.settle()
        if result.outcome != "completed" and self._has_left(serial):
            self._channel.send(LAST, to_bytes(result))
            while True:
                signal.pause()  # to be killed with what is left
        self._channel.send(RESULT, to_bytes(result))
        self._board.end(serial)

    def _has_left(self, serial: int) -> bool:
        """Whether a task that was stopped goes on in processes of its own; beside others nobody can say whose."""
        return self._is_only and self._board.stop_reason(serial) in FORCED and is_left()

    def _run(self, grant: Grant) -> Result:
        started_at = time.monotonic()
        kind = REGISTRY.get(grant.type)
        ctx = TaskContext(grant, self._serial, self._board, self._save, self._interval_seconds)
        result = Result(task_id=grant.task_id, attempt=grant.attempt, lease_id=grant.lease_id, outcome="completed")
        try:
            result.result = self._call(kind, grant, ctx)
            result.checkpoint = ctx.unsent() if ctx.has_output else None
        except BaseException as error:  # whatever a task raises is its outcome, SystemExit too
            self._inside = False
            reason = StopReason(self._board.stop_reason(self._serial))
            failure_of(error, reason, grant, kind, result)
            result.checkpoint = ctx.unsent()
        result.elapsed_seconds = time.monotonic() - started_at
        return result

    def _call(self, kind: TaskType | None, grant: Grant, ctx: TaskContext) -> Raw:
        if kind is None:
            raise LookupError(f"no task module here declares {grant.type!r}")
        arguments = kind.arguments.decode(grant.payload)
        self._inside = True
        try:
            value = kind.function(ctx, **arguments)
        finally:
            self._inside = False
            if os.getpid() != self._pid:
                leave()  # what it forked shall not report, too
        if self._interrupt:  # swallowed by a bare `except` of the task
            raise Interrupted
        if self._board.stop_reason(self._serial) in OVERRUN:
            raise Interrupted  # it noticed and returned, before the signal came or on a thread, where none comes
        try:
            return encode_body(value, "the result")
        except NotSendable as problem:
            raise problem.with_traceback(None) from None  # no line of the task's is in it

    def _save(self, checkpoint: Checkpoint) -> None:
        """Send a checkpoint whole: an interruption waits until it is out."""
        if os.getpid() != self._pid:
            raise RuntimeError("a process that the task has forked cannot save; save where the task began")
        self._inside = False
        self._channel.send(CHECKPOINT, to_bytes(checkpoint))
        self._inside = True
        if self._interrupt:
            raise Interrupted


def _hello(options: Options) -> Hello:
    """Import the task modules and see what can be run."""
    empty: list[str] = []
    try:
        found = discover(options.modules, options.programs, empty.append)
        return Hello({name: _declared(kind) for name, kind in found.items()}, empty)
    except DiscoveryError as error:
        return Hello(problem=str(error))


def _declared(kind: TaskType) -> Declared:
    return Declared(kind.timeout_seconds, kind.max_retries, kind.pure, kind.waits)


def _run_on_thread(strand: StrandRunner, router: Router) -> None:
    """Run a strand; our own mistake there takes the process along, so that the worker hears of it."""
    router.enter(strand.printer)
    try:
        strand.run_forever()
    except (Gone, BrokenPipeError, ConnectionResetError):
        return
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def main() -> None:
    """Serve the worker whose pipes and boards this process has inherited."""
    options = msgspec.json.decode(sys.argv[2], type=Options)
    faulthandler.enable()
    sys.path.append(os.getcwd())  # for TASK_MODULES; behind everything else, so it shadows nothing
    main_fds, *other_fds = sys.argv[1].split(",")
    first = StrandRunner(main_fds, options, is_only=not other_fds)
    others = [StrandRunner(fds, options, is_only=False) for fds in other_fds]
    on_signals(first.on_signal)
    router = Router(first.printer)
    sys.stdout = sys.stderr = StrandRunner.stdout = router if others else first.printer
    TaskContext.log = TaskLog(lambda text, level: router.printer.say(text, level))
    try:
        first.say_hello(_hello(options))
        for strand in others:
            threading.Thread(target=_run_on_thread, args=(strand, router), daemon=True).start()
        first.run_forever()
    except (Gone, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # not waiting for threads that a task may have left
    except BaseException:  # our mistake, or a handler of a signal that a task has left
        sys.excepthook(*sys.exc_info())
        os._exit(1)


if __name__ == "__main__":
    main()
