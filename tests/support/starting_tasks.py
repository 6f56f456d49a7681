"""Tasks that start processes and threads, for workers whose TASK_MODULES names this file."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

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


@task("start.look_around")
def look_around(ctx: TaskContext) -> dict[str, str]:
    """Tells what there is before anything is started."""
    try:
        context = pickle.dumps(ctx).decode(errors="replace")
    except TypeError as error:
        context = str(error)
    return {"stdin": sys.stdin.read(), "folder": str(Path.cwd()), "context": context}


@task("start.babble")
def babble(ctx: TaskContext, body: str) -> None:
    """Writes into a pipe that is not its own, as if it were a result."""
    _, writes, *_ = map(int, sys.argv[1].split(":"))
    os.write(writes, struct.pack("<Ic", len(body), b"R") + body.encode())
    time.sleep(600)


@task("start.late_thread")
def save_later(ctx: TaskContext, done: str) -> None:
    """Leaves a thread behind that saves when the task is over."""

    def save() -> None:
        while time.monotonic() < until:
            time.sleep(0.01)
        ctx.checkpoint({"too": "late"}, output=1)
        Path(done).touch()

    until = time.monotonic() + 0.2
    threading.Thread(target=save).start()


def sleep_long(ready: Any) -> None:
    """What a process does that a task starts."""
    ready.set()
    time.sleep(600)


@task("start.end", timeout_seconds=10)
def start_and_end(ctx: TaskContext, what: str, by: str) -> int | None:
    """Starts something that would go on for long, and ends it by a signal."""
    if what == "program":
        program = subprocess.Popen(["sleep", "600"])
        program.send_signal(signal.Signals[by])
        return program.wait()
    forking = multiprocessing.get_context("fork")
    ready = forking.Event()
    process = forking.Process(target=sleep_long, args=(ready,))
    process.start()
    if what == "ready process":
        ready.wait()
    os.kill(process.pid or 0, signal.Signals[by])
    process.join()
    return process.exitcode


@task("start.leave")
def start_and_leave(ctx: TaskContext, how: str, pid_file: str) -> None:
    """Starts a program, waits for it, and does not end it when it is interrupted itself."""
    if how == "child":
        program = subprocess.Popen(["sleep", "600"])
        Path(pid_file).write_text(f"{program.pid}\n")
        program.wait()
    subprocess.run(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], check=False)


@task("start.alarm")
def set_alarm(ctx: TaskContext) -> None:
    """Leaves an alarm behind that goes off after its end, and a thread that does not end."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError("nobody waits for this any more")

    signal.signal(signal.SIGALRM, ring)
    threading.Thread(target=time.sleep, args=(600,)).start()
    signal.setitimer(signal.ITIMER_REAL, 0.3)
