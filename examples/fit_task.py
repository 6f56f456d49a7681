"""Two tasks for a sweep: one whose result is small, one whose result is put out in chunks.

docs/sweeps.md shows both. `TASK_MODULES=examples/fit_task.py ./start_worker.sh`, then
`./add_task.py --type fit --from examples/params.csv --tag decay --wait`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from tasks import Fail, TaskContext, task

TIMES = np.linspace(0.0, 3.0, 200)
BLOCK = 10_000  # steps of a walk between two checkpoints: a chunk of 50 kB


@task("fit")
def fit(ctx: TaskContext, rate: float, noise: float, seed: int = 0) -> dict[str, float]:
    """Which rate does one find in a decay of this rate, seen with this noise?"""
    seen = np.exp(-rate * TIMES) + noise * np.random.default_rng(seed).normal(size=len(TIMES))
    if seen.min() <= 0.0:
        raise Fail("the noise is stronger than the signal: below zero there is no logarithm")
    slope, _ = np.polyfit(TIMES, np.log(seen), 1)
    return {"rate": round(-slope, 3), "off": round(abs(-slope / rate - 1), 3)}


@task("walk")
def walk(ctx: TaskContext, steps: Annotated[int, Meta(ge=1)], seed: int = 0) -> dict[str, int]:
    """A random walk, place by place: too long for a result, so each block is put out when it is done."""
    done, place = ctx.state or (0, 0)
    while done < steps:
        random = np.random.default_rng([seed, done])  # each block its own: the same whoever computes it
        places = place + np.cumsum(random.choice([-1, 1], size=min(BLOCK, steps - done)))
        done, place = done + len(places), int(places[-1])
        ctx.checkpoint((done, place), progress=done / steps, output=places)
    return {"end": place}
