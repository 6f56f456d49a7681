"""What is measured of a queue, the same way of all of them.

*Drained*: tasks a second from the first to the last of many that were queued before any consumer
started. *Single*: submissions a second, one after the other on one connection. *Start*: from just
before a submission to the start of its function, consumers idle, one every fiftieth of a second. *Kill*:
from the kill -9 of a consumer, all its processes, in the middle of a task to that task's next start by
another one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from analysis import machine
from analysis.peers.contestant import Contestant
from analysis.peers.peer import NAP_SECONDS, STAMP
from analysis.peers.venv import NotMeasured

SINGLES: Final = 1_000  # submitted one by one
WAITS: Final = 100  # submitted to idle consumers …
PAUSE_SECONDS: Final = 0.02  # … after so long each, as `make bench` does
REST_SECONDS: Final = 1.0
START_SECONDS: Final = 20.0  # a slow machine under load; usually under three
DRAIN_SECONDS: Final = 90.0  # a peer that needs longer is named, not waited for
RECOVERY_SECONDS: Final = 60.0  # nobody waits longer for one that came back


class Trial(NamedTuple):
    """One round of one queue: rates per second, and seconds from submission to start."""

    drained: float
    single: float
    waits: list[float]


def measure(queue: Contestant) -> Trial:
    """Submit one by one, queue the rest, drain it all, then submit to the idle consumers."""
    sent = queue.submit("stamp", SINGLES)
    queue.enqueue(queue.tasks - SINGLES)
    queue.consume()
    _await_runs(queue, queue.tasks, DRAIN_SECONDS)
    ends = read(queue.stamps)
    over = queue.settled(queue.tasks) or ends[-1]
    drained = len(ends) / (over - ends[0])
    time.sleep(REST_SECONDS)
    submitted = queue.submit("stamp", WAITS, PAUSE_SECONDS)
    _await_runs(queue, queue.tasks + WAITS, START_SECONDS)
    starts = read(queue.stamps)[queue.tasks :]
    waits = [start - before for start, before in zip(starts, submitted, strict=False)]
    return Trial(drained, SINGLES / (sent[-1] - sent[0]), waits)


def recovery_seconds(queue: Contestant) -> float | None:
    """Kill the consumer that runs the only task; None if no other has started it in time."""
    queue.submit("stamp", 1)
    queue.consume(spare=True)
    _await_runs(queue, 1, START_SECONDS)
    time.sleep(REST_SECONDS)  # the other one is there too by now
    queue.submit("nap", 1)
    _await_runs(queue, 2, START_SECONDS)
    time.sleep(NAP_SECONDS / 2)  # what is measured is a kill in the middle of it
    runner = _newest(queue.stamps)
    victim = next(consumer for consumer in queue.consumers if runner in machine.tree(consumer.pid))
    doomed = machine.tree(victim.pid)
    killed_at = time.time()
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    victim.wait()
    queue.consumers.remove(victim)
    if not _until(lambda: count(queue.stamps) > 2, RECOVERY_SECONDS):
        return None
    return read(queue.stamps)[-1] - killed_at


def count(stamps: Path) -> int:
    """How many tasks have started so far."""
    return sum(path.stat().st_size for path in stamps.iterdir()) // STAMP.size


def read(stamps: Path) -> array[float]:
    """When tasks started, Unix seconds in ascending order."""
    moments = array("d")
    for path in stamps.iterdir():
        moments.frombytes(path.read_bytes())
    return array("d", sorted(moments))


def _newest(stamps: Path) -> int:
    """The process that started the newest task."""
    return int(max(stamps.iterdir(), key=lambda path: STAMP.unpack(path.read_bytes()[-STAMP.size :])).name)


def _await_runs(queue: Contestant, runs: int, seconds: float) -> None:
    def over() -> bool:
        if any(consumer.poll() is not None for consumer in queue.consumers):
            raise NotMeasured(f"a consumer ended: {queue.last_words()}")
        return count(queue.stamps) >= runs

    if not _until(over, seconds):
        raise NotMeasured(f"only {count(queue.stamps):,} of {runs:,} tasks ran within {seconds:g} s")


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
