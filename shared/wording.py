"""What programs say, in words for people: what msgspec says of a wrong value, what a task's error says."""

from __future__ import annotations

import ast
import re
from typing import Any, Final

import msgspec
from msgspec import Meta

_PATTERN: Final = re.compile(r"[Ee]xpected `str` matching regex '(.*)'$")
_WORDS: Final[dict[str, str]] = {}  # by pattern


def spelled(pattern: str, words: str, min_length: int | None = None, max_length: int | None = None) -> Meta:
    """The Meta of a text that must match `pattern`; `words` say how it may look, after "expected"."""
    _WORDS[pattern] = words
    return Meta(pattern=pattern, min_length=min_length, max_length=max_length)


def in_words(complaint: str) -> str:
    """A complaint as the end of a sentence: what was expected."""
    found = _PATTERN.search(complaint)
    if found is None:
        return complaint[:1].lower() + complaint[1:]
    pattern = ast.literal_eval(f"'{found[1]}'")  # it was told as a Python literal
    return f"expected {_WORDS[pattern]}"


def error_in_words(error: Any) -> str:
    """Its message; a worker in another language may have sent anything."""
    if isinstance(error, dict) and "message" in error:
        return str(error["message"])
    return msgspec.json.encode(error).decode() if error else ""
