"""Shows tasks while they run, and what came out of them: used by add_task.py and ./baton."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared import errors, exits
from shared.cli.called import hint
from shared.cli.screen import show, table
from shared.follow import Follower
from shared.lifecycle import ENDED, TaskStatus
from shared.wording import clean, error_in_words, reason_in_words

BARS_MAX = 12  # running tasks shown at once: what fits a small terminal
ROWS_MAX = 20  # results shown; --json has all
PATIENCE_SECONDS = 30.0  # while waiting, a dispatcher may be restarted
QUIET_SECONDS = 3.0  # nothing runs for so long: why?
ASK_SECONDS = 15.0  # between questions of that kind


def wait(follower: Follower, timeout: float | None, screen: Console, as_json: bool) -> int:
    """Follow the tasks with bars, print what came out; returns the exit code."""
    total = len(follower.open | follower.tasks.keys())
    with bars_on(screen) as progress:
        overall = progress.add_task(f"{total} task(s)", total=total)
        bars: dict[int, TaskID] = {}
        quiet = _Quiet(follower, progress.console if screen.is_terminal else Console(stderr=True))
        for _ in follower.until_ended(timeout):
            progress.update(overall, completed=total - len(follower.open))
            _draw(progress, bars, follower)
            quiet.look()
    tasks = [task for _, task in sorted(follower.tasks.items())]
    if as_json:
        print(encoded({"tasks": tasks}))
    else:
        show(results(tasks))
        failed = [task["task_id"] for task in tasks if task["status"] == "failed"]
        if failed:
            print(f"more of it: {hint(f'tasks show {failed[0]}')}", file=sys.stderr)
    if follower.open:
        print(f"timed out: {ids_in_words(sorted(follower.open))} not ended yet; they go on", file=sys.stderr)
        return exits.TIMED_OUT
    return exits.FAILED if follower.ended_badly() else exits.OK


class _Quiet:
    """Says why nothing goes on: once for each reason."""

    def __init__(self, follower: Follower, screen: Console) -> None:
        self._follower = follower
        self._screen = screen
        self._ask_at = time.monotonic() + QUIET_SECONDS
        self._said = ""  # the reason given last
        follower.client.when_away = self._is_away

    def look(self) -> None:
        """Ask what the first of the tasks waits for, if none has run for a while."""
        tasks, now = self._follower.tasks, time.monotonic()
        if any(task["status"] == TaskStatus.IN_PROGRESS for task in tasks.values()):
            self._ask_at = now + QUIET_SECONDS
        elif self._follower.open and now >= self._ask_at:
            self._ask_at = now + ASK_SECONDS
            with contextlib.suppress(errors.NotFound):
                told = self._follower.client.explain(min(self._follower.open))
                if told["status"] not in (*ENDED, TaskStatus.IN_PROGRESS):
                    self._say(told["reason"], f"task {told['task_id']} waits: {told['message']}")

    def _is_away(self, problem: errors.Unavailable) -> None:
        self._say(problem.code, f"{problem.message}; trying on for {PATIENCE_SECONDS:g} s")
        self._ask_at = time.monotonic() + QUIET_SECONDS

    def _say(self, reason: str, words: str) -> None:
        if reason != self._said:
            self._said = reason
            self._screen.print(clean(words), style="yellow", highlight=False, markup=False, soft_wrap=True)


def bars_on(screen: Console) -> Progress:
    """Bars are for terminals and leave no trace there."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def _draw(progress: Progress, bars: dict[int, TaskID], follower: Follower) -> None:
    """A bar per running task, as many as fit."""
    running = [i for i, task in sorted(follower.tasks.items()) if task["status"] == "in-progress"]
    for task_id in [i for i in bars if i not in running]:
        progress.remove_task(bars.pop(task_id))
    for task_id in running[:BARS_MAX]:
        task = follower.tasks[task_id]
        if task_id not in bars:
            bars[task_id] = progress.add_task(f"  task {task_id}", total=1.0)
        text = f"  task {task_id} on {task['worker']}" + (
            f", attempt {task['attempt']}" if task["attempt"] > 1 else ""
        )
        progress.update(bars[task_id], completed=task["progress"] or 0.0, description=text)


def results(tasks: Sequence[dict[str, Any]]) -> Table:
    """What came out, a line per task."""
    rows = [
        (
            task["task_id"], task["status"], task["worker"], task["attempt"],
            "–" if task["elapsed_seconds"] is None else f"{task['elapsed_seconds']:.2f}", outcome(task),
        )
        for task in tasks[:ROWS_MAX]
    ]  # fmt: skip
    if len(tasks) > ROWS_MAX:
        rows.append(("…", f"{len(tasks) - ROWS_MAX} more", "", "", "", "--json shows all"))
    return table(("task", "status", "worker", "attempts", "seconds", "result"), rows, text=("result", "worker"))


def outcome(task: dict[str, Any]) -> str:
    """What came out, in a line: of a result what the payload and the other columns do not say, if anything."""
    if task["status"] != "completed":
        return trouble(task["status"], task["error"])
    if not isinstance(task["result"], dict):
        return encoded(task["result"])
    known = {**task["payload"], "elapsed_seconds": task["result"].get("elapsed_seconds")}
    news = {name: value for name, value in task["result"].items() if known.get(name, ...) != value}
    return ", ".join(f"{name} {value}" for name, value in (news or task["result"]).items()) or "{}"


def trouble(status: str, error: Any) -> str:
    """Why a task did not complete; of one that was cancelled the message says enough."""
    return (reason_in_words if status == TaskStatus.FAILED else error_in_words)(error)


def ids_in_words(ids: Sequence[int]) -> str:
    """Ids in a line: a range where more than two follow each other."""
    runs: list[list[int]] = []
    for task_id in ids:
        if runs and task_id == runs[-1][-1] + 1:
            runs[-1].append(task_id)
        else:
            runs.append([task_id])
    ranges = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run) for run in runs]
    return ("task " if len(ids) == 1 else "tasks ") + ", ".join(chain.from_iterable(ranges))


def encoded(value: Any) -> str:
    """As JSON on one line."""
    return msgspec.json.encode(value).decode()
