"""Reads what somebody wrote: a flow or a schedule from a file or standard input, or the JSON of an option."""

from __future__ import annotations

import sys
import tomllib
from datetime import date, time
from pathlib import Path
from typing import Any

import click
import msgspec


def read(file: str) -> dict[str, Any]:
    """The object in a file ('-': standard input). What begins with a brace is JSON, else it is TOML."""
    where, text = read_text(file)
    kind = "JSON" if text.lstrip().startswith("{") else "TOML"
    try:
        return dict(msgspec.json.decode(text) if kind == "JSON" else _plain(tomllib.loads(text)))
    except (msgspec.DecodeError, tomllib.TOMLDecodeError) as error:
        if _is_json(text):  # a list begins as a table of TOML does
            raise click.UsageError(f"{where} is not an object; put what it says into braces: {{…}}") from None
        raise click.UsageError(f"{where} is not {kind}: {error}") from None


def read_text(file: str) -> tuple[str, str]:
    """What to call a file ('-': standard input), and what is in it. Usage errors."""
    where = "standard input" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{where} cannot be read: {error.strerror}") from None
    try:
        return where, content.decode().removeprefix("\N{BYTE ORDER MARK}")  # spreadsheets begin with one
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise click.UsageError(f"{where} line {line}: this is not UTF-8; save the file as that") from None


def decoded(text: str, option: str) -> Any:
    """JSON that somebody typed; a usage error names the option."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """TOML's dates and times as the text that JSON has for them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, date | time) else value
