"""What a task gives away, as JSON: its result, the states of its checkpoints, the chunks of its output.

What JSON cannot hold is refused here, with its place, while the task that made it can still be named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from shared.protocol import BODY_BYTES_MAX

# A NaN or an infinity in MessagePack, which has both; JSON's encoder makes null of them without a word. Other
# bytes may look like one, too, so this only says that a search is due.
_no_number: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search
_STRANGER: Final = float("nan")  # stands for a value of a type that JSON does not know, while we look for it

_ADVICE: Final = {  # where else so much may go
    "the result": "put it out in chunks, with ctx.checkpoint(state, output=chunk)",
    "an output chunk": "put it out in several",
    "the checkpoint's state": "put out what is done with ctx.checkpoint(state, output=chunk)",
}


class NotSendable(Exception):
    """A task's result, state or output cannot be sent; it would be the same at another attempt."""


class TooLarge(NotSendable):
    """It is larger than a body may be; the message has the figures."""


def encode_body(value: Any, what: str) -> Raw:
    """`value` as JSON; raises NotSendable, which begins with `what` and names the place in it.

    `what` is one of those in _ADVICE; it ends in the word that such a place begins with: the checkpoint's state,
    then state.rows[3].
    """
    try:
        body = _encode(value)
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge(f"{what} has {len(body)} bytes, {BODY_BYTES_MAX} are allowed; {_ADVICE[what]}")
        # None needs no look; and find takes half the time of `in`, which counts where a task lasts microseconds.
        if value is None or body.find(b"null") < 0 or not _is_suspect(value):
            return Raw(body)
        problem = _problem(value, what)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        problem = _problem(value, what) or str(error)
    if problem is None:  # what looked like such a number was none
        return Raw(body)
    raise NotSendable(f"{what} cannot be sent as JSON: {problem}")


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays become plain ones; anything else is the task's mistake."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a key or a value in it is of type {type(value).__name__}")


_encode: Final = msgspec.json.Encoder(enc_hook=_plain).encode
_encode_numbers: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def _is_suspect(value: Any) -> bool:
    """Whether there may be a NaN or an infinity in a value, found out about as fast as it is encoded."""
    try:
        return _no_number(_encode_numbers(value)) is not None
    except OverflowError:  # JSON's whole numbers may be longer
        return True


def _problem(value: Any, what: str) -> str | None:
    """What in `value` comes first of what JSON cannot hold, and the way out; None if that is not found."""
    strangers: list[str] = []

    def note(inner: Any) -> Any:
        if hasattr(inner, "tolist"):
            return inner.tolist()
        strangers.append(type(inner).__name__)
        return _STRANGER

    try:
        plain = msgspec.to_builtins(value, enc_hook=note)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    for place, number in _numbers(plain, what.rpartition(" ")[2]):
        if number is _STRANGER and strangers:
            return f"{place} is of type {strangers[0]}; make numbers, strings, lists and dicts of it"
        if not math.isfinite(number):
            return f"{place} is {number}; put None or a string there"
    return None


def _numbers(plain: Any, place: str) -> Iterator[tuple[str, float]]:
    """Every float in nested lists and dicts, in their order, and where it stands."""
    waiting = [(place, plain)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float):
            yield place, value
        elif isinstance(value, dict):
            waiting += [(place + _member(key), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list | tuple):
            waiting += [(f"{place}[{at}]", value[at]) for at in reversed(range(len(value)))]


def _member(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
