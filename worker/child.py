"""A child process: runs the tasks its worker sends, one after the other, and reports each at once.

It alone imports task modules. It talks to nobody but its worker, and ends when the worker is gone.
Started as `python -m worker.child SOCKET_FD BOARD_FD OPTIONS`; see child_process.py for the other side.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
from io import TextIOWrapper
from types import FrameType
from typing import Final, NoReturn

import msgspec
from msgspec import Raw

from shared.protocol import Checkpoint, Grant, Result
from tasks import REGISTRY, DiscoveryError, TaskType, discover
from tasks.board import Board, StopReason
from tasks.context import Interrupted, TaskContext, encode_body
from worker.channel import (
    CHECKPOINT,
    HELLO,
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
from worker.failure import failure_of


class Child:
    """Runs tasks until its worker closes the channel."""

    def __init__(self, channel: Channel, board: Board, options: Options) -> None:
        self._channel = channel
        self._board = board
        self._options = options
        self._work: Final = msgspec.json.Decoder(Work)
        self._serial = 0
        self._inside = False  # whether a task's own code runs, so that a signal may interrupt it
        self._interrupt = False  # whether one came for this task

    def say_hello(self) -> None:
        """Import the task modules and tell the worker what can be run, or why nothing can."""
        try:
            found = discover(self._options.modules)
            hello = Hello({name: _declared(kind) for name, kind in found.items()})
        except DiscoveryError as error:
            hello = Hello(problem=str(error))
        self._channel.send(HELLO, to_bytes(hello))

    def run_forever(self) -> NoReturn:
        """Run what comes; raises Gone when the worker has closed the channel."""
        while True:
            for _, body in self._channel.receive() or ():
                work = self._work.decode(body)
                for serial, grant in enumerate(work.grants, work.first):
                    self._take(serial, grant)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: interrupt the task, if it is the one that shall stop."""
        if self._board.stop_reason(self._serial):
            self._interrupt = True
            if self._inside:
                raise Interrupted

    def _take(self, serial: int, grant: Grant) -> None:
        if not self._board.start(serial):
            self._channel.send(SKIPPED, b"%d" % serial)
            self._board.end(serial)
            return
        self._serial, self._interrupt = serial, False
        result = self._run(grant)
        self._channel.send(RESULT, to_bytes(result))
        self._board.end(serial)

    def _run(self, grant: Grant) -> Result:
        started_at = time.monotonic()
        kind = REGISTRY.get(grant.type)
        ctx = TaskContext(grant, self._serial, self._board, self._save, self._options.checkpoint_interval_seconds)
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
        if self._interrupt:  # swallowed by a bare `except` of the task
            raise Interrupted
        return encode_body(value, "the result")

    def _save(self, checkpoint: Checkpoint) -> None:
        """Send a checkpoint whole: an interruption waits until it is out."""
        self._inside = False
        self._channel.send(CHECKPOINT, to_bytes(checkpoint))
        self._inside = True
        if self._interrupt:
            raise Interrupted


def _declared(kind: TaskType) -> Declared:
    return Declared(kind.timeout_seconds, kind.max_retries, kind.pure)


def main() -> None:
    """Serve the worker whose socket and board this process has inherited."""
    socket_fd, board_fd, options = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    faulthandler.enable()
    sys.path.append(os.getcwd())  # for TASK_MODULES; behind everything else, so it shadows nothing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    channel = Channel(socket.socket(fileno=socket_fd))
    child = Child(channel, Board(board_fd), msgspec.json.decode(options, type=Options))
    signal.signal(signal.SIGTERM, child.on_signal)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a task's lines come out as they are printed
    try:
        child.say_hello()
        child.run_forever()
    except (Gone, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # not waiting for threads that a task may have left


if __name__ == "__main__":
    main()
