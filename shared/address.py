"""A dispatcher's URL: who logs in, how it may be shown, and what stands behind it, names in paths and queries."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

_PERSON = re.compile(r"(?<=//)[^/]*@")  # user and password; of anything, since a URL that is none is shown, too


def url_of(host: str, port: int) -> str:
    """Where a dispatcher that listens there is found; an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def login(url: str) -> dict[str, str]:
    """The header for a proxy that asks who comes: user and password of the URL (RFC 7617), if it has some."""
    person, _, _ = urlsplit(url).netloc.rpartition("@")
    return {"Authorization": f"Basic {b64encode(unquote(person).encode()).decode()}"} if person else {}


def shown(url: str) -> str:
    """The URL for people and logs: without user and password."""
    return _PERSON.sub("", url)


def part(name: str) -> str:
    """A name as a part of a path, whatever is in it."""
    return quote(name, safe="")


def target(path: str, query: dict[str, Any]) -> str:
    """The path with its query; what is None in that is left out."""
    fields = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(fields)}" if fields else path
