"""The task `stamp`: returns the moment at which its function began, to measure dispatch latency.

Loaded by the benchmark's workers (TASK_MODULES), not by analysis itself.
"""

from __future__ import annotations

import time

from tasks import task
from tasks.context import TaskContext


@task("stamp")
def stamp(ctx: TaskContext) -> float:
    """Unix seconds at the start."""
    return time.time()
