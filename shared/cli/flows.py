"""baton flows: tasks tied by dependencies."""

from __future__ import annotations

import math
import time
from typing import Any

import click
from rich.console import Console, RenderableType

from shared import errors, exits
from shared.cli import documents, drawing, progress, screen
from shared.cli.called import hint
from shared.cli.command import Seconds, Session, after_option, group, limit_option, verb
from shared.cli.watching import LOOK_SECONDS, code_of, watch
from shared.lifecycle import ENDED
from shared.protocol import PAGE_MAX

flows = group("flows", "Tasks tied by dependencies.")

PAGES_MAX = 20  # looked through for a name: the newest 10,000 flows
flow_argument = click.argument("flow", metavar="FLOW")


@verb(
    flows, "submit",
    "baton flows submit examples/flow.toml",
    "baton flows submit - < examples/flow.toml",
)  # fmt: skip
@click.argument("file", metavar="FILE")
@click.option("--name", metavar="NAME", help="Call it so, whatever the file says.")
def submit_flow(baton: Session, file: str, name: str | None) -> None:
    """Submit the flow in FILE, JSON or TOML ('-': standard input). It is stored whole or not at all."""
    flow = documents.read(file)
    if name is not None:
        flow["jobName" if "jobName" in flow or "jobId" in flow else "name"] = name
    answer = baton.client.submit_flow(flow)
    baton.warned(answer)
    baton.answer(answer, f"submitted: flow {answer['flow_id']} of {len(answer['task_ids'])} task(s)")


@verb(flows, "list", "baton flows list")
@limit_option
@after_option
def list_flows(baton: Session, limit: int, after: int | None) -> None:
    """List flows, newest first."""
    page = baton.client.flows(limit=limit, after=after)
    rows = [
        (
            flow["flow_id"],
            flow["status"],
            screen.percent(flow["progress"]),
            screen.age(flow["created_at"]),
            flow["name"],
        )
        for flow in page["flows"]
    ]
    listing = screen.table(("flow", "status", "done", "age", "name"), rows, text=("name",))
    baton.page(page, listing if rows else "no flows")


@verb(flows, "show", "baton flows show report")
@flow_argument
@click.option("--parts", is_flag=True, help="Each part of a fan-out on its line.")
@click.option("--watch", "-w", "watched", is_flag=True, help="Go on showing it until it ends; exits as wait does.")
def show_flow(baton: Session, flow: str, parts: bool, watched: bool) -> int:
    """Draw a flow: each task below what it depends on. FLOW is an id, or a name for the newest one of it."""
    flow_id = find(baton, flow)
    if watched:
        return watch(
            baton,
            lambda: baton.client.flow(flow_id),
            lambda found: _picture(found, parts),
            lambda found: f"flow {flow_id}  {found['status']}  {screen.percent(found['progress'])}",
            lambda found: found["status"] != "running",
        )
    found = baton.client.flow(flow_id)
    baton.answer(found, _picture(found, parts))
    return exits.OK


def _picture(flow: dict[str, Any], parts: bool) -> RenderableType:
    tasks = flow["tasks"]
    ended = sum(task["status"] in ENDED for task in tasks)
    facts = [
        ("flow", flow["flow_id"]),
        ("name", flow["name"]),
        ("status", screen.cell(flow["status"])),
        ("progress", f"{screen.percent(flow['progress'])}, {ended} of {len(tasks)} task(s) ended"),
        ("created", screen.ago(flow["created_at"])),
    ]
    rows = [
        ("  " * line.depth + line.key, line.status, line.task_id, _remark(line))
        for line in drawing.lines(tasks, parts)
    ]
    return screen.stack(
        screen.facts(facts), "", screen.table(("key", "status", "task", "note"), rows, text=("note", "key"))
    )


def _remark(line: drawing.Line) -> str:
    also = f"also after {', '.join(line.others)}" if line.others else ""
    return "; ".join(filter(None, [also, line.trouble]))


@verb(flows, "wait", "baton flows wait sums --timeout 10s")
@flow_argument
@click.option("--timeout", type=Seconds(), help="Wait no longer than this (90, 5m, 2h).")
def wait_for_flow(baton: Session, flow: str, timeout: float | None) -> int:
    """Wait until a flow has ended, and draw it. Exits with 1 if a task of it failed, 124 after --timeout."""
    flow_id = find(baton, flow)
    found = baton.client.flow(flow_id)
    baton.client.patience_seconds = progress.PATIENCE_SECONDS
    if found["status"] == "running":
        _await_end(baton, flow_id, timeout)
        found = baton.client.flow(flow_id)
    baton.answer(found, _picture(found, parts=False))
    if found["status"] == "running":
        click.echo(f"timed out: flow {flow_id} has not ended yet; it goes on", err=True)
        return exits.TIMED_OUT
    return code_of(found)


def _await_end(baton: Session, flow_id: int, timeout: float | None) -> None:
    """With a bar, until it has ended or time is up. Asks for the flow without its tasks: there may be 10,000."""
    give_up_at = math.inf if timeout is None else time.monotonic() + timeout
    with progress.bars_on(Console(stderr=True) if baton.as_json else screen.console()) as bars:
        bar = bars.add_task(f"flow {flow_id}", total=1.0)
        while (left := give_up_at - time.monotonic()) > 0:
            newest = baton.client.flows(limit=1, after=flow_id + 1)["flows"]
            if not any(found["flow_id"] == flow_id and found["status"] == "running" for found in newest):
                return
            bars.update(bar, completed=newest[0]["progress"])
            time.sleep(min(LOOK_SECONDS, left))


@verb(flows, "cancel", "baton flows cancel report --yes", asks=True)
@flow_argument
def cancel_flow(baton: Session, flow: str) -> None:
    """Cancel what has not ended of a flow. It can be revived."""
    flow_id = find(baton, flow)
    if not baton.yes:
        found = baton.client.flow(flow_id)
        live = sum(task["status"] not in ENDED for task in found["tasks"])
        name = f" ({found['name']})" if found["name"] else ""
        baton.confirm(f"cancel flow {flow_id}{name}, {live} task(s) of it not ended")
    found = baton.client.cancel_flow(flow_id)
    became = "" if found["status"] == "cancelled" else f"; the flow is {found['status']}"
    what = f"what had not ended of flow {flow_id}" if became else f"flow {flow_id}"
    baton.answer(found, f"{what} is cancelled{became}")


@verb(flows, "revive", "baton flows revive report")
@flow_argument
def revive_flow(baton: Session, flow: str) -> None:
    """Give what failed or was cancelled a second life. What has completed stays."""
    found = baton.client.revive_flow(find(baton, flow))
    baton.answer(found, f"flow {found['flow_id']} is {found['status']}")


def find(baton: Session, flow: str) -> int:
    """The id that was given, or that of the newest flow with this name. NotFound."""
    if flow.isascii() and flow.isdigit():
        return int(flow)
    after: int | None = None
    for _ in range(PAGES_MAX):
        page = baton.client.flows(limit=PAGE_MAX, after=after)
        for found in page["flows"]:
            if found["name"] == flow:
                return int(found["flow_id"])
        after = page["next"]
        if after is None:
            break
    raise errors.NotFound(f"there is no flow named {flow!r}; {hint('flows list')} shows them")
