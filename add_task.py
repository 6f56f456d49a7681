#!/usr/bin/env python3
"""Submits tasks: `python3 add_task.py 5 100000` asks five times for the primes up to 100,000.

Works with the system's python3: it goes on in the project's own .venv, made on first use.
Exit codes: 0 ok, 1 a task failed, 2 usage, 4 dispatcher unreachable, 5 refused, 124 timed out.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv" / "bin" / "python"

if __name__ == "__main__" and Path(sys.prefix) != ROOT / ".venv":
    ready = subprocess.run([str(ROOT / "deploy" / "venv.sh")], check=False).returncode
    if ready != 0:
        sys.exit(ready)
    os.execv(PYTHON, [str(PYTHON), str(Path(__file__).resolve()), *sys.argv[1:]])

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared import errors
from shared.client import DispatcherClient
from shared.follow import Follower
from shared.protocol import DEFAULT_QUEUE, Submission
from shared.settings import load_or_exit

BARS_MAX = 12  # running tasks shown at once: what fits a small terminal
ROWS_MAX = 20  # results shown; --json has all
PATIENCE_SECONDS = 30.0  # while waiting, a dispatcher may be restarted

FAILED, USAGE, UNREACHABLE, REFUSED, TIMED_OUT = 1, 2, 4, 5, 124


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("count", type=click.IntRange(min=1), default=1)
@click.argument("limit", type=click.IntRange(0, 10**12), required=False)
@click.argument("algorithm", type=click.Choice(["sieve", "trial_division"]), required=False)
@click.option("--type", "type_", metavar="T", help="Submit tasks of this type instead of prime.")
@click.option("--payload", metavar="JSON", help="Their payload, for example '{\"seconds\": 3}'.")
@click.option("--priority", type=click.IntRange(-32768, 32767), default=0, metavar="N", help="Higher goes first.")
@click.option("--delay", type=click.FloatRange(0), metavar="S", help="Do not start within S seconds.")
@click.option("--retries", type=click.IntRange(0, 1000), metavar="N", help="Try again so often after failures.")
@click.option("--queue", default=DEFAULT_QUEUE, metavar="Q", help="For workers that serve this queue.")
@click.option("--unique-key", metavar="K", help="No second task while one with this key lives.")
@click.option("--tag", "tags", multiple=True, metavar="T", help="A label; may be given several times.")
@click.option("--wait", is_flag=True, help="Show progress until all have ended, then the results.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="S", help="Wait at most S seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.option("--url", metavar="URL", help="The dispatcher; default from .env.")
def add_task(
    count: int,
    limit: int | None,
    algorithm: str | None,
    type_: str | None,
    payload: str | None,
    priority: int,
    delay: float | None,
    retries: int | None,
    queue: str,
    unique_key: str | None,
    tags: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    as_json: bool,
    url: str | None,
) -> None:
    """Submit COUNT tasks: the primes up to LIMIT by ALGORITHM (sieve or trial_division), or any --type."""
    if unique_key is not None and count > 1:
        raise click.UsageError("with --unique-key COUNT is 1: of several tasks only one could live")
    submission = _submission(limit, algorithm, type_, payload)
    submission.priority, submission.delay_seconds, submission.max_retries = priority, delay, retries
    submission.queue, submission.unique_key, submission.tags = queue, unique_key, list(tags) or None
    client = DispatcherClient(url or load_or_exit().dispatcher_urls)
    screen = Console(stderr=as_json)
    with _exit_codes():
        answer = client.submit_many([submission] * count)
        ids: list[int] = answer["task_ids"]
        if warning := answer.get("warning"):
            Console(stderr=True).print(f"warning: {warning}", style="yellow", highlight=False)
        if not wait:
            print(_json({"task_ids": ids}) if as_json else f"submitted: {_ids(ids)}")
            return
        client.patience_seconds = PATIENCE_SECONDS
        screen.print(f"submitted: {_ids(ids)}", highlight=False)
        sys.exit(_wait(Follower(client, ids), timeout, screen, as_json))


def _submission(limit: int | None, algorithm: str | None, type_: str | None, payload: str | None) -> Submission:
    if type_ is None:
        if limit is None:
            raise click.UsageError("give a LIMIT, for example: add_task.py 5 100000 (or a --type)")
        if payload is not None:
            raise click.UsageError("--payload goes with --type")
        body = _json({"limit": limit, **({"algorithm": algorithm} if algorithm else {})})
        return Submission("prime", payload=msgspec.Raw(body.encode()))
    if limit is not None:
        raise click.UsageError("with --type, give COUNT and --payload only")
    try:
        decoded = msgspec.json.decode(payload or "{}")
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--payload is not JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise click.UsageError("--payload must be a JSON object, for example '{\"seconds\": 3}'")
    return Submission(type_, payload=msgspec.Raw((payload or "{}").encode()))


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Errors of the dispatcher as one line and an exit code."""
    try:
        yield
    except errors.Unreachable as error:
        _fail(error.message, UNREACHABLE)
    except errors.BatonError as error:
        _fail(f"refused: {error.message}", REFUSED)
    except KeyboardInterrupt:
        _fail("stopped waiting; the tasks go on", 130)


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _wait(follower: Follower, timeout: float | None, screen: Console, as_json: bool) -> int:
    """Follow the tasks with bars, print what came out; returns the exit code."""
    total = len(follower.open)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=screen, transient=True) as progress:
        overall = progress.add_task(f"{total} task(s)", total=total)
        bars: dict[int, TaskID] = {}
        for _ in follower.until_ended(timeout):
            progress.update(overall, completed=total - len(follower.open))
            _draw(progress, bars, follower)
    tasks = [task for _, task in sorted(follower.tasks.items())]
    if as_json:
        print(_json({"tasks": tasks}))
    else:
        screen.print(_table(tasks))
    if follower.open:
        print(f"timed out: {_ids(sorted(follower.open))} not ended yet; they go on", file=sys.stderr)
        return TIMED_OUT
    return FAILED if follower.ended_badly() else 0


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


def _table(tasks: Sequence[dict[str, Any]]) -> Table:
    table = Table("task", "status", "worker", "attempts", "seconds", "result", box=None, pad_edge=False)
    for task in tasks[:ROWS_MAX]:
        seconds = task["elapsed_seconds"]
        text = _outcome(task)
        table.add_row(
            str(task["task_id"]),
            task["status"],
            task["worker"] or "–",
            str(task["attempt"]),
            "–" if seconds is None else f"{seconds:.2f}",
            text if len(text) <= 90 else text[:89] + "…",
        )
    if len(tasks) > ROWS_MAX:
        table.add_row("…", f"{len(tasks) - ROWS_MAX} more", "", "", "", "--json shows all")
    return table


def _outcome(task: dict[str, Any]) -> str:
    """What came out, in a line: of a result what the payload and the other columns do not say."""
    if task["status"] != "completed":
        return str((task["error"] or {}).get("message", ""))
    if not isinstance(task["result"], dict):
        return _json(task["result"])
    known = {**task["payload"], "elapsed_seconds": task["result"].get("elapsed_seconds")}
    news = {name: value for name, value in task["result"].items() if known.get(name, ...) != value}
    return ", ".join(f"{name} {value}" for name, value in news.items())


def _ids(ids: Sequence[int]) -> str:
    """Ids in a line: a range if they follow each other."""
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"tasks {ids[0]} to {ids[-1]}"
    return ("task " if len(ids) == 1 else "tasks ") + ", ".join(map(str, ids))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    add_task()
