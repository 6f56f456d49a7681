"""The 'prime' task: counts or lists the primes up to a limit, and goes on where it was stopped.

The algorithms are in sieve.py; here is only what they must remember.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import isqrt
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tasks import task
from tasks.context import TaskContext

Limit = Annotated[int, Meta(ge=0, le=10**12)]
Numbers = Any  # a list or a numpy array
# What was found after some number: (last number checked, primes in it, the largest, the primes themselves).
Stretch = tuple[int, int, int | None, Numbers]

# A number up to 10**12 and its comma take 14 bytes, so that a chunk stays below 1 MiB.
_CHUNK_NUMBERS: Final = 70_000
# Trial division of a number n costs up to sqrt(n) / 3 steps of 50 ns: some 20 ms for so many.
_DIVISIONS_AT_ONCE: Final = 10**6
_STRETCH_SECONDS: Final = 0.1  # between two checkpoints; a stop is noticed within 0.2 s


@task("prime")
def find_primes(
    ctx: TaskContext,
    limit: Limit,
    algorithm: Literal["sieve", "trial_division"] = "sieve",
    output: Literal["count", "list"] = "count",
) -> dict[str, Any]:
    """Find the primes up to and including `limit`; with output 'list' they become the task's output."""
    started_at = time.monotonic()
    start = {"last_checked": 0, "primes_found": 0, "largest": None, "elapsed_seconds": 0.0}
    state: dict[str, Any] = ctx.state or start
    before = state["elapsed_seconds"]
    search = _by_sieve if algorithm == "sieve" else _by_trial_division
    for stretch in search(state["last_checked"], limit, output == "list"):
        for step, chunk in _steps(state, *stretch):
            elapsed = before + time.monotonic() - started_at
            state = step | {"elapsed_seconds": elapsed}
            ctx.checkpoint(state, progress=state["last_checked"] / limit, output=chunk)
    return {
        "limit": limit,
        "algorithm": algorithm,
        "count": state["primes_found"],
        "largest": state["largest"],
        "elapsed_seconds": before + time.monotonic() - started_at,
    }


def _steps(
    state: dict[str, Any], last_checked: int, count: int, largest: int | None, primes: Numbers
) -> Iterator[tuple[dict[str, Any], Numbers]]:
    """The states and chunks that lead from `state` to the end of a stretch.

    A state and its chunk end with the same number, so that a run resumed there repeats and skips none.
    """
    found = state["primes_found"]
    full = range(_CHUNK_NUMBERS, len(primes), _CHUNK_NUMBERS)
    for end in full:
        last = int(primes[end - 1])
        chunk = primes[end - _CHUNK_NUMBERS : end]
        yield {"last_checked": last, "primes_found": found + end, "largest": last}, chunk
    rest = primes[full[-1] if full else 0 :]
    largest = largest or state["largest"]
    step = {"last_checked": last_checked, "primes_found": found + count, "largest": largest}
    yield step, rest if len(rest) else None


def _by_sieve(low: int, limit: int, listing: bool) -> Iterator[Stretch]:
    from tasks.sieve import Sieve  # loaded here: an idle child does without numpy

    if low >= limit:
        return
    sieve = Sieve(limit)
    while low < limit:
        low, count, largest = sieve.segment(low)
        yield low, count, largest, sieve.primes() if listing else ()


def _by_trial_division(low: int, limit: int, listing: bool) -> Iterator[Stretch]:
    from tasks.sieve import trial_division

    while low < limit:
        primes: list[int] = []
        until = time.monotonic() + _STRETCH_SECONDS
        while low < limit and time.monotonic() < until and len(primes) < _CHUNK_NUMBERS:
            high = min(limit, low + max(1, _DIVISIONS_AT_ONCE // (isqrt(low) + 1)))
            primes += trial_division(low, high)
            low = high
        yield low, len(primes), primes[-1] if primes else None, primes if listing else ()
