"""From a payload to a function's keyword arguments: one decode, checked against the signature.

The annotations say what is allowed (msgspec's rules, with Annotated[..., Meta(ge=0)] for ranges).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
from msgspec import Raw

_OF_PAYLOADS = (bool, int, float, str, list, dict)  # no context is one of these
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class BadPayload(Exception):
    """The payload does not fit the task's arguments."""


class Arguments:
    """The arguments that `function` takes after its context."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if _runs_later(function):
            raise TypeError(
                f"{function.__name__} is async or yields, so that a call of it does nothing yet; "
                "put asyncio.run or list around it in a plain function"
            )
        context, *parameters = inspect.signature(function).parameters.values() or (None,)
        hints = get_type_hints(function, include_extras=True)
        if (
            context is None
            or context.kind is inspect.Parameter.KEYWORD_ONLY
            or hints.get(context.name) in _OF_PAYLOADS
        ):
            raise TypeError(f"{function.__name__} must take the context as its first parameter")
        self._extra = bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
        named = parameters[:-1] if self._extra else parameters
        if unnamed := [p.name for p in named if p.kind not in _NAMED]:
            raise TypeError(f"parameter {unnamed[0]!r} of {function.__name__} cannot be given by name")
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
        self._shape = f"({', '.join(map(str, bare))})"
        fields = [_field(p, hints.get(p.name, Any)) for p in named]
        kind = msgspec.defstruct("Payload", fields, forbid_unknown_fields=not self._extra, kw_only=True)
        self._decoder = msgspec.json.Decoder(kind)
        self._empty = not fields and not self._extra

    def decode(self, payload: Raw) -> dict[str, Any]:
        """The payload as keyword arguments; raises BadPayload naming the argument that does not fit."""
        if self._empty and bytes(payload) == b"{}":
            return {}
        try:
            given = msgspec.structs.asdict(self._decoder.decode(payload))
            return msgspec.json.decode(payload) | given if self._extra else given
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadPayload(f"{_by_argument(str(error))}; the task takes {self._shape}") from None


def _runs_later(function: Callable[..., Any]) -> bool:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_of_kind(function) for is_of_kind in kinds)


def _field(parameter: inspect.Parameter, kind: Any) -> Any:
    name, default = parameter.name, parameter.default
    if default is inspect.Parameter.empty:
        return (name, kind)
    if isinstance(default, list | dict | set):  # one for each call
        return (name, kind, msgspec.field(default_factory=lambda: default.copy()))
    return (name, kind, msgspec.field(default=default))


def _by_argument(problem: str) -> str:
    """msgspec's message in a task author's words."""
    for theirs, ours in (
        ("Object missing required field ", "the payload lacks the argument "),
        ("Object contains unknown field ", "the payload has an unknown argument "),
    ):
        if problem.startswith(theirs):
            return ours + problem.removeprefix(theirs)
    if " - at `$." in problem:
        what, _, where = problem.partition(" - at `$.")
        return f"argument `{where}: {what[:1].lower()}{what[1:]}"
    return f"the payload cannot be used: {problem}"
