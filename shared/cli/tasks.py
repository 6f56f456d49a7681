"""baton tasks: look at tasks, wait for them, steer them."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.text import Text

from shared import errors, exits
from shared.cli import documents, export, progress, screen
from shared.cli.called import hint
from shared.cli.command import (
    Seconds,
    Session,
    Whole,
    after_option,
    flat,
    group,
    ids_argument,
    limit_option,
    refused,
    task_id_argument,
    verb,
)
from shared.cli.filters import live_ids, of_kind, that_fit
from shared.cli.watching import watch
from shared.follow import Follower
from shared.lifecycle import ENDED, TaskStatus
from shared.wording import clean, error_in_words

SUBMIT = "./add_task.py COUNT --type T --payload JSON"
tasks = group(
    "tasks",
    "Look at tasks, wait for them, steer them. Submit them with add_task.py.",
    elsewhere={"submit": SUBMIT, "add": SUBMIT},
)

STATE_CHARS = 200  # of a checkpoint's state, which may be a megabyte
PARENTS_ASKED = 20  # of a task that is explained; each is a question


@verb(tasks, "list", "baton tasks list", "baton tasks list --status failed --type prime --limit 5")
@that_fit
@limit_option
@after_option
def list_tasks(baton: Session, **query: Any) -> None:
    """List tasks, newest first."""
    page = baton.client.tasks(**query)
    baton.page(page, _listing(page["tasks"]) if page["tasks"] else "no tasks")


def _listing(found: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            task["task_id"], task["type"], task["status"], screen.percent(task["progress"]), task["attempt"],
            task["worker"], screen.age(task["created_at"]), screen.span(task["elapsed_seconds"]), note(task),
        )
        for task in found
    ]  # fmt: skip
    headers = ("task", "type", "status", "done", "try", "worker", "age", "took", "note")
    return screen.table(headers, rows, text=("note", "worker", "type"))


def note(task: dict[str, Any]) -> str:
    """What there is to say about a task, in a line."""
    if task["status"] in ENDED:
        return progress.outcome(task)
    if task["status"] == TaskStatus.SCHEDULED:
        return f"due {screen.ago(task['run_at'])}"
    return task["message"] or ""


@verb(tasks, "show", "baton tasks show 1")
@task_id_argument
@click.option("--watch", "-w", "watched", is_flag=True, help="Go on showing it until it ends; exits as wait does.")
def show_task(baton: Session, task_id: int, watched: bool) -> int:
    """Show a task with its checkpoint and its attempts."""
    if watched:
        return watch(baton, lambda: _look(baton, task_id), _picture, _change, lambda task: task["status"] in ENDED)
    if baton.as_json:
        screen.json_line(baton.client.task(task_id))
    else:
        screen.show(_picture(_look(baton, task_id)))
    return exits.OK


def _look(baton: Session, task_id: int) -> dict[str, Any]:
    task = baton.client.task(task_id)
    if baton.as_json:
        return task
    return {**task, "attempts": baton.client.attempts(task_id), "checkpoint": _checkpoint(baton, task)}


def _checkpoint(baton: Session, task: dict[str, Any]) -> dict[str, Any] | None:
    """Its last one, if there is any."""
    if task["attempt"]:
        with contextlib.suppress(errors.NotFound):
            return baton.client.checkpoint(task["task_id"])
    return None


def _change(task: dict[str, Any]) -> str:
    """What of a task that is watched deserves a new line."""
    words = [f"task {task['task_id']}", task["status"], screen.percent(task["progress"]), note(task)]
    return clean("  ".join(word for word in words if word))


def _picture(task: dict[str, Any]) -> RenderableType:
    parts: list[RenderableType] = [screen.facts(_facts(task))]
    if task["attempts"]:
        parts += ["", _attempts(task["attempts"])]
    traceback = (task["error"] or {}).get("traceback") if isinstance(task["error"], dict) else None
    if traceback:
        parts += ["", *(Text(clean(line), style="dim") for line in str(traceback).splitlines())]
    return screen.stack(*parts)


def _facts(task: dict[str, Any]) -> list[tuple[str, Any]]:
    where = None if task["worker"] is None else f"{task['worker']} ({task['worker_id']})"
    # Once it has ended: its type may have allowed another number, which only workers know.
    allowed = "" if task["status"] in ENDED else f" of {task['max_retries'] + 1} allowed"
    counters = f"{task['attempt']}: {task['failures']} failed{allowed}, "
    counters += f"{task['crashes']} crashed of {task['crash_limit']}, {task['releases']} released"
    error = task["error"]
    return [
        ("task", task["task_id"]),
        ("type", task["type"]),
        ("status", screen.cell(task["status"])),
        ("progress", _progress(task)),
        ("payload", progress.encoded(task["payload"])),
        ("result", None if task["status"] != "completed" else progress.encoded(task["result"])),
        ("error", f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else error),
        ("output", _output(task)),
        ("checkpoint", _memory(task["checkpoint"])),
        ("worker", where),
        ("attempts", counters if task["attempt"] else None),
        ("queue", f"{task['queue']}, priority {task['priority']}"),
        ("tags", ", ".join(task["tags"])),
        ("unique key", task["unique_key"]),
        ("limit key", task["limit_key"]),
        ("flow", f"{task['flow_id']}, as {task['key']}" if "flow_id" in task else None),
        ("depends on", ", ".join(map(str, task.get("depends_on", [])))),
        ("created", screen.ago(task["created_at"])),
        ("due", screen.ago(task["run_at"]) if task["status"] == TaskStatus.SCHEDULED else None),
        ("deadline", screen.ago(task["deadline"])),
        ("started", screen.ago(task["started_at"])),
        ("ended", screen.ago(task["finished_at"])),
        ("took", None if task["elapsed_seconds"] is None else screen.span(task["elapsed_seconds"])),
    ]


def _output(task: dict[str, Any]) -> str | None:
    chunks = task.get("output_chunks")
    return f"{chunks} chunk(s); {hint('tasks output')} {task['task_id']}" if chunks else None


def _memory(checkpoint: dict[str, Any] | None) -> str | None:
    """Which checkpoint it would go on from, and how its state begins."""
    if checkpoint is None:
        return None
    state = progress.encoded(checkpoint["state"])
    short = state if len(state) <= STATE_CHARS else f"{state[:STATE_CHARS]}…"
    return f"{checkpoint['seq']}, saved {screen.ago(checkpoint['saved_at'])}: {short}"


def _progress(task: dict[str, Any]) -> str:
    share = [] if task["progress"] is None else [screen.percent(task["progress"])]
    return " ".join([*share, *filter(None, [task["message"]])])


def _attempts(attempts: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            one["attempt"], one["worker"], one["outcome"] or "running", screen.age(one["started_at"]),
            screen.span(one["elapsed_seconds"]), screen.span(one["lost_seconds"]),
            error_in_words(one["error"]),
        )
        for one in attempts
    ]  # fmt: skip
    return screen.table(
        ("attempt", "worker", "outcome", "began", "took", "lost", "error"), rows, text=("error", "worker")
    )


@verb(tasks, "wait", "baton tasks wait 1 2 --timeout 10s", "baton tasks wait --type prime")
@ids_argument(required=False)
@of_kind
@click.option("--timeout", type=Seconds(), help="Wait no longer than this (90, 5m, 2h).")
def wait_for_tasks(baton: Session, ids: tuple[list[int], ...], timeout: float | None, **query: Any) -> int:
    """Wait until tasks have ended. These ids, or all that fit the filter now.

    Shows what came out; exits with 1 if one failed, 124 after --timeout.
    """
    wanted = _ids_or_filter(ids, query)
    follower = Follower(baton.client, wanted)
    code = _find(follower, wanted) if wanted else _find_all(follower, query)
    if not follower.tasks:
        return code
    baton.client.patience_seconds = progress.PATIENCE_SECONDS
    bars = Console(stderr=True) if baton.as_json else screen.console()
    ended = progress.wait(follower, timeout, bars, baton.as_json)
    return code or ended


def _ids_or_filter(ids: tuple[list[int], ...], query: dict[str, Any]) -> list[int]:
    """The ids; none where there is a filter. Usage error if both are given, or neither."""
    wanted = flat(ids)
    if bool(wanted) == any(query.values()):
        raise click.UsageError("give an ID, or several, or a filter such as --tag; not both")
    return wanted


def _find(follower: Follower, wanted: list[int]) -> int:
    """A first look at these; the code of those that there are not."""
    follower.look()
    code = exits.OK
    for task_id in wanted:
        if task_id not in follower.tasks:
            code = refused(errors.NotFound(f"there is no task {task_id}"), code)
    return code


def _find_all(follower: Follower, query: dict[str, Any]) -> int:
    """A first look at all that fit; the code if there are none."""
    for task in follower.client.every_task(**query):
        follower.note(task)
    return exits.OK if follower.tasks else refused(errors.NotFound("there is no such task"))


@verb(tasks, "cancel", "baton tasks cancel 4 --yes", "baton tasks cancel --tag wrong --yes", asks=True)
@ids_argument(required=False)
@of_kind
def cancel_tasks(baton: Session, ids: tuple[list[int], ...], **query: Any) -> int:
    """Cancel these tasks, or all that fit the filter and have not ended.

    What depends on them is cancelled too. They can be revived.
    """
    wanted = _ids_or_filter(ids, query) or live_ids(baton.client, query)
    if not wanted:
        return refused(errors.NotFound("no task that fits is left to cancel"))
    baton.confirm(f"cancel {progress.ids_in_words(sorted(wanted))}")
    return baton.each(wanted, baton.client.cancel, lambda task: f"task {task['task_id']} is cancelled")


@verb(tasks, "revive", "baton tasks revive 4", asks=True)
@ids_argument()
@click.option("--from-scratch", is_flag=True, help="Drop their checkpoints; asks.")
@click.option("--payload", metavar="JSON", help="Run them with this payload from now on.")
def revive_tasks(baton: Session, ids: tuple[list[int], ...], from_scratch: bool, payload: str | None) -> int:
    """Give failed or cancelled tasks a second life. They go on from their last checkpoint."""
    options: dict[str, Any] = {"from_scratch": from_scratch}
    if payload is not None:
        options["payload"] = documents.decoded(payload, "--payload")
    wanted = flat(ids)
    if from_scratch:
        baton.confirm(f"revive {progress.ids_in_words(wanted)} and drop their checkpoints")
    return baton.each(
        wanted,
        lambda task_id: baton.client.revive(task_id, **options),
        lambda task: f"task {task['task_id']} is {task['status']}",
    )


@verb(tasks, "logs", "baton tasks logs 1", "baton tasks logs 1 --attempt 1")
@task_id_argument
@click.option("--attempt", type=Whole(1), metavar="N", help="Only what attempt N said.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the task ends.")
def show_logs(baton: Session, task_id: int, attempt: int | None, follow: bool) -> None:
    """Print what a task has printed and logged."""
    after, over = 0, False
    if follow:
        baton.client.patience_seconds = progress.PATIENCE_SECONDS
    while not over:
        over = not follow or baton.client.task(task_id)["status"] in ENDED  # before: the last lines count
        page = baton.client.logs(task_id, attempt=attempt, after=after)
        while page["lines"]:
            _print_lines(baton, page)
            after = page["next"]
            page = baton.client.logs(task_id, attempt=attempt, after=after)
        if not over:
            time.sleep(LOOK_SECONDS)
    if not after:
        if baton.as_json:
            screen.json_line(page)
        which = "" if attempt is None else f"attempt {attempt} of "
        click.echo(f"{which}task {task_id} has logged nothing", err=True)


LOOK_SECONDS = 0.5  # a worker sends log lines with its heartbeat, every second


def _print_lines(baton: Session, page: dict[str, Any]) -> None:
    if baton.as_json:
        screen.json_line(page)
        return
    for line in page["lines"]:
        at = screen.clock(line["at"])
        print(f"{at}  {line['attempt']}  {line['level']:<7}  {clean(line['message'])}")
    sys.stdout.flush()


@verb(tasks, "output", "baton tasks output 1")
@task_id_argument
def show_output(baton: Session, task_id: int) -> None:
    """Print a task's output: each chunk as a line of JSON. What there is so far while the task runs."""
    out, empty = screen.Plain(), True
    for chunk in baton.client.output(task_id):
        out.write(f"{progress.encoded(chunk)}\n")
        empty = False
    if empty:
        click.echo(f"task {task_id} has no output", err=True)


@verb(tasks, "export", "baton tasks export --type prime", "baton tasks export --tag old --jsonl")
@that_fit
@click.option("--jsonl", is_flag=True, help="A line of JSON for each, as the dispatcher shows it; so does --json.")
@click.option("--output", type=Path, metavar="FILE", help="Write to FILE: whole, or not at all.")
def export_tasks(baton: Session, jsonl: bool, output: Path | None, **query: Any) -> None:
    """Write all tasks that fit as a CSV, oldest first. One row each, with the fields of payload and result.

    The columns are task_id, status, the payload's fields, the result's (result, if it is no object), error,
    attempt, worker, started_at, finished_at and elapsed_seconds. A name that is taken is written result.NAME or
    payload.NAME; what is a list or an object is JSON.
    """
    write = export.write_lines if jsonl or baton.as_json else export.write_table
    baton.client.tasks(limit=1, **query)  # who is not there is told at once; who goes away later may come back
    baton.client.patience_seconds = progress.PATIENCE_SECONDS
    pages = baton.client.task_pages(**query)
    if output is None:
        if not write(pages, screen.Plain()):
            click.echo("no tasks", err=True)
        return
    try:
        with export.whole_file(output) as file:
            count = write(pages, file)
    except OSError as error:
        exits.fail(f"{output} cannot be written: {error.strerror}", exits.UNWRITTEN)
    baton.answer({"file": str(output), "tasks": count}, f"written: {output}, {count} task(s)")


@verb(tasks, "explain", "baton tasks explain 3")
@task_id_argument
def explain_task(baton: Session, task_id: int) -> None:
    """Say why a task does not run. And when it may start, where that can be known."""
    found = baton.client.explain(task_id)
    forecast = found["estimated_start_seconds"]
    when = (
        None
        if forecast is None or found["status"] in {*ENDED, "in-progress"}
        else f"in about {screen.span(forecast)}"
    )
    facts = [("task", found["task_id"]), ("status", screen.cell(found["status"])), ("why", found["message"])]
    known = [_known(name, value) for name, value in found["details"].items()]
    if found["status"] == TaskStatus.BLOCKED and not baton.as_json:
        known.append(("waits for", _live_parents(baton, task_id)))
    baton.answer(found, screen.facts([*facts, ("may start", when), *known]))


def _live_parents(baton: Session, task_id: int) -> str:
    """The first of the tasks that keep it from running, and how they stand."""
    waits = []
    for parent_id in baton.client.task(task_id).get("depends_on", [])[:PARENTS_ASKED]:
        with contextlib.suppress(errors.NotFound):  # removed by age
            status = baton.client.task(parent_id)["status"]
            waits += [] if status in ENDED else [f"{parent_id} ({status})"]
    return ", ".join(waits)


def _known(name: str, value: Any) -> tuple[str, Any]:
    """A fact behind an explanation, as people write it: per 1h for per_seconds 3600.0."""
    if name.endswith("_seconds") and isinstance(value, int | float):
        return name.removesuffix("_seconds").replace("_", " "), screen.period(value)
    return name.replace("_", " "), _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.endswith("Z") and value[:2] == "20":
        return screen.ago(value)
    return value
