"""Every setting: name, default, unit, help. Environment over `.env` over default.

All problems are reported together (SettingsProblem), so a person mends them in one go.
The table is the dataclass below; docs and `.env` are held to it by a test.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, get_type_hints
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from msgspec import Meta

from shared.address import shown, url_of
from shared.wording import in_words, near_miss, spelled

ROOT = Path(__file__).resolve().parent.parent  # the checkout; relative paths start here

ENV_FILE = ROOT / ".env"
_TOLD = "BATON_ENV_FILE_TOLD"  # set for the processes we start: what is odd in the file has been said

DATABASES = ("sqlite:///", "postgresql://", "postgres://")
# LISTEN and NOTIFY; statements prepared on the server; several on their way to it at once.
FEATURES = frozenset({"notify", "prepare", "pipeline"})

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Threads = Annotated[int, Meta(ge=1, le=1000)]  # each takes four file descriptors of its worker


# What options of command lines stand for.
OPTIONS: Final = {
    "url": "DISPATCHER_URL",
    "slots": "WORKER_SLOTS",
    "threads": "WORKER_THREADS",
    "queues": "WORKER_QUEUES",
}


class SettingsProblem(Exception):
    """Some settings cannot be used; the message lists every one."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """The settings of one process; the environment variable is the field's name in capitals."""

    dispatcher_host: str = _setting("127.0.0.1", "address the dispatcher listens on")
    dispatcher_port: Port = _setting(5000, "port the dispatcher listens on; 0 takes a free one")
    dispatcher_url: str = _setting(
        "", "where workers and clients find it, comma-separated if several; empty: the host and port above"
    )
    data_dir: str = _setting("data", "database, lock, pid records, workers' outboxes; relative to the checkout")
    database_url: str = _setting(
        "", "empty: sqlite:///<DATA_DIR>/baton.db; or postgresql://user:password@host/name"
    )
    database_features: str = _setting(
        "notify,prepare,pipeline",
        "what a PostgreSQL server may be asked; leave out what a pooler or a likeness lacks, or none",
    )
    dispatcher_processes: Count = _setting(1, "dispatchers on this host that share the port (PostgreSQL only)")
    durability: Literal["full", "normal"] = _setting(
        "full", "full: an answer means on disk; normal: a power cut may lose the last seconds"
    )
    heartbeat_interval_seconds: Positive = _setting(1.0, "how often a worker reports")
    heartbeat_timeout_seconds: Positive = _setting(2.0, "a worker silent for longer is dead")
    lease_seconds: Positive = _setting(100.0, "a grant nobody renews for so long is reclaimed (backstop)")
    start_grace_seconds: NotNegative = _setting(
        5.0, "after a start nobody is judged silent for so long; workers find their way back in it"
    )
    checkpoint_interval_seconds: Positive = _setting(1.0, "a task's progress is saved at most this often")
    long_poll_seconds: NotNegative = _setting(20.0, "longest wait for work in one request")
    parked_requests_max: Count = _setting(400, "requests that may wait at once; above it, poll again")
    retention_days: Positive = _setting(30.0, "ended tasks are removed after so many days")
    unknown_types: Literal["accept", "refuse"] = _setting(
        "accept", "a task type no worker has announced: accept with a warning, or refuse"
    )
    profiles_file: str = _setting("", "named sets of submit options; empty: profiles.toml, if there is one")
    worker_slots: Annotated[str, spelled(r"^(auto|[1-9][0-9]{0,3})$", "1 to 9999, or auto")] = _setting(
        "1", "tasks a worker computes at once; auto: one per core"
    )
    worker_threads: Threads = _setting(
        1, "tasks declared @task(waits=True) that each slot runs at once, in threads of one process"
    )
    worker_queues: str = _setting("", "queues a worker serves, comma-separated; empty: every one")
    command_programs: str = _setting(
        "",
        "programs that tasks of type command may run here: names or absolute paths, comma-separated; empty: none",
    )
    task_modules: str = _setting("", "more task files: modules or paths of .py files, comma-separated")
    drain_seconds: NotNegative = _setting(25.0, "a stopping worker waits so long for its tasks")
    memo_entries: Annotated[int, Meta(ge=0)] = _setting(1000, "results of pure tasks a worker remembers")

    @property
    def data_path(self) -> Path:
        """The data folder, absolute."""
        return ROOT / self.data_dir

    @property
    def profiles_path(self) -> Path:
        """The file of profiles, absolute."""
        return ROOT / (self.profiles_file or "profiles.toml")

    @property
    def database_address(self) -> str:
        """The database's URL, always set."""
        return self.database_url or f"sqlite:///{self.data_path / 'baton.db'}"

    @property
    def database_name(self) -> str:
        """The database for people and logs, without a password."""
        address = re.sub(r"(//[^:/@]*):[^@/]*@", r"\1@", self.database_address)
        return re.sub(r"[?&]\w*(password|secret)=[^&]*", "", address).removeprefix("sqlite:///")

    @property
    def features(self) -> frozenset[str]:
        """DATABASE_FEATURES, apart."""
        return frozenset(entries(self.database_features)) - {"none"}

    @property
    def dispatcher_urls(self) -> list[str]:
        """Where the dispatchers are."""
        default = url_of(self.dispatcher_host, self.dispatcher_port)
        return [url.rstrip("/") for url in entries(self.dispatcher_url or default)]

    @property
    def queues(self) -> list[str] | None:
        """The queues a worker serves; None: every one."""
        return entries(self.worker_queues) or None

    @property
    def slots(self) -> int:
        """How many tasks a worker computes at once."""
        return usable_cores() if self.worker_slots == "auto" else int(self.worker_slots)


def entries(text: str) -> list[str]:
    """What a comma-separated list names."""
    return [entry for entry in map(str.strip, text.split(",")) if entry]


def usable_cores() -> int:
    """How many cores this process may use: of a container or under taskset not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load(environment: Mapping[str, str] | None = None, env_file: Path | None = None) -> Settings:
    """Read the settings; raises SettingsProblem naming every one that cannot be used."""
    return _read(_file_values(env_file or ENV_FILE), os.environ if environment is None else environment)


def _read(file: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    given = {**file, **environment}
    kinds = get_type_hints(Settings, include_extras=True)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in fields(Settings):
        name = setting.name.upper()
        text = given.get(name, "").strip()
        if not text:
            continue
        try:
            values[setting.name] = _convert(text, kinds[setting.name])
        except msgspec.ValidationError as error:
            problems.append(f"{name}={text!r}: {in_words(str(error))} ({_help(setting)})")
    settings = Settings(**values)
    problems += _contradictions(settings)
    if problems:
        raise SettingsProblem("\n".join(problems))
    return settings


def load_or_exit(options: Mapping[str, str | None] | None = None) -> Settings:
    """Read the settings, or print every problem and exit with 2; slips in names are told once.

    `options` of a command line (OPTIONS has their names) win over the environment, and are named if wrong.
    """
    given = {OPTIONS[option]: value for option, value in (options or {}).items() if value}
    try:
        file = _file_values(ENV_FILE)
        settings = _read(file, {**os.environ, **given})
    except SettingsProblem as problem:
        exit_with_problems(str(problem).splitlines(), given)
    if _TOLD not in os.environ:
        os.environ[_TOLD] = "1"
        for line in slips(file):
            print(f"file {ENV_FILE}: {line}", file=sys.stderr)
    return settings


def slips(names: Iterable[str]) -> list[str]:
    """A sentence about each name that is no setting but looks like one; task modules may have others."""
    known = frozenset(setting.name.upper() for setting in fields(Settings))
    meant = {name: near_miss(name.upper(), known) for name in names if name not in known}
    return [f"{name} is no setting of Baton; did you mean {near}?" for name, near in meant.items() if near]


def exit_with_problems(problems: list[str], given: Container[str] = ()) -> NoReturn:
    """Print each problem of a setting, or of the option that has `given` it, on a line and exit with 2."""
    options = {setting: f"--{option}" for option, setting in OPTIONS.items() if setting in given}
    for line in problems:
        name, sign, rest = line.partition("=")
        print(f"{options.get(name, f'setting {name}')}{sign}{rest}", file=sys.stderr)
    sys.exit(2)


def _file_values(env_file: Path) -> dict[str, str]:
    try:
        text = env_file.read_text("utf-8") if env_file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsProblem(f"file {env_file} cannot be read: {error}") from error
    if wrong := _wrong_lines(text):
        raise SettingsProblem("\n".join(f"file {env_file} line {line}: expected NAME=value" for line in wrong))
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}


def _wrong_lines(text: str) -> list[int]:
    """The numbers of lines that cannot be understood; they are not shown, since they may hold a password."""
    wrong = [binding.original for binding in parse_stream(StringIO(text)) if binding.error]
    return [original.line + _blank_lines(original.string) for original in wrong]


def _blank_lines(statement: str) -> int:
    """How many come before it: the parser counts them as the statement's."""
    return statement[: len(statement) - len(statement.lstrip())].count("\n")


def _convert(text: str, kind: Any) -> Any:
    value = msgspec.convert(text, kind, strict=False)
    if isinstance(value, float) and not value < float("inf"):  # also true for NaN
        raise msgspec.ValidationError("Expected a finite number")
    return value


def _help(setting: Any) -> str:
    return str(setting.metadata["help"])


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        return False


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.heartbeat_timeout_seconds <= settings.heartbeat_interval_seconds:
        problems.append(
            f"HEARTBEAT_TIMEOUT_SECONDS={settings.heartbeat_timeout_seconds:g}: expected more than "
            f"HEARTBEAT_INTERVAL_SECONDS ({settings.heartbeat_interval_seconds:g}), or every worker looks dead"
        )
    if settings.lease_seconds <= settings.heartbeat_timeout_seconds:
        problems.append(
            f"LEASE_SECONDS={settings.lease_seconds:g}: expected more than HEARTBEAT_TIMEOUT_SECONDS "
            f"({settings.heartbeat_timeout_seconds:g}); the lease is the backstop behind it"
        )
    for url in settings.dispatcher_urls or [settings.dispatcher_url]:
        if settings.dispatcher_url and not _is_address(url):  # else host and port are the dispatcher's: 0 is right
            problems.append(
                f"DISPATCHER_URL={shown(url)!r}: expected http://host:port (comma-separated if several)"
            )
    for queue in settings.queues or ():
        if not re.fullmatch(r"[a-z0-9_.-]{1,100}", queue):
            problems.append(
                f"WORKER_QUEUES={queue!r}: expected names of 1 to 100 of a-z 0-9 _ . -, comma-separated"
            )
    if not settings.database_address.startswith(DATABASES):
        problems.append(
            f"DATABASE_URL={settings.database_name!r}: expected sqlite:///path or postgresql://user@host/name"
        )
    unknown = settings.features - FEATURES
    if unknown:
        problems.append(
            f"DATABASE_FEATURES={', '.join(sorted(unknown))}: expected {', '.join(sorted(FEATURES))}, or none"
        )
    if settings.dispatcher_processes > 1 and settings.database_address.startswith("sqlite:///"):
        problems.append(
            f"DISPATCHER_PROCESSES={settings.dispatcher_processes}: a SQLite file has one dispatcher; "
            "set DATABASE_URL=postgresql://… for more"
        )
    return problems


def env_text() -> str:
    """The text of `.env`: every setting with its default and a comment."""
    lines = ["# Baton's settings with their defaults. The environment wins over this file.", ""]
    for setting in fields(Settings):
        lines += [f"# {_help(setting)}", f"{setting.name.upper()}={_plain(setting.default)}", ""]
    return "\n".join(lines[:-1]) + "\n"


def markdown() -> str:
    """The text of docs/settings.md."""
    rows = [f"| `{s.name.upper()}` | `{_plain(s.default)}` | {_help(s)} |" for s in fields(Settings)]
    head = ["# Settings", "", "Generated from `shared/settings.py` by `make docs`; a test holds it there.", ""]
    told = [
        "The environment wins over `.env`, that over the defaults. A wrong value is named at start, all of them",
        "together, and the program exits with 2; so is a line of `.env` that is not NAME=value. A name there that",
        "looks like one of these but is none is told, and the program goes on: task modules may have their own.",
        "",
    ]
    return "\n".join([*head, *told, "| setting | default | meaning |", "| --- | --- | --- |", *rows, ""])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
