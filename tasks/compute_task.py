"""General tasks: noop, sleep, monte_carlo_pi, hash_chain. Each goes on from its checkpoint."""

from __future__ import annotations

import hashlib
import time
from typing import Annotated, Any, Final

from msgspec import Meta

from tasks import task
from tasks.context import TaskContext

Count = Annotated[int, Meta(ge=0, le=10**15)]
Seconds = Annotated[float, Meta(ge=0, le=10**7)]

_NAP_SECONDS: Final = 0.05  # a stop is noticed within 0.2 s; so a quarter of it
_BLOCK_SAMPLES: Final = 1 << 18  # a few milliseconds of numpy, and 6 MB
_CHAIN_ROUNDS: Final = 10_000  # a few milliseconds between two looks at the clock


@task("noop")
def noop(ctx: TaskContext) -> None:
    """Do nothing; for measuring what everything around a task costs."""


@task("sleep", waits=True)
def sleep(ctx: TaskContext, seconds: Seconds) -> dict[str, float]:
    """Sleep for `seconds` in total, however often interrupted."""
    before = ctx.state["slept_seconds"] if ctx.state else 0.0
    started_at = time.monotonic()
    slept = before
    while slept < seconds:
        time.sleep(min(_NAP_SECONDS, seconds - slept))
        slept = before + time.monotonic() - started_at
        ctx.checkpoint({"slept_seconds": slept}, progress=slept / seconds)
    return {"slept_seconds": slept}


@task("monte_carlo_pi")
def monte_carlo_pi(ctx: TaskContext, samples: Count, seed: int = 0) -> dict[str, Any]:
    """Estimate pi from `samples` random points in the unit square.

    The points come in blocks, each drawn from a generator that depends on seed and block number alone
    (Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), so interruptions
    change nothing.
    """
    done, inside = (ctx.state["done"], ctx.state["inside"]) if ctx.state else (0, 0)
    while done < samples:
        count = min(_BLOCK_SAMPLES, samples - done)
        inside += _points_inside(seed, done // _BLOCK_SAMPLES, count)
        done += count
        ctx.checkpoint({"done": done, "inside": inside}, progress=done / samples)
    return {"samples": samples, "inside": inside, "pi": 4 * inside / samples if samples else None}


def _points_inside(seed: int, block: int, count: int) -> int:
    """How many of the first `count` points of a block lie in the quarter circle.

    Integers throughout: each raw 64-bit number gives two coordinates of 31 bits, whose squares add up
    to less than 2**63. So the answer is the same on every machine and with every numpy.
    """
    import numpy as np  # loaded here: an idle child does without its 12 MB

    # A block has a counter of its own in the upper half; a key has 128 bits.
    raw = np.random.Philox(key=seed % 2**128, counter=block << 128).random_raw(count)
    x, y = raw >> np.uint64(33), raw & np.uint64(2**31 - 1)
    return int(np.count_nonzero(x * x + y * y < np.uint64(2**62)))


@task("hash_chain")
def hash_chain(ctx: TaskContext, rounds: Count, seed: str = "") -> dict[str, Any]:
    """h = seed in UTF-8, then `rounds` times h = SHA-256(h): work that cannot be split."""
    state = ctx.state or {"done": 0, "hash": seed.encode().hex()}
    done, digest = state["done"], bytes.fromhex(state["hash"])
    sha256 = hashlib.sha256
    while done < rounds:
        count = min(_CHAIN_ROUNDS, rounds - done)
        for _ in range(count):
            digest = sha256(digest).digest()
        done += count
        ctx.checkpoint({"done": done, "hash": digest.hex()}, progress=done / rounds)
    return {"rounds": rounds, "digest": digest.hex()}
