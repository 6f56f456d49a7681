"""What programs say, in words for people: of a wrong value, of an error, of a name that is nearly right."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Meta

_PATTERN: Final = re.compile(r"[Ee]xpected `str` matching regex '(.*)'$")
# Of 1: two letters exchanged in a word of five are a slip, a name with the same beginning is not.
_ALIKE: Final = 0.75
_WORDS: Final[dict[str, str]] = {}  # by pattern


def spelled(pattern: str, words: str, min_length: int | None = None, max_length: int | None = None) -> Meta:
    """The Meta of a text that must match `pattern`; `words` say how it may look, after "expected"."""
    _WORDS[pattern] = words
    return Meta(pattern=pattern, min_length=min_length, max_length=max_length)


def in_words(complaint: str) -> str:
    """A complaint of msgspec's as the end of a sentence: what was expected."""
    found = _PATTERN.search(complaint)
    if found is None:
        return complaint[:1].lower() + complaint[1:]
    pattern = ast.literal_eval(f"'{found[1]}'")  # it was told as a Python literal
    return f"expected {_WORDS[pattern]}"


def clean(text: str) -> str:
    """Without anything that moves a terminal's cursor or changes its colours: it comes from others."""
    if text.isprintable():
        return text
    return re.sub(r"[^\S ]+", " ", "".join(c if c.isprintable() or c.isspace() else "�" for c in text))


def counted(n: int, noun: str) -> str:
    """`1 task`, `2 tasks`: a noun that takes an s, after how many there are."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def error_in_words(error: Any) -> str:
    """Its message, and the note if there is one; a worker in another language may have sent anything."""
    if isinstance(error, dict) and "message" in error:
        return f"{error['message']} ({error['note']})" if error.get("note") else str(error["message"])
    return msgspec.json.encode(error).decode() if error else ""


def reason_in_words(error: Any) -> str:
    """Its type and its message."""
    kind = error.get("type") if isinstance(error, dict) else None
    return f"{kind}: {error_in_words(error)}" if kind else error_in_words(error)


@lru_cache(maxsize=256)  # a slip is often repeated, and to look costs about 10 microseconds for each known name
def near_miss(name: str, known: frozenset[str]) -> str | None:
    """The known name that this one was probably meant to be."""
    from difflib import get_close_matches  # loaded here: hardly ever needed

    return next(iter(get_close_matches(name, sorted(known), 1, _ALIKE)), None)
