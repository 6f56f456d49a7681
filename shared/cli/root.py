"""The tree of verbs, and how the whole program ends: one line to stderr, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from click.shell_completion import get_completion_class

from shared import VERSION, exits
from shared.cli import called
from shared.cli.command import Verb, group
from shared.cli.dead import dead
from shared.cli.flows import flows
from shared.cli.queues import limits, queues, types
from shared.cli.schedules import schedules
from shared.cli.tasks import tasks
from shared.cli.top import whole
from shared.cli.workers import workers

COMPLETION_VARIABLE = "_BATON_COMPLETE"

root = group(
    "baton",
    "Look at Baton and steer it, from any machine that reaches the dispatcher. Submit tasks with add_task.py.",
)
for noun in (tasks, flows, schedules, workers, queues, types, limits, dead):
    root.add_command(noun)
for command in whole.commands.values():
    root.add_command(command)
click.version_option(VERSION, message="%(version)s")(root)


@root.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script. For bash: eval "$(./baton completion bash)"; zsh and fish need baton in PATH."""
    made = get_completion_class(shell)
    assert made is not None  # click knows these three
    print(made(root, {}, "baton", COMPLETION_VARIABLE).source())


completion.examples = ("baton completion bash",)  # type: ignore[attr-defined]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; ends with SystemExit."""
    try:
        with exits.exit_codes():
            root.main(arguments, called.name(), COMPLETION_VARIABLE, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help:
        print(help.ctx.get_help() if help.ctx else help, file=sys.stderr)
        sys.exit(exits.USAGE)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else called.name()
        exits.fail(f"{error.format_message()} (see {path} --help)", exits.USAGE)
    except click.ClickException as error:
        exits.fail(error.format_message(), exits.USAGE)
    except (click.Abort, KeyboardInterrupt):
        exits.fail("interrupted", exits.INTERRUPTED)
