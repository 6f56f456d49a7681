"""Pauses between tries."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import DEFAULT, RECONNECT, Backoff

POLICIES = st.builds(
    Backoff,
    kind=st.sampled_from(["exponential", "linear", "fixed"]),
    base_seconds=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    cap_seconds=st.floats(0, 1e8),
    jitter=st.booleans(),
)


@given(policy=POLICIES, tries=st.integers(1, 10**9))
def test_a_pause_is_never_negative_and_never_above_the_cap(policy: Backoff, tries: int) -> None:
    assert 0 <= policy.delay_seconds(tries) <= policy.cap_seconds


@pytest.mark.parametrize(
    ("kind", "expected"), [("fixed", [3, 3, 3, 3]), ("linear", [3, 6, 9, 10]), ("exponential", [3, 6, 10, 10])]
)
def test_without_jitter_the_pauses_are_exact(kind: str, expected: list[float]) -> None:
    policy = Backoff(kind=kind, base_seconds=3, cap_seconds=10, jitter=False)  # type: ignore[arg-type]

    assert [policy.delay_seconds(tries) for tries in (1, 2, 3, 4)] == expected


def test_jitter_spreads_over_the_whole_pause() -> None:
    pauses = [Backoff(kind="fixed", base_seconds=10.0).delay_seconds(1) for _ in range(1000)]

    assert min(pauses) < 1 < 9 < max(pauses)


def test_the_defaults_are_those_of_the_protocol() -> None:
    assert Backoff("exponential", 1.0, 2.0, 300.0, True) == DEFAULT
    assert msgspec.json.encode(DEFAULT) == b"{}"
    assert RECONNECT.cap_seconds / 2 <= 2.0
