"""baton dead: the dead letters, tasks that ended as failed (or, if asked, were cancelled)."""

from __future__ import annotations

from typing import Any

import click

from shared import errors, exits
from shared.cli import progress, screen
from shared.cli.command import (
    Session,
    after_option,
    flat,
    group,
    ids_argument,
    limit_option,
    refused,
    together,
    verb,
)
from shared.lifecycle import TaskStatus
from shared.protocol import PAGE_MAX
from shared.wording import error_in_words

dead = group("dead", "Tasks that ended as failed: look, revive, drop, one or many.")

_filter = together(
    click.option("--type", metavar="T", help="Those of this type."),
    click.option("--queue", metavar="Q", help="Those of this queue."),
    click.option("--tag", metavar="T", help="Those with this tag."),
    click.option("--error-type", metavar="E", help="Those that ended with such an error."),
    click.option(
        "--status", type=click.Choice(["failed", "cancelled"]), help="How they ended.  [default: failed]"
    ),
)


@verb(dead, "list", "baton dead list", "baton dead list --error-type ValueError --limit 5")
@_filter
@limit_option
@after_option
def list_dead(baton: Session, status: str | None, **query: Any) -> None:
    """List dead letters, newest first."""
    page = baton.client.tasks(status=status or "failed", **query)
    rows = [
        (
            task["task_id"], task["type"], task["queue"], task["attempt"], screen.age(task["finished_at"]),
            _error(task).get("type"), error_in_words(task["error"]),
        )
        for task in page["tasks"]
    ]  # fmt: skip
    headers = ("task", "type", "queue", "attempts", "since", "error", "message")
    listing = screen.table(headers, rows, text=("message", "error", "queue", "type"))
    baton.page(page, listing if rows else "no dead letters")


def _error(task: dict[str, Any]) -> dict[str, Any]:
    return task["error"] if isinstance(task["error"], dict) else {}


@verb(dead, "revive", "baton dead revive 3", "baton dead revive --error-type ValueError", asks=True)
@ids_argument(required=False)
@_filter
@click.option("--all", "everything", is_flag=True, help="All of them; asks.")
@click.option("--from-scratch", is_flag=True, help="Drop their checkpoints; asks.")
def revive_dead(
    baton: Session, ids: tuple[list[int], ...], everything: bool, from_scratch: bool, **query: Any
) -> int:
    """Give dead letters a second life. These ids, or all that fit the filter."""
    wanted, code = _wanted(baton, flat(ids), everything, query)
    if wanted:
        if everything or from_scratch:
            also = " and drop their checkpoints" if from_scratch else ""
            baton.confirm(f"revive {_told(baton, wanted)}{also}")
        revived = baton.client.revive_many(**wanted, from_scratch=from_scratch)
        baton.answer({"revived": revived}, f"revived: {revived} task(s)")
    return code


@verb(dead, "drop", "baton dead drop 3 --yes", "baton dead drop --type prime --tag old --yes", asks=True)
@ids_argument(required=False)
@_filter
@click.option("--all", "everything", is_flag=True, help="All of them.")
def drop_dead(baton: Session, ids: tuple[list[int], ...], everything: bool, **query: Any) -> int:
    """Remove dead letters for good. These ids, or all that fit the filter, with their logs and checkpoints."""
    wanted, code = _wanted(baton, flat(ids), everything, query)
    if wanted:
        baton.confirm(f"drop {_told(baton, wanted)} for good")
        dropped = baton.client.drop_many(**wanted)
        baton.answer({"dropped": dropped}, f"dropped: {dropped} task(s)")
    return code


def _wanted(baton: Session, ids: list[int], everything: bool, query: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The body of the request, empty if no id is left, and the exit code for those that were refused.

    A usage error if it is about nothing, or about two things.
    """
    given = {name: value for name, value in query.items() if value is not None}
    if ids and (given or everything):
        raise click.UsageError("give ids, or a filter, not both")
    if not ids and not given and not everything:
        raise click.UsageError("give ids, a filter, or --all")
    if not ids:
        return {"status": "failed", **given}, exits.OK
    dead_ids, code = _dead(baton, ids)
    return {"ids": dead_ids} if dead_ids else {}, code


def _dead(baton: Session, ids: list[int]) -> tuple[list[int], int]:
    """Those that are dead letters, and the code for the others: a slip of a digit must not cost a result."""
    found, code = [], exits.OK
    for task_id in ids:
        try:
            status = baton.client.task(task_id)["status"]
            if status not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
                raise errors.Conflict(f"task {task_id} is {status}, no dead letter")
        except errors.Refused as error:
            code = refused(error, code)
        else:
            found.append(task_id)
    return found, code


def _told(baton: Session, wanted: dict[str, Any]) -> str:
    """Which tasks a question is about."""
    if "ids" in wanted:
        return progress.ids_in_words(wanted["ids"])
    if baton.yes:
        return ""
    page = baton.client.tasks(**wanted, limit=PAGE_MAX)
    return f"{len(page['tasks'])}{' or more' if page['next'] else ''} {wanted['status']} task(s)"
