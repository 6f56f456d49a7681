"""baton queues, baton types, baton limits: what may run, and how much of it at once."""

from __future__ import annotations

from typing import Any, Literal

import click

from shared.cli import screen
from shared.cli.command import Seconds, Session, Whole, group, verb

queues = group("queues", "What stands in each queue; pause and resume queues.")
types = group("types", "Pause and resume types of task.")
limits = group("limits", "How many tasks of a queue, a type or a key may run or start.")

KINDS = click.Choice(["queue", "type", "key"])
names_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True)


@verb(queues, "list", "baton queues list")
def list_queues(baton: Session) -> None:
    """Show what stands in each queue, and what is paused."""
    found = baton.client.queues()
    headers = ("queue", "status", "running", "pending", "scheduled", "blocked", "failed")
    rows = [
        (one["queue"], "paused" if one["paused"] else "running", *(one[name] for name in headers[2:]))
        for one in found["queues"]
    ]
    paused = [f"paused types: {', '.join(found['paused_types'])}"] if found["paused_types"] else []
    headers = ("queue", "status", "in progress", *headers[3:])
    baton.answer(found, screen.table(headers, rows) if rows else "no queue has tasks", *paused)


@verb(queues, "pause", "baton queues pause default")
@names_argument
def pause_queues(baton: Session, names: tuple[str, ...]) -> int:
    """Let nothing more of a queue start; what runs goes on."""
    return _pause(baton, "queue", names)


@verb(queues, "resume", "baton queues resume default")
@names_argument
def resume_queues(baton: Session, names: tuple[str, ...]) -> int:
    """Undo pause."""
    return _resume(baton, "queue", names)


@verb(types, "pause", "baton types pause prime")
@names_argument
def pause_types(baton: Session, names: tuple[str, ...]) -> int:
    """Let no more tasks of a type start; what runs goes on."""
    return _pause(baton, "type", names)


@verb(types, "resume", "baton types resume prime")
@names_argument
def resume_types(baton: Session, names: tuple[str, ...]) -> int:
    """Undo pause."""
    return _resume(baton, "type", names)


def _pause(baton: Session, kind: Literal["queue", "type"], names: tuple[str, ...]) -> int:
    return baton.each(
        names,
        lambda name: baton.warned(baton.client.pause(kind, name)),
        lambda told: f"{kind} {told[kind]} is paused",
    )


def _resume(baton: Session, kind: Literal["queue", "type"], names: tuple[str, ...]) -> int:
    return baton.each(
        names,
        lambda name: baton.warned(baton.client.resume(kind, name)),
        lambda told: f"{kind} {told[kind]} goes on",
    )


@verb(limits, "list", "baton limits list")
def list_limits(baton: Session) -> None:
    """List the limits, with how many tasks run under each."""
    found = baton.client.limits()
    rows = [(*_named(one), one["running"], one["max_running"], _starts(one)) for one in found]
    headers = ("of", "name", "running", "at most", "starts")
    baton.answer({"limits": found}, screen.table(headers, rows, text=("name",)) if rows else "no limits")


def _named(limit: dict[str, Any]) -> tuple[str, str]:
    kind = next(kind for kind in ("queue", "type", "key") if kind in limit)
    return kind, limit[kind]


def _starts(limit: dict[str, Any]) -> str | None:
    if limit["max_starts"] is None:
        return None
    return f"{limit['max_starts']} in {screen.period(limit['per_seconds'])}"


@verb(limits, "set", "baton limits set type prime --running 2", "baton limits set key mail --starts 10 --per 1m")
@click.argument("kind", type=KINDS)
@click.argument("name", metavar="NAME")
@click.option("--running", type=Whole(0), metavar="N", help="At most N run at once.")
@click.option("--starts", type=Whole(1), metavar="N", help="At most N start within --per.")
@click.option("--per", type=Seconds(), help="The time that --starts is about (90, 5m, 2h).")
def set_limit(
    baton: Session, kind: str, name: str, running: int | None, starts: int | None, per: float | None
) -> None:
    """Limit how many tasks of a queue, a type or a key run at once, or start within a time, or both."""
    if running is None and starts is None:
        raise click.UsageError("give --running N, or --starts N --per TIME, or both")
    if (starts is None) != (per is None):
        raise click.UsageError("--starts and --per go together")
    setting = {kind: name, "max_running": running, "max_starts": starts, "per_seconds": per}
    baton.answer(baton.client.set_limit(**setting), f"the {kind} {name} has its limit")


@verb(limits, "remove", "baton limits remove type prime --yes", asks=True)
@click.argument("kind", type=KINDS)
@click.argument("name", metavar="NAME")
def remove_limit(baton: Session, kind: str, name: str) -> None:
    """Lift a limit."""
    baton.confirm(f"lift the limit of {kind} {name}")
    baton.answer(baton.client.remove_limit(**{kind: name}), f"the {kind} {name} has no limit any more")
