"""What a running task sees: its context, and the exceptions that end it on purpose.

A task calls `ctx.checkpoint` as often as it likes: what is sent is the newest state, at most once per
interval, and always when the task is stopped or fails. Read tasks/compute_task.py for examples.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, TypeVar

import msgspec
from msgspec import Raw

from shared.protocol import EMPTY_OBJECT, MESSAGE_CHARS_MAX, Checkpoint, CheckpointBody, Grant
from tasks.board import Board
from tasks.body import encode_body

# A state of up to so many bytes is written down at every call (about a microsecond), a larger one only
# when it is due, so that `checkpoint` stays cheap in a tight loop.
_SMALL_BYTES: Final = 1024
_OUTPUT_BYTES_AIM: Final = 4 * 1024 * 1024  # so much unsent output goes at once; half of a message


Step = TypeVar("Step")
Level = Literal["debug", "info", "warning", "error"]
_LEVELS: Final = ("debug", "info", "warning", "error")


class Interrupted(BaseException):
    """The task was asked to stop. Not an Exception, so that `except Exception` does not swallow it."""


class Retry(Exception):
    """The task asks to be tried again."""

    def __init__(self, after_seconds: float | None = None, message: str = "the task asks for it") -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class Fail(Exception):
    """Raised by a task that need not be tried again."""


class Again(Exception):
    """The task has saved a checkpoint and wants to go on from it, anywhere: nothing is spent."""


_decode: Final = msgspec.json.Decoder().decode


def _print(text: str, level: Level) -> None:
    print(text, file=sys.stderr, flush=True)


class TaskLog:
    """A task's log: its lines are kept with the attempt. Call it, or its levels."""

    def __init__(self, say: Callable[[str, Level], None] = _print) -> None:
        self.say = say

    def __call__(self, message: object, level: Level = "info") -> None:
        """Write a line, or several; raises ValueError for a level that does not exist."""
        if level not in _LEVELS:
            raise ValueError(f"level {level!r}: expected one of {', '.join(_LEVELS)}")
        self.say(str(message), level)

    def debug(self, message: object, *values: object) -> None:
        """Write a line that matters to whoever mends the task; `values` fill the message's % places."""
        self(_filled(message, values), "debug")

    def info(self, message: object, *values: object) -> None:
        """Write a line about what goes on."""
        self(_filled(message, values), "info")

    def warning(self, message: object, *values: object) -> None:
        """Write a line about what is not as it should be."""
        self(_filled(message, values), "warning")

    def error(self, message: object, *values: object) -> None:
        """Write a line about what went wrong."""
        self(_filled(message, values), "error")


def _filled(message: object, values: tuple[object, ...]) -> str:
    return str(message) % values if values else str(message)


_PLAIN_GRANT: Final = Grant(0, 1, "", 100.0, "trial", EMPTY_OBJECT)


class TaskContext:
    """One attempt of a task, from inside. Without arguments it serves for trying a task function out."""

    log: ClassVar[TaskLog] = TaskLog()

    def __init__(
        self,
        grant: Grant = _PLAIN_GRANT,
        serial: int = 1,
        board: Board | None = None,
        send: Callable[[Checkpoint], None] | None = None,
        interval_seconds: float = 1.0,
    ) -> None:
        self._grant = grant
        self._serial = serial
        self._board = board or Board()
        self._send = send
        self._interval_seconds = interval_seconds
        self._started_at = self._sent_at = time.monotonic()
        self._seq = grant.checkpoint.seq if grant.checkpoint else 0
        self._progress: float | None = None
        self._snapshot: Raw | None = None  # newest state not sent yet
        self._snapshot_at = 0.0
        self._small = True  # whether the last state seen was small
        self._output: list[Raw] = []
        self._chunks = 0  # so many of them belong to that state
        self._output_bytes = 0

    @property
    def task_id(self) -> int:
        """The task's number."""
        return self._grant.task_id

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1, 2, 3, ..."""
        return self._grant.attempt

    @cached_property
    def state(self) -> Any:
        """The state of the last checkpoint, or None at a first start."""
        return _decode(self._grant.checkpoint.state) if self._grant.checkpoint else None

    @cached_property
    def parents(self) -> Mapping[str, Any]:
        """How the tasks it depends on have ended, by key: {"status", "result", "error"}."""
        told: dict[str, Any] = _decode(self._grant.parents)
        return told

    @property
    def stopping(self) -> bool:
        """Whether the task is asked to stop: checkpoint now, or return."""
        return self._board.stop_reason(self._serial) != 0

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Show how far the task is (0 to 1) and a line about it; costs next to nothing."""
        self._board.tell(self._serial, _checked(fraction), message and message[:MESSAGE_CHARS_MAX])

    def checkpoint(self, state: Any, progress: float | None = None, output: Any = None) -> None:
        """Remember `state`: the next attempt finds it in `ctx.state`.

        `output` is one chunk (any JSON value) for the task's output; it is stored together with this
        state or not at all. Raises Interrupted when the task is asked to stop.
        """
        now = time.monotonic()
        stopping = self._board.stop_reason(self._serial)
        due = now - self._sent_at >= self._interval_seconds or self._output_bytes > _OUTPUT_BYTES_AIM
        if self._small or due or stopping or output is not None:
            chunk = encode_body(output, "an output chunk") if output is not None else None
            snapshot = encode_body(state, "the checkpoint's state")
            self._snapshot_at = now
            self._small = len(memoryview(snapshot)) <= _SMALL_BYTES
            self._progress = _checked(progress)
            if chunk is not None:
                self._output.append(chunk)
                self._output_bytes += len(memoryview(chunk))
            chunks = len(self._output)
            # At once, with no call between: a signal may interrupt the task anywhere else, and in between it
            # would lose the chunk of a state that says it is done.
            self._snapshot, self._chunks = snapshot, chunks
        if progress is not None:
            self._board.tell(self._serial, _checked(progress), None)
        else:
            self._board.touch(now)
        if stopping:
            raise Interrupted
        if due:
            self._flush()

    def resume(self, steps: Sequence[Step], state: dict[str, Any] | None = None) -> Iterator[Step]:
        """Go through `steps`, a range or any other sequence, on from where an earlier attempt stopped.

        `state` is a dict the loop's body works on; it is saved with the position and filled again on
        resuming. Ends politely between two steps when the task is asked to stop.
        """
        saved = self.state or {"position": 0, "state": None}
        if state is not None and saved["state"] is not None:
            state.clear()
            state.update(saved["state"])
        for position in range(saved["position"], len(steps)):
            yield steps[position]
            done = position + 1
            self.checkpoint({"position": done, "state": state}, progress=done / len(steps))

    # --- for worker/child.py

    def unsent(self) -> CheckpointBody | None:
        """The newest checkpoint, if the worker has not got it; it counts as sent from now on."""
        if self._snapshot is None:
            return None
        self._seq += 1
        before = self._grant.checkpoint.elapsed_seconds if self._grant.checkpoint else 0.0
        body = CheckpointBody(
            seq=self._seq,
            state=self._snapshot,
            progress=self._progress,
            elapsed_seconds=before + self._snapshot_at - self._started_at,
            output=self._output[: self._chunks],
        )
        self._snapshot, self._output, self._output_bytes, self._chunks = None, [], 0, 0
        return body

    @property
    def has_output(self) -> bool:
        """Whether output waits that the worker has not got."""
        return bool(self._output)

    def _flush(self) -> None:
        body = self.unsent()
        self._sent_at = time.monotonic()
        if body is not None and self._send is not None:
            grant = self._grant
            self._send(
                Checkpoint(
                    task_id=grant.task_id,
                    attempt=grant.attempt,
                    lease_id=grant.lease_id,
                    **msgspec.structs.asdict(body),
                )
            )


def _checked(fraction: float | None) -> float | None:
    """A fraction within 0 and 1; what is not a number counts as unknown."""
    if fraction is None or fraction != fraction:
        return None
    return min(max(float(fraction), 0.0), 1.0)
