"""Profiles: named sets of submit options, read from profiles.toml at start.

A body that names one gets the profile's options as defaults before it is decoded; what the task
says itself wins. A wrong file is no start: every problem is named with file, line and key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Raw

from dispatcher import wire
from dispatcher.engine import CannotStart
from shared import errors
from shared.protocol import Submission

# What belongs to one task alone, and not to a set of options for many.
_NOT_OPTIONS: Final = frozenset(
    {"type", "payload", "run_at", "deadline", "unique_key", "depends_on", "run_if", "profile"}
)
OPTIONS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(Submission)) - _NOT_OPTIONS
_fields = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])
_encode = msgspec.json.Encoder().encode


class ProfilesProblem(CannotStart):
    """The file cannot be used; the message has a line for each reason."""


class Profiles:
    """The options of each profile, by its name."""

    def __init__(self, options: dict[str, dict[str, Any]] | None = None) -> None:
        self._options = {
            name: {key: Raw(_encode(value)) for key, value in given.items()}
            for name, given in (options or {}).items()
        }

    def fill(self, data: bytes) -> bytes:
        """A request's body with the options of the profiles it names. Invalid naming the field of an unknown one.

        A profile may be named by a task: the body itself, in its `tasks`, or under `task` or `flow`.
        """
        if b'"profile"' not in data:
            return data
        try:
            return self._filled(Raw(data), "")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return data  # whoever decodes it will say what is wrong

    def _filled(self, body: Raw, where: str) -> bytes:
        fields = _fields.decode(body)
        if "tasks" in fields:
            items = enumerate(_list.decode(fields["tasks"]))
            fields["tasks"] = Raw(_encode([Raw(self._filled(item, f"{where}tasks[{i}].")) for i, item in items]))
        for inner in ("task", "flow"):
            if inner in fields and bytes(fields[inner])[:1] == b"{":
                fields[inner] = Raw(self._filled(fields[inner], f"{where}{inner}."))
        if "profile" in fields:
            name = msgspec.json.decode(fields["profile"])
            if isinstance(name, str):
                options = self._named(name, f"{where}profile")
                if "run_at" in fields:  # the task itself says when
                    options = {key: value for key, value in options.items() if key != "delay_seconds"}
                fields = {**options, **fields}
        return _encode(fields)

    def _named(self, name: str, where: str) -> dict[str, Raw]:
        if name not in self._options:
            known = ", ".join(sorted(self._options)) or "none"
            raise errors.Invalid(
                f"{where}: there is no profile {name!r}; there are: {known}",
                field=where,
                allowed=sorted(self._options),
            )
        return self._options[name]


def read(path: Path, required: bool) -> Profiles:
    """The profiles in a file; if it is not there and need not be, none. Raises ProfilesProblem."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        if not required:
            return Profiles()
        raise ProfilesProblem(f"{path}: there is no such file; correct PROFILES_FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfilesProblem(f"{path} cannot be read: {error}") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfilesProblem(f"{path}: {error}") from None
    problems = [
        f"{path}, line {_line(text, name, key)}: {problem}"
        for name, table in tables.items()
        for key, problem in _problems(name, table)
    ]
    if problems:
        raise ProfilesProblem("\n".join(problems))
    return Profiles(tables)


def _problems(name: str, table: Any) -> list[tuple[str, str]]:
    """(key, what is wrong with it) in a profile."""
    if not isinstance(table, dict):
        return [("", f"{name}: expected a table of options, as in [{name}]")]
    found = []
    for key, value in table.items():
        if key not in OPTIONS:
            found.append((key, f"{name}.{key}: no such option; there are: {', '.join(sorted(OPTIONS))}"))
            continue
        try:
            msgspec.convert({"type": "any", key: value}, Submission)
        except msgspec.ValidationError as error:
            problem = wire.invalid(error, Submission)
            found.append((key, f"{name}.{problem.message}"))
    return found


def _line(text: str, name: str, key: str) -> int:
    """Where a key of a profile is written: the first line in its table that begins with it."""
    header = re.compile(rf"\s*\[\s*[\"']?{re.escape(name)}[\"']?\s*(\.\s*[\"']?{re.escape(key)}[\"']?\s*)?\]")
    setting = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]")
    dotted = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*([.=])")
    inside, best = False, 1
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            match = header.match(line)
            inside = match is not None
            if match is not None and (match.group(1) or not key):
                return number
            best = number if inside else best
        elif (inside and setting.match(line)) or (not inside and dotted.match(line)):
            return number
    return best
