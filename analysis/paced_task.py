"""The task `paced_chain`: a hash chain at a fixed speed, so that one machine can stand for many.

Ten workers that compute share two cores, and killing eight of them slows nothing down. Ten workers
that each hash a little and pause are as independent as ten machines, and their answer can still be
checked. Loaded by the workers of the recovery experiment (TASK_MODULES), not by analysis itself.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from tasks import task
from tasks.context import TaskContext

_NAP_SECONDS: Final = 0.02  # a stop is noticed within 0.2 s; so a tenth of it


@task("paced_chain")
def paced_chain(ctx: TaskContext, rounds: int, rounds_per_second: int, seed: str = "") -> dict[str, Any]:
    """As hash_chain, but no faster than `rounds_per_second`; what a busy machine delays is caught up."""
    state = ctx.state or {"done": 0, "hash": seed.encode().hex()}
    done, digest = state["done"], bytes.fromhex(state["hash"])
    before, started_at = done, time.monotonic()
    while done < rounds:
        time.sleep(_NAP_SECONDS)
        due = min(rounds, before + int((time.monotonic() - started_at) * rounds_per_second))
        for _ in range(due - done):
            digest = hashlib.sha256(digest).digest()
        done = due
        ctx.checkpoint({"done": done, "hash": digest.hex()}, progress=done / rounds)
    return {"rounds": rounds, "digest": digest.hex()}
