"""What every verb of the command line has in common: its options, its dispatcher, how it asks, how it ends."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, cast

import click

from shared import errors, exits
from shared.cli import called, screen
from shared.client import DispatcherClient
from shared.protocol import INTEGER_MAX, PAGE_MAX
from shared.schedules import PERIOD_MAX
from shared.settings import Settings, load_or_exit

_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print the dispatcher's JSON.")
_URL: Final = click.option("--url", metavar="URL", help="Where the dispatcher is; default: DISPATCHER_URL.")
_YES: Final = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
NO_ID: Final = "task id; ids are whole numbers from 1"
Body = Callable[..., int | None]


class Verb(click.Command):
    """A command with examples, which its help shows, docs/cli.md repeats and the tests run."""

    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, a line each."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    words = example.removeprefix("baton ")
                    formatter.write(f"{' ' * formatter.current_indent}{called.hint(words)}\n")


class Noun(click.Group):
    """A group whose verbs are listed in the order in which one needs them.

    `elsewhere`: what to type for verbs that one looks for here.
    """

    elsewhere: Mapping[str, str] = {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name; a usage error names the way to one that is elsewhere."""
        if cmd_name in self.elsewhere:
            ctx.fail(f"no such command {cmd_name!r}; use {self.elsewhere[cmd_name]}")
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`--json stats` is `stats --json`."""
        return super().parse_args(ctx, _behind(args))


def _behind(args: list[str]) -> list[str]:
    """What each verb has and stands in front of it, moved behind the next word."""
    n = 0
    while n < len(args) and (args[n] in ("--json", "--yes", "-y", "--url") or args[n].startswith("--url=")):
        n += 2 if args[n] == "--url" else 1
    rest = args[n:]
    return rest if not rest or rest[0].startswith("-") else [rest[0], *args[:n], *rest[1:]]


class Session:
    """One call of a verb: the dispatcher it talks to, and how it talks to people."""

    def __init__(self, url: str | None, as_json: bool, yes: bool) -> None:
        self.as_json = as_json
        self.yes = yes
        self._url = url
        self._client: DispatcherClient | None = None

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, with --url in the place of DISPATCHER_URL."""
        return load_or_exit({"url": self._url})

    @property
    def client(self) -> DispatcherClient:
        """The dispatcher, as calls."""
        if self._client is None:
            self._client = DispatcherClient(self.settings.dispatcher_urls)
        return self._client

    def answer(self, answer: Any, *people: Any) -> None:
        """Print the dispatcher's answer: its own JSON, or what people read."""
        if self.as_json:
            screen.json_line(answer)
        else:
            screen.show(*people)

    def page(self, page: dict[str, Any], listing: Any) -> None:
        """Print a page of a longer list; how to go on is no part of it, and goes to standard error."""
        self.answer(page, listing)
        if page["next"] and not self.as_json:
            print(f"more: --after {page['next']}", file=sys.stderr)

    def warned(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, its warning told on standard error; JSON has it anyway."""
        if "warning" in answer and not self.as_json:
            click.echo(f"warning: {answer['warning']}", err=True)
        return answer

    def confirm(self, what: str) -> None:
        """Go on only if --yes was given or somebody says so."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            exits.fail(f"this asks first ({what}?), and there is no terminal to ask on: add --yes", exits.USAGE)
        if not click.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
            exits.fail("nothing was changed", exits.INTERRUPTED)

    def each(self, things: Iterable[Any], act: Callable[[Any], Any], done: Callable[[Any], str]) -> int:
        """Act on one after the other; a refusal is told and the others go on. Returns the first bad code."""
        code = exits.OK
        for thing in things:
            try:
                answer = act(thing)
            except errors.Refused as error:
                code = refused(error, code)
            else:
                self.answer(answer, done(answer))
        return code


def refused(error: errors.Refused, before: int = exits.OK) -> int:
    """Say what was refused while the others go on; its code, unless there was a bad one `before`."""
    print(exits.line_of(error), file=sys.stderr)
    return before or exits.code_of(error)


def verb(group: click.Group, name: str, *examples: str, asks: bool = False) -> Callable[[Body], Verb]:
    """Make a function (session, options…) a command of `group`; one that `asks` has --yes.

    The function returns its exit code, None for 0.
    """

    def register(body: Body) -> Verb:
        @functools.wraps(body)
        def run(url: str | None, as_json: bool, yes: bool = False, **given: Any) -> None:
            with exits.exit_codes():  # here already: click would call a broken pipe a failure
                code = body(Session(url, as_json, yes), **given) or exits.OK
            sys.exit(code)

        decorated: Any = run
        for option in [_JSON, _URL, *([_YES] if asks else [])]:
            decorated = option(decorated)
        made: Any = group.command(name, cls=Verb, context_settings=CONTEXT)(decorated)
        made.examples = examples
        return cast(Verb, made)

    return register


def together(*options: Callable[[Body], Body]) -> Callable[[Body], Body]:
    """Several options as one decorator, in this order."""

    def decorate(body: Body) -> Body:
        for option in reversed(options):
            body = option(body)
        return body

    return decorate


def group(name: str, what: str, elsewhere: Mapping[str, str] | None = None) -> click.Group:
    """A noun: a group of verbs; and what to use for verbs that are `elsewhere`."""
    made = Noun(name, help=what, context_settings=CONTEXT, no_args_is_help=True)
    made.elsewhere = elsewhere or {}
    return made


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration: 90, 90s, 5m, 2h, 1d; from `least` to `most` seconds."""

    name = "time"
    UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def __init__(self, least: float = 0.001, most: float = PERIOD_MAX) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """In seconds."""
        if isinstance(value, float):
            return value
        number, unit = (value[:-1], value[-1]) if value[-1:] in self.UNITS else (value, "s")
        try:
            seconds = float(number) * self.UNITS[unit]
        except ValueError:
            self.fail(f"{value!r} is no duration; write for example 90, 90s, 5m, 2h or 1d", param, ctx)
        if not self._least <= seconds <= self._most:
            span = f"{screen.period(self._least)} to {screen.period(self._most)}"
            self.fail(f"{value!r} is out of range: {span}", param, ctx)
        return seconds


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A point in time, ISO 8601 with a zone; stays the text that it was."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As the dispatcher takes it."""
        try:
            zone = datetime.fromisoformat(value).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            self.fail(f"{value!r} is no time with a zone; write for example 2027-01-15T08:00:00Z", param, ctx)
        return str(value)


class Whole(click.IntRange):
    """A whole number from `least` to `most`; one that is not says `what` it is none of."""

    def __init__(self, least: int, most: int | None = None, what: str = "") -> None:
        super().__init__(least, most)
        self._what = what or f"whole number from {least:,}" + ("" if most is None else f" to {most:,}")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """As a number."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is no {self._what}", param, ctx)


class Ids(click.ParamType):  # type: ignore[type-arg]
    """Ids of tasks; '-' reads them from standard input, separated by blanks or lines."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """A list, since '-' may stand for many."""
        if isinstance(value, list):
            return value
        words = sys.stdin.read().split() if value == "-" else [value]
        wrong = [word for word in words if not (word.isascii() and word.isdigit() and 0 < int(word) < 2**63)]
        if wrong:
            self.fail(f"{wrong[0]!r} is no {NO_ID}", param, ctx)
        return [int(word) for word in words]


def ids_argument(required: bool = True) -> Callable[[Body], Body]:
    """IDS…: one or more; the function gets a tuple of lists, flatten it with `flat`."""
    return click.argument(
        "ids", nargs=-1, required=required, type=Ids(), metavar="ID..." if required else "[ID]..."
    )


def flat(ids: tuple[list[int], ...]) -> list[int]:
    """Each id once, in order. Usage error if '-' brought none."""
    found = list(dict.fromkeys(task_id for some in ids for task_id in some))
    if ids and not found:
        raise click.UsageError("no ids came in on standard input")
    return found


task_id_argument = click.argument("task_id", metavar="ID", type=Whole(1, INTEGER_MAX, NO_ID))
limit_option = click.option(
    "--limit",
    type=Whole(1, PAGE_MAX),
    default=20,
    show_default=True,
    metavar="N",
    help="At most so many.",
)
after_option = click.option("--after", type=Whole(1, INTEGER_MAX), metavar="ID", help="Go on after this id.")
