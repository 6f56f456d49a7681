"""The options that say which tasks a verb of `baton tasks` is about."""

from __future__ import annotations

from typing import Any

import click

from shared.cli.command import together
from shared.lifecycle import TaskStatus


class Status(click.Choice[str]):
    """Where a task stands; one that is in progress may be called running, as queues and workers have it."""

    def __init__(self) -> None:
        super().__init__([str(status) for status in TaskStatus])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word of the protocol."""
        return super().convert(str(TaskStatus.IN_PROGRESS) if value == "running" else value, param, ctx)


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
