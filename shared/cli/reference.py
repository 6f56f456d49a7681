"""The text of docs/cli.md, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from shared.cli.command import Verb
from shared.cli.root import root
from shared.exits import MEANINGS

_HEAD: Final = """# The command line

Generated from `shared/cli/` by `make docs`; a test holds it there and runs every example.

`./baton` looks at everything the dispatcher knows and steers it. It talks HTTP only, so it works from any machine
that has a checkout: say where the dispatcher is with `DISPATCHER_URL` or `--url`. To type `baton` alone, put a
link to it into a folder of your `PATH`. Tasks are submitted with `add_task.py`, flows and schedules with `baton`.

- `--json` prints what the dispatcher answered, in one line (of several things, a line for each); times are ISO
  8601 there. `workers start`, `check` and `stop`, which are about this machine, and `top` have an object of their
  own. `--json`, `--url` and `--yes` may also stand in front: `./baton --json stats`.
- What destroys or stops something asks first. `--yes` says yes; without a terminal and without `--yes` it does
  nothing and exits with 2.
- `-` in the place of a file or of ids reads them from standard input. Where several things are named, one that is
  refused does not keep the others from being done; the exit code tells.
- FLOW, NAME and WORKER take names; a flow also its id (a name means the newest flow of that name), a worker also
  its id. TIME is written 90, 90s, 5m, 2h or 1d.
- In a pipe there are no colours, and nothing is cut to the width of a terminal. `--watch` and `--follow` print a
  line per change there.
- An error is one line on standard error: what is wrong, and the way out.

Completion: `eval "$(./baton completion bash)"` in `~/.bashrc`, `eval "$(baton completion zsh)"` in `~/.zshrc`,
`baton completion fish > ~/.config/fish/completions/baton.fish`; zsh and fish need `baton` in the `PATH`.

| exit code | meaning |
| --- | --- |
"""


def markdown() -> str:
    """The whole page."""
    codes = [f"| {code} | {meaning} |" for code, meaning in MEANINGS.items()]
    return _HEAD + "\n".join([*codes, "", *_nouns()]).rstrip() + "\n"


def verbs() -> Iterator[tuple[str, Verb]]:
    """Every verb with what one types for it, in the order of the tree."""
    for name, command in root.commands.items():
        if isinstance(command, Verb):
            yield f"baton {name}", command
        elif isinstance(command, click.Group):
            for inner_name, inner in command.commands.items():
                assert isinstance(inner, Verb)
                yield f"baton {name} {inner_name}", inner


def _nouns() -> Iterator[str]:
    section = ""
    for path, command in verbs():
        noun = " ".join(path.split()[:2])
        if noun != section:
            section = noun
            yield from (f"## {noun}", "")
            if noun != path:
                yield from (str(root.commands[noun.split()[1]].help), "")
        if noun != path:
            yield from (f"### {path}", "")
        yield from _verb(path, command)


def _verb(path: str, command: Verb) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS]", "").strip()
    if usage.strip():
        yield from (f"`{path} {usage}`", "")
    yield from (" ".join((command.help or "").split()), "")
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    own = [row for row in rows if row is not None]
    if own:
        yield from ("| option | meaning |", "| --- | --- |", *own, "")
    if command.examples:
        yield from ("```console", *(f"$ {example}" for example in command.examples), "```", "")


def _row(option: click.Option, context: click.Context) -> str | None:
    """An option, unless every verb has it."""
    record = option.get_help_record(context)
    if record is None or option.name in ("url", "as_json"):
        return None
    written, meaning = (text.replace("|", "\\|") for text in record)
    return f"| `{written}` | {meaning} |"
