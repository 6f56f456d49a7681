"""File descriptors: with many slots and threads a worker needs more of them than most systems allow at first."""

from __future__ import annotations

import resource
from typing import Final

_FOR_A_STRAND: Final = 4  # two ends of its channel, one of its output, and its board
_FOR_A_START: Final = 4  # what its child inherits, until it has it
_FOR_THE_REST: Final = 64  # connections, the outbox, the log, and what else the interpreter has open; some 20


def make_room(slots: int, threads: int) -> None:
    """Raise our limit to what so many children with so many threads take, as far as we may."""
    strands = 1 + threads
    needed = slots * (strands * _FOR_A_STRAND + 1) + strands * _FOR_A_START + _FOR_THE_REST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
