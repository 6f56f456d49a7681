"""The error tree: codes, statuses, and the way over the wire and back."""

from __future__ import annotations

from typing import Any

import pytest

from shared import errors, exits
from shared.errors import BY_CODE, BatonError


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
def test_an_error_comes_back_as_the_same_class(kind: type[BatonError]) -> None:
    sent = kind("what, where, what to do", field="x")

    received = errors.from_body(kind.http_status, sent.body())

    assert (type(received), received.message, received.details) == (kind, sent.message, {"field": "x"})


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
def test_the_docstring_is_the_default_message(kind: type[BatonError]) -> None:
    assert kind().message == kind.__doc__


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
def test_the_status_fits_the_family(kind: type[BatonError]) -> None:
    family = errors.Refused if 400 <= kind.http_status < 500 else errors.Unavailable
    theirs = issubclass(kind, family) or kind.http_status == 500

    assert theirs


def test_the_tree_in_the_docstring_names_every_class() -> None:
    text = errors.__doc__ or ""

    assert [kind.__name__ for kind in BY_CODE.values() if kind.__name__ not in text] == []


@pytest.mark.parametrize("body", [None, [], "text", {}, {"error": "text"}, {"error": None}])
def test_an_answer_of_another_shape_is_an_error_all_the_same(body: Any) -> None:
    assert type(errors.from_body(404, body)) is errors.Refused
    assert type(errors.from_body(502, body)) is errors.Unavailable


@pytest.mark.parametrize("code", ["from the future", None, 7])
def test_a_code_that_is_not_known_is_an_error_all_the_same(code: Any) -> None:
    error = errors.from_body(409, {"error": {"code": code, "message": "m", "details": None}})

    assert (type(error), error.message) == (BatonError, "m")


@pytest.mark.parametrize("details", [{"message": "m"}, {"self": 1}, "text", ["a"]])
def test_strange_details_are_no_trap(details: Any) -> None:
    assert isinstance(errors.from_body(409, {"error": {"code": "conflict", "details": details}}), BatonError)


@pytest.mark.parametrize("kind", [errors.Conflict, errors.NotFound, errors.Unreachable])
def test_a_terminal_obeys_nothing_that_is_told_in_an_error(kind: type[BatonError]) -> None:
    assert "\x1b" not in exits.line_of(kind("worker \x1b[2J is alive"))
