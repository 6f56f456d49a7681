"""The tasks that come with it: right answers, the same ones whatever the interruptions."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from tasks import REGISTRY, discover
from tasks.board import StopReason
from tasks.compute_task import hash_chain, monte_carlo_pi, noop, sleep
from tasks.context import Interrupted, TaskContext
from tasks.prime_task import find_primes
from tests.support.trial import Trial, run_with_stops

PRIMES_BELOW_50 = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]
ALGORITHMS = ["sieve", "trial_division"]


def test_the_tasks_that_come_with_it_are_found() -> None:
    assert {"prime", "noop", "sleep", "monte_carlo_pi", "hash_chain"} <= discover().keys()


def test_noop_returns_nothing() -> None:
    assert noop(TaskContext()) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("limit", "count", "largest"),
    [(0, 0, None), (1, 0, None), (2, 1, 2), (3, 2, 3), (30, 10, 29), (1_000_003, 78_499, 1_000_003)],
)
def test_primes_are_counted_up_to_and_including_the_limit(
    algorithm: Any, limit: int, count: int, largest: int | None
) -> None:
    result = find_primes(TaskContext(), limit, algorithm)

    assert result["elapsed_seconds"] >= 0
    del result["elapsed_seconds"]
    assert result == {"limit": limit, "algorithm": algorithm, "count": count, "largest": largest}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("last_checked", range(50))
def test_a_prime_run_may_go_on_after_any_number(algorithm: Any, last_checked: int) -> None:
    known = [prime for prime in PRIMES_BELOW_50 if prime <= last_checked]
    trial = Trial(
        {
            "last_checked": last_checked,
            "primes_found": len(known),
            "largest": known[-1] if known else None,
            "elapsed_seconds": 5.0,
        }
    )

    result = find_primes(trial, 49, algorithm, "list")

    assert (result["count"], result["largest"]) == (15, 47)
    assert result["elapsed_seconds"] >= 5.0
    assert known + [prime for chunk in trial.output() for prime in chunk] == PRIMES_BELOW_50


def test_a_list_of_primes_is_whole_whatever_the_interruptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.prime_task._CHUNK_NUMBERS", 1000)

    result, output, attempts = run_with_stops(find_primes, 7, limit=1_000_003, output="list")

    primes = [prime for chunk in output for prime in chunk]
    assert attempts > 5
    assert len(primes) == result["count"] == 78_499
    assert primes == sorted(set(primes))
    assert max(len(chunk) for chunk in output) <= 1000


def test_a_chunk_of_the_largest_primes_fits_into_a_body() -> None:
    from shared.protocol import BODY_BYTES_MAX
    from tasks.prime_task import _CHUNK_NUMBERS

    assert _CHUNK_NUMBERS * len("999999999989,") + 2 <= BODY_BYTES_MAX


def test_the_prime_checkpoint_says_how_far_it_is() -> None:
    trial = Trial()

    find_primes(trial, 1000)

    state = trial.unsent() or trial.sent[-1]
    assert trial.sent[-1].progress == 1.0
    assert b'"last_checked":1000,"primes_found":168' in bytes(state.state)


def test_a_resumed_hash_chain_gives_the_same_digest() -> None:
    result, _, attempts = run_with_stops(hash_chain, 2, rounds=50_001, seed="naïve")

    assert attempts == 4
    assert result == {"rounds": 50_001, "digest": _digest(50_001, "naïve")}


@pytest.mark.parametrize("rounds", [0, 1, 10_000, 10_001])
def test_a_hash_chain_has_exactly_so_many_rounds(rounds: int) -> None:
    result = hash_chain(TaskContext(), rounds, "seed")

    assert result["digest"] == _digest(rounds, "seed")


def test_monte_carlo_gives_the_same_answer_whatever_the_interruptions() -> None:
    samples = 3 * (1 << 18) + 17

    whole = monte_carlo_pi(TaskContext(), samples, seed=42)
    result, _, attempts = run_with_stops(monte_carlo_pi, 1, samples=samples, seed=42)

    assert attempts > 3
    assert result == whole
    assert result == {"samples": samples, "inside": 618_150, "pi": 4 * 618_150 / samples}


def test_monte_carlo_depends_on_its_seed() -> None:
    answers = {monte_carlo_pi(TaskContext(), 1000, seed=seed)["inside"] for seed in (-1, 0, 1, 2**70)}

    assert len(answers) > 1


def test_no_samples_give_no_estimate() -> None:
    assert monte_carlo_pi(TaskContext(), 0) == {"samples": 0, "inside": 0, "pi": None}


def test_a_resumed_sleep_sleeps_the_rest() -> None:
    began = time.monotonic()

    result = sleep(Trial(state={"slept_seconds": 9.9}), 10.0)

    assert 0.1 <= time.monotonic() - began < 5
    assert result["slept_seconds"] >= 10.0


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (find_primes, {"limit": 10**12}),
        (find_primes, {"limit": 10**12, "output": "list"}),
        (find_primes, {"limit": 10**12, "algorithm": "trial_division"}),
        (hash_chain, {"rounds": 10**12}),
        (monte_carlo_pi, {"samples": 10**12}),
        (sleep, {"seconds": 10**6}),
    ],
)
def test_every_task_stops_when_asked_to(function: Any, arguments: dict[str, Any]) -> None:
    trial = Trial()
    trial.board.stop(1, StopReason.DRAIN)

    with pytest.raises(Interrupted):
        function(trial, **arguments)


def test_the_heaviest_stretch_of_trial_division_stays_short() -> None:
    near_the_end = {"last_checked": 10**12 - 100, "primes_found": 0, "largest": None, "elapsed_seconds": 0.0}
    trial = Trial(near_the_end, stop_after=1)
    began = time.process_time()

    with pytest.raises(Interrupted):
        find_primes(trial, 10**12, "trial_division")

    assert time.process_time() - began < 0.5  # 0.12 s on an idle machine


def test_every_argument_of_the_tasks_is_checked() -> None:
    from msgspec import Raw

    from tasks.arguments import BadPayload

    for name, payload in [
        ("prime", b'{"limit": 1000000000001}'),
        ("prime", b'{"limit": 1, "algorithm": "guess"}'),
        ("prime", b'{"limit": 1, "output": "song"}'),
        ("noop", b'{"surplus": 1}'),
        ("sleep", b'{"seconds": -1}'),
        ("hash_chain", b'{"rounds": "many"}'),
        ("monte_carlo_pi", b"{}"),
    ]:
        with pytest.raises(BadPayload):
            REGISTRY[name].arguments.decode(Raw(payload))


def _digest(rounds: int, seed: str) -> str:
    value = seed.encode()
    for _ in range(rounds):
        value = hashlib.sha256(value).digest()
    return value.hex()
