"""The universal scalability law: how throughput grows with workers, and where it stops growing.

X(n) = rate * n / (1 + contention * (n - 1) + coherency * n * (n - 1))

Contention is what must queue (Amdahl's serial share), coherency what workers cost each other pairwise.
Source: N. J. Gunther, "Guerrilla Capacity Planning", Springer 2007, chapters 4 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct

# It has three terms. Fewer different numbers of workers would leave some of them to chance; three are met
# exactly or nearly so, whatever they are, and only more can show whether the law holds.
COUNTS_MIN: Final = 3
# No time here is measured better than this; a fit that is closer is taken for exact.
_RESOLUTION: Final = 0.005


class Law(Struct):
    """A fitted law. `rate`: throughput of one worker; `error`: typical relative distance of the points."""

    rate: float
    contention: float
    coherency: float
    error: float

    def throughput(self, workers: float) -> float:
        """What the law expects from so many workers."""
        others = workers - 1
        return self.rate * workers / (1 + self.contention * others + self.coherency * workers * others)

    @property
    def best_workers(self) -> float | None:
        """The number of workers with the highest throughput; None: more never make it slower."""
        if self.coherency <= 0:
            return None
        return max(1.0, float(np.sqrt(max(0.0, 1 - self.contention) / self.coherency)))

    @property
    def limit(self) -> float | None:
        """Throughput that no number of workers exceeds; None: there is no such limit."""
        if (best := self.best_workers) is not None:
            return self.throughput(best)
        return self.rate / self.contention if self.contention > 0 else None


def fit(workers: Sequence[float], throughput: Sequence[float]) -> Law:
    """Fit the law by least squares of relative errors. Raises ValueError below COUNTS_MIN different `workers`.

    n / X(n) is linear in 1 / rate, contention / rate and coherency / rate. A term is kept only if it
    earns its place by the Bayesian information criterion (Schwarz 1978), and only with the sign that the
    law allows; so straight data give no invented optimum.
    """
    n, x = np.asarray(workers, dtype=float), np.asarray(throughput, dtype=float)
    if len(n) != len(x) or (n < 1).any() or (x <= 0).any():
        raise ValueError("expected workers (1 or more) and as many throughputs above 0")
    if len(np.unique(n)) < COUNTS_MIN:
        raise ValueError(f"the law takes {COUNTS_MIN} different numbers of workers")
    terms = np.stack([np.ones_like(n), n - 1, n * (n - 1)])
    weighted = terms * (x / n)  # each row times 1 / (n / x): all points' relative errors count the same
    best: tuple[float, Law] | None = None
    for kept in ([0], [0, 1], [0, 2], [0, 1, 2]):
        law, score = _fit_terms(weighted, kept)
        if law is not None and (best is None or score < best[0]):
            best = score, law
    assert best is not None  # the first, one rate for all, always fits
    return best[1]


def _fit_terms(weighted: np.ndarray, kept: list[int]) -> tuple[Law | None, float]:
    """The law with only these terms and its score (less is better); None if a term has the wrong sign."""
    found, *_ = np.linalg.lstsq(weighted[kept].T, np.ones(weighted.shape[1]), rcond=None)
    if (found <= 0).any():
        return None, 0.0
    count = weighted.shape[1]
    error = float(np.sqrt(np.mean((1 - weighted[kept].T @ found) ** 2)))
    score = count * np.log(max(error, _RESOLUTION) ** 2) + len(kept) * np.log(count + 1)
    values = np.zeros(3)
    values[kept] = found
    rate, contention, coherency = (1 / values[0], values[1] / values[0], values[2] / values[0])
    return Law(float(rate), float(contention), float(coherency), error), float(score)
