"""A task of one's own: the longest Collatz chain among the numbers below a limit.

Give it to a worker, then submit it (minutes of work; kill the worker on the way, and start another):

    TASK_MODULES=examples/collatz_task.py ./start_worker.sh worker-1
    ./add_task.py 1 --type collatz --payload '{"below": 100000000}' --wait
"""

from typing import Annotated

from msgspec import Meta

from tasks import TaskContext, task

BLOCK = 1000  # numbers between two looks at the clock: some milliseconds


@task("collatz")
def longest_chain(ctx: TaskContext, below: Annotated[int, Meta(ge=2, le=10**12)]) -> dict[str, int]:
    """Which start below `below` takes the most steps to reach 1 (n/2 if n is even, 3n+1 if odd)?"""
    best = {"start": 1, "steps": 0}
    for first in ctx.resume(range(1, below, BLOCK), state=best):  # goes on where it was stopped
        for start in range(first, min(first + BLOCK, below)):
            steps, n = 0, start
            while n != 1:
                n = n // 2 if n % 2 == 0 else 3 * n + 1
                steps += 1
            if steps > best["steps"]:
                best.update(start=start, steps=steps)
    return best
