"""The scalability law: known curves are found again, and nothing is invented where nothing is."""

from __future__ import annotations

import random

import pytest

from analysis.usl import Law, fit

KNOWN = Law(rate=100.0, contention=0.05, coherency=0.002, error=0.0)


@pytest.mark.parametrize("workers", [[1, 2, 4, 8], [1, 2, 3, 4, 6, 8, 12, 16, 24, 32], [2, 8, 16]])
def test_a_known_curve_is_recovered(workers: list[int]) -> None:
    law = fit(workers, [KNOWN.throughput(n) for n in workers])

    assert law.rate == pytest.approx(100.0, rel=0.01)
    assert law.contention == pytest.approx(0.05, rel=0.02)
    assert law.coherency == pytest.approx(0.002, rel=0.02)
    assert law.best_workers == pytest.approx(21.8, abs=0.3)  # sqrt((1 - 0.05) / 0.002)


def test_a_known_curve_is_found_through_noise() -> None:
    noise = random.Random(7)
    workers = [1, 2, 4, 8, 16, 32] * 3

    law = fit(workers, [KNOWN.throughput(n) * noise.uniform(0.97, 1.03) for n in workers])

    assert law.best_workers == pytest.approx(21.8, rel=0.25)


def test_straight_data_gives_no_optimum() -> None:
    law = fit([1, 2, 4, 8], [10.0, 20.0, 40.0, 80.0])

    assert (law.contention, law.coherency) == (0.0, 0.0)
    assert law.best_workers is None
    assert law.limit is None


@pytest.mark.parametrize("seed", range(10))
def test_straight_but_noisy_data_gives_no_optimum_in_reach(seed: int) -> None:
    noise = random.Random(seed)
    workers = [1, 2, 4, 8] * 3

    law = fit(workers, [10 * n * noise.uniform(0.97, 1.03) for n in workers])

    assert law.best_workers is None or law.best_workers > 16


def test_more_than_linear_data_gives_no_negative_terms() -> None:
    law = fit([1, 2, 4], [10.0, 22.0, 48.0])

    assert law.contention >= 0
    assert law.coherency >= 0


def test_without_coherency_contention_alone_is_the_limit() -> None:
    law = fit([1, 2, 4, 8], [10 * n / (1 + 0.1 * (n - 1)) for n in (1, 2, 4, 8)])

    assert law.coherency == 0
    assert law.best_workers is None
    assert law.limit == pytest.approx(10 / 0.1)


@pytest.mark.parametrize("workers", [[4, 4, 4], [1, 8], [1, 2, 1, 2, 1, 2]])
def test_below_three_different_numbers_of_workers_no_law_is_fitted(workers: list[int]) -> None:
    with pytest.raises(ValueError, match="3 different numbers of workers"):
        fit(workers, [10.0 * n for n in workers])


@pytest.mark.parametrize(
    ("workers", "throughput"), [([], []), ([1, 2, 4], [0.0] * 3), ([0, 1, 2], [1.0] * 3), ([1, 2, 4], [1.0])]
)
def test_what_cannot_be_fitted_is_refused(workers: list[int], throughput: list[float]) -> None:
    with pytest.raises(ValueError, match="workers"):
        fit(workers, throughput)
