"""Two clocks, never mixed: the wall clock for people and schedules, the lease clock for silence.

LeaseClock (SQLite) advances only while this process runs and can serve: a jump of the wall clock, a
restart or a pause of the dispatcher reclaims nothing. It goes on from the value stored with one of
the last commits. ServerClock (PostgreSQL) is the database's own clock for both, the only one that
several dispatchers share. After a start, after a jump of that clock, and after any time in which
heartbeats could not be recorded, nobody is judged silent for a while (`judging`).
"""

from __future__ import annotations

import threading
import time
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


class ServerClock:
    """The database's clock, read at the start of each transaction and carried on monotonically between."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._seen = time.monotonic()
        self._judging_from = self._seen + grace_seconds
        self._offset: float | None = None  # from the monotonic clock to the server's

    def observe(self, server_now: float) -> None:
        """The server says that it is now `server_now` (Unix seconds)."""
        offset = server_now - time.monotonic()
        if self._offset is not None and abs(offset - self._offset) > LONGEST_STEP_SECONDS:
            self.grace()  # somebody set the server's clock: what it said of silence before means nothing
        self._offset = offset

    def wall(self) -> float:
        """Unix seconds of the server; before the first word from it, of this machine."""
        now = time.monotonic()
        if now - self._seen > LONGEST_STEP_SECONDS:  # this process did not run, so it heard nobody
            self.grace()
        self._seen = now
        return time.time() if self._offset is None else now + self._offset

    def lease(self) -> float:
        """The same: one clock for all dispatchers."""
        return self.wall()

    def judging(self) -> bool:
        """False in the time of grace."""
        self.wall()
        return time.monotonic() >= self._judging_from

    def grace(self) -> None:
        """Begin a new time of grace."""
        self._judging_from = time.monotonic() + self._grace_seconds
