"""What a task gives away: what passes as JSON, and how the rest is named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from shared.protocol import BODY_BYTES_MAX
from tasks.body import NotSendable, TooLarge, encode_body


@dataclass
class Estimate:
    """As a task may return one."""

    mean: float


class Foreign:
    """Of a type that JSON does not know."""


def looped() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"count": np.int64(3), "primes": np.array([2, 3])}, {"count": 3, "primes": [2, 3]}),
        ({"position": 3, "state": None}, {"position": 3, "state": None}),
        ([None, "null", 10**40], [None, "null", 10**40]),
        ([None, {math.nan: 1}], [None, {"nan": 1}]),
        (Estimate(0.5), {"mean": 0.5}),
    ],
)
def test_what_json_can_hold_passes(value: Any, expected: Any) -> None:
    assert msgspec.json.decode(encode_body(value, "the result")) == expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "result is nan; put None or a string there"),
        (np.float64(math.nan), "result is nan"),
        ({"rows": [{"mean": 1.0}, {"mean": -math.inf}]}, "result.rows[1].mean is -inf"),
        (np.array([[1.0, math.nan]]), "result[0][1] is nan"),
        ([10**40, math.inf], "result[1] is inf"),
        (Estimate(math.nan), "result.mean is nan"),
        ({"a b": {3: math.nan}}, "result['a b'][3] is nan"),
    ],
)
def test_a_number_that_json_does_not_have_is_named_with_its_place(value: Any, problem: str) -> None:
    with pytest.raises(NotSendable) as raised:
        encode_body(value, "the result")

    assert str(raised.value).startswith(f"the result cannot be sent as JSON: {problem}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Foreign(), "result is of type Foreign; make numbers, strings, lists and dicts of it"),
        ({"a": [0, Foreign()]}, "result.a[1] is of type Foreign"),
        ([math.nan, Foreign()], "result[0] is nan"),
        ([Foreign(), math.nan], "result[0] is of type Foreign"),
        ({(1, 2): 3}, "a key or a value in it is of type tuple"),
        ("\ud800", "'utf-8' codec can't encode"),
        (looped(), "maximum recursion depth"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_type_and_place(value: Any, problem: str) -> None:
    with pytest.raises(NotSendable) as raised:
        encode_body(value, "the result")

    assert str(raised.value).startswith(f"the result cannot be sent as JSON: {problem}")


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        ("the result", "put it out in chunks, with ctx.checkpoint(state, output=chunk)"),
        ("the checkpoint's state", "put out what is done with ctx.checkpoint(state, output=chunk)"),
        ("an output chunk", "put it out in several"),
    ],
)
def test_what_is_over_the_limit_is_told_with_its_size_and_the_way_out(what: str, advice: str) -> None:
    with pytest.raises(TooLarge) as caught:
        encode_body("x" * BODY_BYTES_MAX, what)

    assert str(caught.value) == f"{what} has {BODY_BYTES_MAX + 2} bytes, {BODY_BYTES_MAX} are allowed; {advice}"
