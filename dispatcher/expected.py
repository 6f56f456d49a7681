"""What could have stood in a message where something else did: the fields of an object, or the words.

msgspec names what it found there; somebody who typed a request wants to know what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from msgspec import inspect

from shared.wording import near_miss

_STEP: Final = re.compile(r"\w+|\[.*?\]")
_NO_FIELD: Final = "Object contains unknown field "
_NO_WORD: Final = "Invalid enum value "


def instead(complaint: str, kind: Any, path: str) -> str | None:
    """The end of a sentence about a complaint of msgspec's, at `path` in a message; None: about another one."""
    places = _places(_known(kind), _STEP.findall(path))
    if complaint.startswith(_NO_FIELD):
        fields = [field.encode_name for place in places for field in getattr(place, "fields", ())]
        return "there is no such field" + _way_out(complaint.removeprefix(_NO_FIELD).strip("`"), fields)
    if complaint.startswith(_NO_WORD):
        words = [word for place in places for word in _words(place)]
        return f"{complaint.removeprefix(_NO_WORD)} is none of {', '.join(words)}"
    return None


def _way_out(name: str, fields: list[str]) -> str:
    near = near_miss(name, frozenset(fields))
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; there are: {', '.join(fields)}" if fields else "; none is taken here"


_known = cache(inspect.type_info)


def _places(kind: inspect.Type, steps: list[str]) -> Iterator[inspect.Type]:
    """The kinds that may stand at the end of these steps."""
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _places(one, steps)
    elif isinstance(kind, inspect.Metadata):
        yield from _places(kind.type, steps)
    elif not steps:
        yield kind
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            if field.encode_name == steps[0]:
                yield from _places(field.type, steps[1:])
    elif isinstance(kind, inspect.ListType):
        yield from _places(kind.item_type, steps[1:])
    elif isinstance(kind, inspect.DictType):
        yield from _places(kind.value_type, steps[1:])


def _words(kind: inspect.Type) -> list[str]:
    if isinstance(kind, inspect.EnumType):
        return [str(member.value) for member in kind.cls]
    return [str(value) for value in kind.values] if isinstance(kind, inspect.LiteralType) else []
