"""What the experiments submit, and what must come out: batches of one type with known answers.

The answers are found here by other means than the tasks use: primes are counted without a sieve,
chains are hashed in one go.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from math import isqrt
from typing import Any, Final

import msgspec
import numpy as np

from shared.protocol import Submission

PACED_ROUNDS: Final = 20_000  # a second: under one percent of a core
# 0.15 to 0.25 s each, so that tasks travel one by one (worker/pace.py) and share out evenly.
SIZES: Final[dict[str, float]] = {"prime": 6e8, "hash_chain": 600_000, "sleep": 0.25, "paced": 2.0}
UNITS: Final = {"prime": "primes up to", "hash_chain": "rounds", "sleep": "seconds", "paced": "seconds"}
_SEED: Final = "baton"


class Workload:
    """`count` tasks of a kind (prime, hash_chain, sleep or paced).

    `spread` 0.4 makes sizes from 0.6 to 1.4 times `size`, evenly, in an order that is always the same.
    """

    def __init__(self, kind: str, size: float | None, count: int, spread: float = 0.0) -> None:
        self.kind = kind
        self.size = SIZES[kind] if size is None else size
        self.weights: list[float] = [self.size] * count  # the size of each task
        if spread and count > 1:
            self.weights = [self.size * (1 - spread + 2 * spread * i / (count - 1)) for i in range(count)]
            random.Random(1).shuffle(self.weights)
        self.payloads = [_payload(kind, size) for size in self.weights]

    @property
    def type(self) -> str:
        """The task type on the wire."""
        return "paced_chain" if self.kind == "paced" else self.kind

    @property
    def is_timed(self) -> bool:
        """Is the size the time in seconds that a task takes?"""
        return self.kind in ("paced", "sleep")

    def submissions(self) -> list[Submission]:
        """The tasks, ready to be submitted."""
        return [Submission(self.type, msgspec.Raw(msgspec.json.encode(body))) for body in self.payloads]

    def wrong(self, payload: dict[str, Any], task: dict[str, Any]) -> str | None:
        """What is wrong with an ended task (its view), or None."""
        name = f"task {task['task_id']}"
        if task["status"] != "completed":
            return f"{name} is {task['status']}: {(task['error'] or {}).get('message')}"
        result = task["result"]
        if self.kind == "sleep":
            right = result["slept_seconds"] >= payload["seconds"]
        elif self.kind == "prime":
            right = result["count"] == count_primes(payload["limit"])
        else:
            right = result["digest"] == self._digests[payload["rounds"]]
        return None if right else f"{name} answered {result} to {payload}"

    @cached_property
    def _digests(self) -> dict[int, str]:
        return digests(payload["rounds"] for payload in self.payloads)


def verdict(answers: int, wrong: Sequence[str]) -> str:
    """The sentence about all answers of an experiment; it begins with WRONG if one was."""
    if wrong:
        return f"WRONG: {'; '.join(wrong[:5])}"
    if answers == 1:
        return "The one answer was checked and is right."
    return f"All {answers} answers were checked and are right."


def _payload(kind: str, size: float) -> dict[str, Any]:
    if kind == "prime":
        return {"limit": int(size)}
    if kind == "hash_chain":
        return {"rounds": int(size), "seed": _SEED}
    if kind == "paced":
        return {"rounds": int(size * PACED_ROUNDS), "rounds_per_second": PACED_ROUNDS, "seed": _SEED}
    return {"seconds": round(size, 3)}


def digests(rounds: Iterable[int]) -> dict[int, str]:
    """What a chain from our seed must answer after so many rounds, each."""
    found: dict[int, str] = {}
    digest, done = _SEED.encode(), 0
    for wanted in sorted(set(rounds)):
        for _ in range(wanted - done):
            digest = hashlib.sha256(digest).digest()
        done = wanted
        found[wanted] = digest.hex()
    return found


@cache
def count_primes(limit: int) -> int:
    """How many primes there are up to `limit`, found without finding them: O(limit ** 0.75) steps.

    Legendre's recursion on all values of limit // i at once, as Lucy_Hedgehog wrote it down in the
    forum of Project Euler's problem 10. 10 ** 9 takes a tenth of a second.
    """
    if limit < 2:
        return 0
    root = isqrt(limit)
    small = np.arange(root + 1, dtype=np.int64) - 1  # small[v]: numbers 2 to v not struck out yet
    large = np.zeros(root + 1, dtype=np.int64)  # large[i]: the same for limit // i
    large[1:] = limit // np.arange(1, root + 1) - 1
    for p in range(2, root + 1):
        if small[p] == small[p - 1]:
            continue  # p is not prime
        below = int(small[p - 1])
        reach = min(root, limit // (p * p))
        i = np.arange(1, reach + 1)
        within = i * p <= root
        struck = np.where(within, large[np.minimum(i * p, root)], small[np.minimum(limit // (i * p), root)])
        large[1 : reach + 1] -= struck - below
        if p * p <= root:
            v = np.arange(root, p * p - 1, -1)
            small[v] -= small[v // p] - below
    return int(large[1])
