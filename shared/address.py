"""What stands behind a dispatcher's URL: names as parts of a path, and queries."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode


def part(name: str) -> str:
    """A name as a part of a path, whatever is in it."""
    return quote(name, safe="")


def target(path: str, query: dict[str, Any]) -> str:
    """The path with its query; what is None in that is left out."""
    fields = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(fields)}" if fields else path
