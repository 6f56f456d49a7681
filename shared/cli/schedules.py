"""baton schedules: recurring submissions of a task or a flow."""

from __future__ import annotations

from typing import Any

import click
from rich.console import RenderableType

from shared import errors
from shared.cli import progress, recipes, screen
from shared.cli.called import hint
from shared.cli.command import Session, group, limit_option, verb

schedules = group("schedules", "Recurring submissions of a task or a flow.")

SLOTS_SHOWN = 10
name_argument = click.argument("name", metavar="NAME")


@verb(
    schedules, "add",
    "baton schedules add hourly --every 1h --type noop",
    "baton schedules add night --cron '30 2 * * *' --timezone Asia/Tokyo --type prime --payload '{\"limit\": 9}'",
    "baton schedules add report --cron '0 6 * * 1' --flow examples/flow.toml --overlap skip",
)  # fmt: skip
@click.argument("name", metavar="[NAME]", required=False)
@recipes.options
def add_schedule(baton: Session, name: str | None, **given: Any) -> None:
    """Add a schedule. What options say wins over --file."""
    schedule = recipes.described(given) | ({"name": name} if name else {})
    if "name" not in schedule:
        raise click.UsageError("give the schedule a NAME")
    recipes.check_whole(schedule)
    try:
        answer = baton.client.add_schedule(schedule)
    except errors.Conflict as taken:
        way_out = f"change it with {hint('schedules change')} {schedule['name']}"
        raise errors.Conflict(f"there is a schedule {schedule['name']!r} already; {way_out}") from taken
    baton.warned(answer)
    baton.answer(answer, f"added: schedule {answer['name']}, {_next(answer)}")


@verb(
    schedules, "change",
    "baton schedules change nightly --cron '30 3 * * *' --timezone Europe/Berlin",
    "baton schedules change nightly --type letter --payload '{\"to\": \"all\"}' --overlap skip",
)  # fmt: skip
@name_argument
@recipes.options
def change_schedule(baton: Session, name: str, **given: Any) -> None:
    """Change a schedule. What is given replaces what was there, a task or a flow as a whole.

    A new timetable begins now.
    """
    change = recipes.described(given)
    change.pop("name", None)
    if not change:
        raise click.UsageError("say what to change, for example --cron, --every or --type")
    if "timezone" in change and "cron" not in change:
        recipes.check_zone(baton.client.schedule(name))
    changed = baton.client.change_schedule(name, **change)
    baton.warned(changed)
    baton.answer(changed, f"changed: schedule {name}, {_next(changed)}")


def _next(schedule: dict[str, Any]) -> str:
    """When it runs next, in a sentence."""
    if not schedule["next_runs"]:
        return "no run to come"
    return f"next run {_when(schedule['next_runs'][0], schedule)}"


def _when(slot: str, schedule: dict[str, Any]) -> str:
    return f"{screen.ahead(slot)} ({screen.dated(slot, schedule['timezone'])})"


@verb(schedules, "list", "baton schedules list")
@limit_option
@click.option("--after", metavar="NAME", help="Go on after this name.")
def list_schedules(baton: Session, limit: int, after: str | None) -> None:
    """List schedules by name."""
    page = baton.client.schedules(limit=limit, after=after)
    rows = [
        (
            one["name"], _rhythm(one), "paused" if one["paused"] else "running",
            screen.ahead(one["next_runs"][0]) if one["next_runs"] else None, _submits(one),
        )
        for one in page["schedules"]
    ]  # fmt: skip
    headers = ("schedule", "when", "status", "next", "submits")
    listing = screen.table(headers, rows, text=("submits", "schedule"))
    baton.page(page, listing if rows else "no schedules")


def _rhythm(schedule: dict[str, Any]) -> str:
    if schedule["cron"] is None:
        return f"every {screen.period(schedule['every_seconds'])}"
    return f"{schedule['cron']} {schedule['timezone']}"


def _submits(schedule: dict[str, Any]) -> str:
    if "task" in schedule:
        return f"{schedule['task']['type']} {progress.encoded(schedule['task'].get('payload', {}))}"
    flow = schedule["flow"]
    return f"flow {flow.get('name') or flow.get('jobName') or ''}, {len(flow['tasks'])} task(s)"


@verb(schedules, "show", "baton schedules show nightly")
@name_argument
def show_schedule(baton: Session, name: str) -> None:
    """Show a schedule, when it runs next, and what became of its last slots."""
    found = baton.client.schedule(name)
    history = [] if baton.as_json else baton.client.schedule_history(name, limit=SLOTS_SHOWN)["history"]
    baton.answer(found, *_picture(found, history))


def _picture(found: dict[str, Any], history: list[dict[str, Any]]) -> list[RenderableType]:
    facts = [
        ("schedule", found["name"]),
        ("when", _rhythm(found)),
        ("status", screen.cell("paused" if found["paused"] else "running")),
        *(("next" if n == 0 else "then", _when(slot, found)) for n, slot in enumerate(found["next_runs"])),
        ("submits", _submits(found)),
        ("missed", found["missed"]),
        ("overlap", found["overlap"]),
        ("created", screen.ago(found["created_at"])),
    ]
    if not history:
        return [screen.facts(facts)]
    rows = [
        (
            screen.dated(slot["slot_at"], found["timezone"]),
            slot["outcome"], slot.get("task_id"), slot.get("flow_id"),
            slot.get("message") or ("by hand" if slot["by_hand"] else ""),
        )
        for slot in history
    ]  # fmt: skip
    slots = screen.table(("slot", "outcome", "task", "flow", "note"), rows, text=("note",))
    return [screen.facts(facts), "", slots]


@verb(schedules, "pause", "baton schedules pause nightly")
@name_argument
def pause_schedule(baton: Session, name: str) -> None:
    """Let it fire no more until it is resumed."""
    baton.answer(baton.client.pause_schedule(name), f"schedule {name} is paused")


@verb(schedules, "resume", "baton schedules resume nightly")
@name_argument
def resume_schedule(baton: Session, name: str) -> None:
    """Let it go on with its next slot."""
    found = baton.client.resume_schedule(name)
    baton.answer(found, f"schedule {name} goes on, {_next(found)}")


@verb(schedules, "run", "baton schedules run nightly")
@name_argument
def run_schedule(baton: Session, name: str) -> None:
    """Submit at once what it would submit."""
    answer = baton.client.run_schedule(name)
    what = f"task {answer['task_id']}" if "task_id" in answer else f"flow {answer['flow_id']}"
    baton.answer(answer, f"submitted: {what}")


@verb(schedules, "remove", "baton schedules remove nightly --yes", asks=True)
@name_argument
def remove_schedule(baton: Session, name: str) -> None:
    """Forget a schedule; what it has submitted stays."""
    baton.confirm(f"remove the schedule {name}")
    baton.answer(baton.client.remove_schedule(name), f"schedule {name} is removed")
