"""Shows something until it has ended: redrawn on a terminal, a line per change in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import RenderableType
from rich.live import Live

from shared import exits
from shared.cli import screen
from shared.cli.command import Session
from shared.cli.progress import PATIENCE_SECONDS
from shared.lifecycle import TaskStatus

LOOK_SECONDS = 0.5  # often enough for an eye; a heartbeat brings news once a second


def watch(
    baton: Session,
    look: Callable[[], dict[str, Any]],
    picture: Callable[[dict[str, Any]], RenderableType],
    change: Callable[[dict[str, Any]], str],
    is_over: Callable[[dict[str, Any]], bool],
) -> int:
    """`look` again and again until it `is_over`. `change` is the line of a pipe, printed when it differs.

    Returns the exit code of what it has become.
    """
    seen = look()
    baton.client.patience_seconds = PATIENCE_SECONDS
    out = screen.console()
    if out.is_terminal and not baton.as_json:
        with Live(picture(seen), console=out, refresh_per_second=4, vertical_overflow="ellipsis") as live:
            while not is_over(seen):
                time.sleep(LOOK_SECONDS)
                seen = look()
                live.update(picture(seen))
        return code_of(seen)
    told = ""
    while True:
        if (line := change(seen)) != told:
            told = line
            screen.json_line(seen) if baton.as_json else print(line, flush=True)
        if is_over(seen):
            return code_of(seen)
        time.sleep(LOOK_SECONDS)
        seen = look()


def code_of(seen: dict[str, Any]) -> int:
    """The exit code of a task, or a flow, that was waited for."""
    return exits.FAILED if seen["status"] in (TaskStatus.FAILED, TaskStatus.CANCELLED) else exits.OK
