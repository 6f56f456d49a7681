"""Two clocks, never mixed: the wall clock for people and schedules, the lease clock for silence.

The lease clock advances only while this process runs and can serve: a jump of the wall clock, a
restart or a pause of the dispatcher reclaims nothing. It goes on from the value stored with one of
the last commits. After a start, and after any time in which heartbeats could not be recorded, nobody
is judged silent for a while (`judging`).
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

# The monitor reads the clock several times a second. A longer gap means that this process did not
# run (stopped, suspended, starved), so workers could not be heard and the gap does not count.
LONGEST_STEP_SECONDS = 1.0


class Clock(Protocol):
    """What the ledger asks of time; tests bring their own."""

    def wall(self) -> float:
        """Unix seconds."""

    def lease(self) -> float:
        """Seconds of the lease clock."""

    def judging(self) -> bool:
        """May silence be held against a worker now?"""

    def grace(self) -> None:
        """Heartbeats could not be recorded: begin a new time of grace."""


class LeaseClock:
    """The real clocks. `start`: the stored lease clock; `grace_seconds`: START_GRACE_SECONDS."""

    def __init__(self, start: float, grace_seconds: float) -> None:
        self._lease = start
        self._seen = time.monotonic()
        self._grace_seconds = grace_seconds
        self._judging_from = start + grace_seconds
        self._lock = threading.Lock()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def lease(self) -> float:
        """Seconds of the lease clock; a gap in which nobody asked counts for one second at most."""
        with self._lock:
            now = time.monotonic()
            step = now - self._seen
            self._seen = now
            self._lease += min(step, LONGEST_STEP_SECONDS)
            if step > LONGEST_STEP_SECONDS:
                self._judging_from = self._lease + self._grace_seconds
            return self._lease

    def judging(self) -> bool:
        """False in the time of grace."""
        return self.lease() >= self._judging_from

    def grace(self) -> None:
        """Begin a new time of grace."""
        self._judging_from = self.lease() + self._grace_seconds

def iso(seconds: float | None) -> str | None:
    """A time as answers show it: ISO 8601, UTC, milliseconds."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
