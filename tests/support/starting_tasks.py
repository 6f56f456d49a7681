"""Tasks that start processes and threads, as those of others do; for workers whose TASK_MODULES names this file."""

from __future__ import annotations

import os
import sys

from tasks import TaskContext, task


@task("start.fork")
def fork_and_return(ctx: TaskContext, how: str) -> dict[str, int]:
    """Forks a process that leaves the function in some way, as one does in a script."""
    pid = os.fork()
    if not pid:
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise ValueError("in the forked process")
        while how == "save":
            ctx.checkpoint({"whose": "the forked process"})
        return {}
    _, status = os.waitpid(pid, 0)
    return {"status": os.waitstatus_to_exitcode(status)}
