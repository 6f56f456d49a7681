"""What a worker and its child say to each other, and how it travels: frames over a pair of pipes.

A frame is its body's length, one letter for its kind, and the body as JSON. The worker must never wait
for a child, so it posts frames and sends what the pipe takes; a child may wait for its worker.
"""

from __future__ import annotations

import os
import struct
from typing import Final

import msgspec
from msgspec import Struct

from shared.protocol import Grant

_HEAD: Final = struct.Struct("<Ic")
_READ_BYTES: Final = 1 << 18

# From the child. A result and a checkpoint are the protocol's own, so the worker passes them on as they are.
HELLO: Final = b"H"
RESULT: Final = b"R"
LAST: Final = b"L"  # a result, after which the child wants to be killed: what was stopped has left processes
CHECKPOINT: Final = b"C"
SKIPPED: Final = b"S"  # the serial of a task that the worker had taken back
# From the worker.
WORK: Final = b"W"


Frame = tuple[bytes, bytes]  # kind and body


class Options(Struct):
    """What a child is told when it starts, as JSON in its arguments."""

    modules: list[str]
    checkpoint_interval_seconds: float
    programs: dict[str, str] = {}  # what commands may run: as listed, and where that is


class Declared(Struct, omit_defaults=True):
    """What a task type's author declared about it."""

    timeout_seconds: float | None = None
    max_retries: int | None = None
    pure: bool = False
    waits: bool = False


class Hello(Struct, omit_defaults=True):
    """A child's first frame: the types it can run, or the problem that keeps it from running any.

    `empty`: the task modules that declare none.
    """

    types: dict[str, Declared] = {}
    empty: list[str] = []
    problem: str | None = None


class Work(Struct, omit_defaults=True):
    """Tasks for a strand, to be run in this order; the first one's serial number is `first`.

    `start_by`: by serial number, until when some may start, on the clock that both sides share.
    """

    first: int
    grants: list[Grant]
    start_by: dict[int, float] = {}


class Gone(Exception):
    """The other side has closed its end."""


class Garbled(Gone):
    """What it says cannot be read, or answers nothing: it is as good as gone."""


class Channel:
    """One end: what it reads from, and what it writes to. Two pipes: small frames cost a third of a socket's."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads = reads
        self.writes = writes
        self._in = b""
        self._out = b""

    def send(self, kind: bytes, body: bytes) -> None:
        """Send a frame, waiting as long as it takes (the child's way)."""
        frame = _HEAD.pack(len(body), kind) + body
        sent = os.write(self.writes, frame)
        while sent < len(frame):  # a signal came while it was full
            sent += os.write(self.writes, memoryview(frame)[sent:])

    def post(self, kind: bytes, body: bytes) -> None:
        """Send of a frame what goes without waiting; `flush` sends the rest (the worker's way)."""
        self._out += _HEAD.pack(len(body), kind) + body
        self.flush()

    def flush(self) -> None:
        """Send what was posted, as far as it goes without waiting."""
        try:
            while self._out:
                sent = os.write(self.writes, self._out)
                self._out = self._out[sent:]
        except BlockingIOError:
            return  # full
        except BrokenPipeError:
            self._out = b""  # nobody is there; receive() says so

    @property
    def is_full(self) -> bool:
        """Whether something posted has not gone yet."""
        return bool(self._out)

    def receive(self) -> list[Frame] | None:
        """Read once; returns the frames that are whole now, as (kind, body). Raises Gone at the end.

        The child waits for something to read; the worker, whose ends do not block, may get None.
        """
        try:
            read = os.read(self.reads, _READ_BYTES)
        except BlockingIOError:
            return None
        if not read:
            raise Gone
        return self._cut(self._in + read)

    def close(self) -> None:
        """Close both ends; what was posted and has not gone is forgotten, so that a late flush writes nowhere."""
        self._out = b""
        os.close(self.reads)
        os.close(self.writes)

    def _cut(self, data: bytes) -> list[Frame]:
        frames = []
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            length, kind = _HEAD.unpack_from(data, at)
            body_at = at + _HEAD.size
            if end - body_at < length:
                break
            at = body_at + length
            frames.append((kind, data[body_at:at]))
        self._in = data[at:]
        return frames


to_bytes: Final = msgspec.json.Encoder().encode
