"""FakeClock: the dispatcher's two clocks, moved by the test alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class FakeClock:
    """As dispatcher.clock.Clock. Begins outside the time of grace; `grace()` begins one."""

    def __init__(self, grace_seconds: float = 5.0) -> None:
        self.grace_seconds = grace_seconds
        self._wall = 1_800_000_000.0
        self._lease = 1000.0
        self._judging_from = 0.0

    def wall(self) -> float:
        return self._wall

    def lease(self) -> float:
        return self._lease

    def judging(self) -> bool:
        return self._lease >= self._judging_from

    def grace(self) -> None:
        self._judging_from = self._lease + self.grace_seconds

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Whatever begins a time of grace meanwhile does not."""
        before = self._judging_from
        yield
        self._judging_from = before

    def advance(self, seconds: float) -> None:
        """Time passes while the dispatcher serves."""
        self._wall += seconds
        self._lease += seconds

    def jump_wall(self, seconds: float) -> None:
        """Somebody sets the system's clock."""
        self._wall += seconds
