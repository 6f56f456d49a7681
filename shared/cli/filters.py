"""The options that say which tasks a verb of `baton tasks` is about."""

from __future__ import annotations

from typing import Any, Final

import click

from shared.cli.command import together
from shared.client import DispatcherClient
from shared.lifecycle import LIVE, TaskStatus


class Status(click.Choice[str]):
    """Where a task stands; one that is in progress may be called running, as queues and workers have it."""

    def __init__(self) -> None:
        super().__init__([str(status) for status in TaskStatus])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word of the protocol."""
        return super().convert(str(TaskStatus.IN_PROGRESS) if value == "running" else value, param, ctx)


# What runs comes last: nothing that waits shall start meanwhile in its place.
_LIVE: Final = [status for status in TaskStatus if status in LIVE]


def live_ids(client: DispatcherClient, query: dict[str, Any]) -> list[int]:
    """Those that fit and have not ended."""
    found = (task["task_id"] for status in _LIVE for task in client.every_task(status=status, **query))
    return list(dict.fromkeys(found))  # one may move on while they are read


of_kind = together(
    click.option("--type", metavar="T", help="Only those of this type."),
    click.option("--queue", metavar="Q", help="Only those of this queue."),
    click.option("--tag", metavar="T", help="Only those with this tag."),
)
that_fit = together(
    click.option("--status", type=Status(), help="Only those that stand so."),
    of_kind,
    click.option("--error-type", metavar="E", help="Only those that ended with such an error."),
)
