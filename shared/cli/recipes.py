"""What the options of `baton schedules` say of a schedule, in the words of the protocol.

What is wrong is told in the words of the options, before anything is sent.
"""

from __future__ import annotations

from typing import Any, Final

import click

from shared.cli import documents
from shared.cli.command import Seconds, together
from shared.schedules import PERIOD_MAX, PERIOD_MIN

options: Final = together(  # that describe a schedule
    click.option("--cron", metavar="EXPR", help="When, as cron has it: minute hour day month weekday."),
    click.option(
        "--every", type=Seconds(PERIOD_MIN, PERIOD_MAX), help="Once in such a time (90, 5m, 2h), first after one."
    ),
    click.option("--timezone", metavar="TZ", help="Of --cron; default UTC."),
    click.option("--type", "type_", metavar="T", help="Submit a task of this type."),
    click.option("--payload", metavar="JSON", help="Its payload."),
    click.option("--queue", metavar="Q", help="Its queue."),
    click.option("--profile", metavar="P", help="Its profile."),
    click.option("--flow", metavar="FILE", help="Submit this flow, JSON or TOML ('-': standard input)."),
    click.option("--missed", type=click.Choice(["once", "skip", "all"]), help="Of slots when no dispatcher ran."),
    click.option(
        "--overlap", type=click.Choice(["allow", "skip"]), help="May it fire while its last has not ended?"
    ),
    click.option("--file", metavar="FILE", help="What options do not say, JSON or TOML ('-': standard input)."),
)


def described(given: dict[str, Any]) -> dict[str, Any]:
    """A schedule, or the change of one: what options do not say is as in --file. Usage errors."""
    schedule = documents.read(given["file"]) if given["file"] else {}
    said = _said(given, schedule)
    if {"task", "flow"} <= said.keys():
        raise click.UsageError("give --type or --flow, not both")
    if {"cron", "every_seconds"} <= said.keys():
        raise click.UsageError("give --cron or --every, not both")
    for name, other in (("task", "flow"), ("flow", "task"), ("cron", "every_seconds"), ("every_seconds", "cron")):
        if name in said:
            schedule.pop(other, None)
    schedule |= said
    if given["timezone"] is not None:
        check_zone(schedule)
    return schedule


def _said(given: dict[str, Any], schedule: dict[str, Any]) -> dict[str, Any]:
    said = {name: given[name] for name in ("cron", "timezone", "missed", "overlap")}
    said |= {"every_seconds": given["every"]}
    said |= {"flow": documents.read(given["flow"]) if given["flow"] else None}
    said |= {"task": _task(given, schedule.get("task"))}
    return {name: value for name, value in said.items() if value is not None}


def _task(given: dict[str, Any], written: Any) -> dict[str, Any] | None:
    """The task that options describe, over the one that is written in the file."""
    payload = None if given["payload"] is None else documents.decoded(given["payload"], "--payload")
    said = {"type": given["type_"], "payload": payload, "queue": given["queue"], "profile": given["profile"]}
    said = {name: value for name, value in said.items() if value is not None}
    if not said:
        return None
    task = {**(written if isinstance(written, dict) else {}), **said}
    if "type" not in task:
        raise click.UsageError(f"--{next(iter(said))} goes with --type")
    return task


def check_whole(schedule: dict[str, Any]) -> None:
    """A new schedule needs a time, and something to submit."""
    if not {"task", "flow"} & schedule.keys():
        raise click.UsageError("say what to submit: a task with --type, or a flow with --flow")
    if not {"cron", "every_seconds"} & schedule.keys():
        raise click.UsageError("say when: with --cron or --every")


def check_zone(schedule: dict[str, Any]) -> None:
    """Nobody shall believe that a period begins at somebody's midnight."""
    if schedule.get("every_seconds") is not None:
        raise click.UsageError("--timezone goes with --cron; a period knows no time zones")
