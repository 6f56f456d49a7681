"""Tasks that misbehave, each in one way; found by workers whose TASK_MODULES names this file."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks import Fail, Retry, TaskContext, task


@task("odd.die")
def die(ctx: TaskContext, by: int = signal.SIGKILL) -> None:
    """Is killed by a signal, after a few words."""
    print("last words")
    os.kill(os.getpid(), by)


@task("odd.exit")
def leave(ctx: TaskContext, status: int) -> None:
    """Ends its process."""
    os._exit(status)


@task("odd.sys_exit")
def raise_exit(ctx: TaskContext) -> None:
    """Raises what ends other programs."""
    sys.exit("good bye")


@task("odd.stubborn")
def be_stubborn(ctx: TaskContext, pid_file: str) -> None:
    """Starts a process, and lets nothing stop it."""
    helper = subprocess.Popen(["sleep", "600"])
    Path(pid_file).write_text(f"{helper.pid}")
    while True:
        try:
            time.sleep(600)
        except BaseException:
            continue


@task("odd.swallow")
def swallow(ctx: TaskContext) -> str:
    """Returns although it was interrupted."""
    try:
        time.sleep(600)
    except BaseException:
        return "nothing happened"
    return "slept"


@task("odd.step")
def step(ctx: TaskContext, steps: int, seconds: float) -> int:
    """Saves after each of its steps."""
    for _ in ctx.resume(range(steps)):
        time.sleep(seconds)
    return steps


@task("odd.deaf")
def be_deaf(ctx: TaskContext, seconds: float) -> str:
    """Neither saves nor looks whether it should stop."""
    time.sleep(seconds)
    return "done"


@task("odd.fork")
def fork_and_die(ctx: TaskContext) -> None:
    """Dies and leaves a process behind that has inherited everything."""
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@task("odd.retry")
def ask_for_retry(ctx: TaskContext) -> None:
    """Asks to be tried again."""
    raise Retry(12.5, "not yet")


@task("odd.fail", max_retries=7)
def give_up(ctx: TaskContext, message: str = "no use") -> None:
    """Asks not to be tried again."""
    raise Fail(message)


@task("odd.limited", timeout_seconds=0.2)
def overrun(ctx: TaskContext) -> None:
    """Overruns its declared time."""
    ctx.checkpoint({"so": "far"})
    time.sleep(600)


@task("odd.return")
def give_back(ctx: TaskContext, size: int = 0, number: str = "1", unknown: bool = False) -> Any:
    """Returns something that cannot travel."""
    return object() if unknown else {"text": "x" * size, "number": float(number)}


@task("odd.save")
def save(ctx: TaskContext) -> None:
    """Saves something that cannot travel."""
    ctx.checkpoint({"number": float("inf")})


@task("odd.pure", pure=True)
def count_runs(ctx: TaskContext, tally: str) -> int:
    """Counts in a file how often it ran."""
    with open(tally, "ab") as file:
        file.write(b".")
        return file.tell()


@task("odd.show")
def show(ctx: TaskContext) -> None:
    """Shows progress and a message for as long as nobody asks it to stop."""
    ctx.progress(0.25, "a quarter")
    while not ctx.stopping:
        time.sleep(0.01)


@task("odd.say")
def say(ctx: TaskContext, words: str, level: str = "info") -> None:
    """Logs, prints, and has C code and a program print."""
    print(f"python {words}")
    ctx.log(f"log {words}", level)  # type: ignore[arg-type]
    os.write(1, f"raw {words}\n".encode())
    subprocess.run(["/bin/echo", "program", words], check=True)
    print(f"half {words}", end="")


@task("odd.chatter")
def chatter(ctx: TaskContext, lines: int) -> None:
    """Prints very much."""
    for number in range(lines):
        print(number)


@task("odd.stdout")
def make_stdout(ctx: TaskContext, how: str, words: str) -> None:
    """Prints to a stdout of its own making, as scripts do."""
    if how == "wrap":
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    elif how == "detach":
        sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")  # type: ignore[union-attr]
    elif how == "go back":
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    print(words)
    if how == "close":
        sys.stdout.close()


@task("odd.say_and_wait")
def say_and_wait(ctx: TaskContext, words: str) -> None:
    """Prints a line, then waits to be stopped."""
    print(words)
    while not ctx.stopping:
        time.sleep(0.01)


@task("odd.notice")
def notice_first(ctx: TaskContext) -> None:
    """Sees that it shall stop, and returns, before any signal reaches it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while not ctx.stopping:
        time.sleep(0.01)


@task("odd.live")
def show_signs(ctx: TaskContext, how: str, seconds: float) -> str:
    """Shows signs of life of one kind for some time."""
    show = {
        "progress": lambda: ctx.progress(0.5),
        "checkpoint": lambda: ctx.checkpoint({}),
        "line": lambda: print("still here"),
    }
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        show[how]()
        time.sleep(0.02)
    return "done"


@task("odd.wait", waits=True)
def wait(ctx: TaskContext, seconds: float, words: str = "") -> str:
    """Waits in small steps, and looks whether it should stop."""
    if words:
        print(words)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
        ctx.checkpoint({"words": words})
    return words


@task("odd.wait_deaf", waits=True)
def wait_deaf(ctx: TaskContext, seconds: float) -> str:
    """Waits and lets nobody know."""
    time.sleep(seconds)
    return "done"


@task("odd.wait_and_die", waits=True)
def wait_and_die(ctx: TaskContext) -> None:
    """Is killed among its neighbours."""
    os.kill(os.getpid(), signal.SIGKILL)


@task("odd.parents")
def read_parents(ctx: TaskContext) -> Any:
    """Returns what it was told about its parents."""
    return dict(ctx.parents)


@task("odd.run")
def run(ctx: TaskContext, words: str) -> None:
    """Has a program print, and prints nothing itself."""
    subprocess.run(["/bin/echo", "program", words], check=True)


@task("odd.wait_for_program", waits=True)
def wait_for_program(ctx: TaskContext, words: str) -> None:
    """The same, on a thread."""
    subprocess.run(["/bin/echo", "program", words], check=True)
