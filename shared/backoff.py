"""How long to wait before trying again: pure functions, no clock, no sleep.

Full jitter (uniform between 0 and the delay) keeps many clients from coming back together; see
Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0, le=10 * 365 * 86400)]


class Backoff(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A task's pauses between its attempts; the defaults give 1, 2, 4, … up to 300 s, jittered."""

    kind: Literal["exponential", "linear", "fixed"] = "exponential"
    base_seconds: Seconds = 1.0
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    cap_seconds: Seconds = 300.0
    jitter: bool = True

    def delay_seconds(self, tries: int) -> float:
        """The pause after the `tries`-th failure (1 or more), in seconds."""
        if self.kind == "fixed":
            delay = self.base_seconds
        elif self.kind == "linear":
            delay = self.base_seconds * tries
        else:  # 64 doublings already pass every cap; more would overflow a float
            delay = self.base_seconds * self.factor ** min(tries - 1, 64)
        delay = min(delay, self.cap_seconds)
        return random.uniform(0, delay) if self.jitter else delay


DEFAULT = Backoff()
# A dispatcher that is away: first retries come at once, then at most two seconds apart on average,
# so that a pool is back within seconds of a restart and 500 workers still stay under 500 requests/s.
RECONNECT = Backoff(base_seconds=0.1, cap_seconds=4.0)
