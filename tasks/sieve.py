"""Counts and lists primes, segment after segment: the pure algorithm behind the 'prime' task.

A segmented sieve of Eratosthenes (Bays and Hudson, "The segmented sieve of Eratosthenes and primes in
arithmetic progressions to 10^12", BIT 17, 1977) over the wheel of 30, as in Kim Walisch's primesieve. The
numbers 30 * i + r with the same residue r form one row of booleans indexed by i, in which the multiples of
any prime p > 5 are exactly p places apart: crossing them off is one strided assignment in numpy.
A segment depends on nothing but its start, so a run may be resumed anywhere.
"""

from collections.abc import Iterator
from math import isqrt, prod

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

WHEEL = 30
RESIDUES = (1, 7, 11, 13, 17, 19, 23, 29)  # all that primes above 5 can leave modulo 30

# Crossed off by copying a repeating pattern, which is as cheap for five primes as for one. With 23 too, the
# pattern (7 MB) would no longer come from the cache.
PATTERN_PRIMES = (7, 11, 13, 17, 19)
PATTERN_PERIOD = prod(PATTERN_PRIMES)

# Places per row, hence 31 million numbers and about 10 ms per segment. A row of 1 MiB is as large as the L2
# cache and longer than any prime needed up to 10**12. Half of it means twice the calls to numpy per number
# (5 to 15 % slower), twice of it gains less than 10 % and takes twice the memory, in primes() above all.
ROW_LENGTH = 1 << 20

# A strided assignment costs 0.1 us per prime plus 0.4 ns per multiple; an indexed one, which serves all
# primes at once, 1.2 ns per multiple. So it wins where a prime has fewer multiples in a row than this.
FEW_MULTIPLES = 128

# Primes below 2**64 are at most 1550 apart, so the largest one is among the last 64 * 30 numbers.
TAIL_BLOCKS = 64

CROSSED = np.zeros((), np.bool_)  # as an array: the constant False takes 0.156 us per assignment, this 0.1 us


def small_primes(limit: int) -> Integers:
    """Return the primes up to and including `limit` by the plain sieve, one byte of memory per number."""
    standing = np.ones(limit + 1, np.bool_)
    standing[:2] = False
    for p in range(2, isqrt(limit) + 1):
        if standing[p]:
            standing[p * p :: p] = False
    primes: Integers = np.flatnonzero(standing)
    return primes


def first_multiples(divisors: Integers) -> Integers:
    """Return where the first multiple of each divisor stands in each row; shape (8, divisors).

    A divisor d coprime to 30 has d**4 = 1 modulo 30, so d**3 inverts it and d * (r * d**3 % 30) leaves r.
    """
    residues = np.array(RESIDUES)[:, None]
    cofactors = residues * (divisors % WHEEL) ** 3 % WHEEL
    places: Integers = (divisors * cofactors - residues) // WHEEL
    return places


class Sieve:
    """Sieves the numbers up to `limit` one segment at a time, in memory proportional to its square root.

    Block i is the numbers 30 * i to 30 * i + 29; a segment is up to ROW_LENGTH consecutive blocks.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._length = min(ROW_LENGTH, limit // WHEEL + 1)
        # The pattern crosses off its primes whether or not they are below the root, so list them anyway.
        self._small = small_primes(max(isqrt(limit), *PATTERN_PRIMES))
        self._unpatterned = int(np.searchsorted(self._small, PATTERN_PRIMES[-1], "right"))
        self._primes = self._small[self._unpatterned :]  # those to cross off one by one
        self._first = first_multiples(self._primes)
        self._strided = int(np.searchsorted(self._primes, -(-self._length // FEW_MULTIPLES)))
        self._steps = self._primes[: self._strided].tolist()

        period = np.ones(PATTERN_PERIOD, np.bool_)
        for p in PATTERN_PRIMES:
            period[::p] = False
        self._pattern = np.resize(period, PATTERN_PERIOD + self._length)  # a row from any phase is one slice
        self._pattern_first = first_multiples(np.array([PATTERN_PERIOD]))[:, 0].tolist()

        # Indexed assignment may overshoot the end of a row by less than one prime.
        self._rows = np.empty((len(RESIDUES), self._length + int(self._small[-1])), np.bool_)
        self._block = self._width = 0  # first block and number of blocks of the segment in the rows
        self._known = self._small[:0]  # the primes of the segment that were used for crossing off

    def segment(self, low: int) -> tuple[int, int, int | None]:
        """Sieve the numbers after `low` and return (high, count, largest).

        `high` <= limit is the last number sieved, `count` the number of primes in (low, high] and `largest`
        the last of them, if any. From the limit on, the segment is empty.
        """
        low = min(max(low, 1), self.limit)  # 1 is no prime, yet nothing crosses it off
        self._block = (low + 1) // WHEEL
        high = min(self.limit, (self._block + self._length) * WHEEL - 1)
        self._width = high // WHEEL + 1 - self._block

        used = int(np.searchsorted(self._primes, isqrt(high), "right"))
        # Every multiple is crossed off, the prime itself included: those of the segment are added back.
        small = self._small[: self._unpatterned + used]
        start, stop = np.searchsorted(small, (low, high), "right")
        self._known = small[start:stop]

        count = len(self._known)
        phases = self._block % self._primes[:used]
        rounds = self._rounds(used)
        for row, residue in enumerate(RESIDUES):
            self._cross_off(row, phases, rounds)
            # Only the places of the numbers in (low, high] count, from `begin` to before `end`.
            begin = (low - residue) // WHEEL + 1 - self._block
            end = (high - residue) // WHEEL + 1 - self._block
            self._rows[row, :begin] = False
            self._rows[row, end : self._width] = False
            count += int(np.count_nonzero(self._rows[row, begin:end]))
        tail = self._standing(max(0, self._width - TAIL_BLOCKS))
        return high, count, int(tail[-1]) if len(tail) else None

    def primes(self) -> Integers:
        """Return the primes of the segment sieved last, ascending; shape (count,)."""
        return self._standing(0)

    def _rounds(self, used: int) -> list[int]:
        """Return how many large primes, among the first `used`, can have a 1st, 2nd... multiple in a row.

        Large ones are those crossed off by index: round j takes the j-th multiple of each. The primes being
        in ascending order, those with a multiple left are always the leading ones.
        """
        large = self._primes[self._strided : used]
        reach = (self._width - 1) // np.arange(1, FEW_MULTIPLES)  # the largest p that can take 1, 2... steps
        active = [len(large), *np.searchsorted(large, reach, "right").tolist()]
        return [count for count in active if count]

    def _cross_off(self, row: int, phases: Integers, rounds: list[int]) -> None:
        """Set one row to the numbers of the segment that no patterned prime and no prime used divides.

        `phases` holds the first block of the segment modulo each prime used; `rounds` is from _rounds.
        """
        places = self._rows[row]
        standing = places[: self._width]
        phase = (self._block - self._pattern_first[row]) % PATTERN_PERIOD
        standing[:] = self._pattern[phase : phase + self._width]

        used = len(phases)
        position = self._first[row, :used] - phases  # (first - block) modulo p, sparing the slow division
        position += self._primes[:used] * (position < 0)
        for place, p in zip(position[: self._strided].tolist(), self._steps, strict=False):
            standing[place::p] = CROSSED

        position, large = position[self._strided :], self._primes[self._strided :]
        for active in rounds:
            position = position[:active]
            places[position] = CROSSED
            position += large[:active]

    def _standing(self, skipped: int) -> Integers:
        """Return the primes of the segment, ascending; the first `skipped` blocks may be left out."""
        runs = [self._known]
        for row, residue in zip(self._rows, RESIDUES, strict=True):
            places = np.flatnonzero(row[skipped : self._width])
            places += self._block + skipped
            places *= WHEEL
            places += residue
            runs.append(places)
        primes = np.concatenate(runs)
        primes.sort()
        return primes


def count_primes(limit: int) -> int:
    """Return the number of primes up to and including `limit`."""
    sieve = Sieve(limit)
    low = total = 0
    while low < limit:
        low, count, _ = sieve.segment(low)
        total += count
    return total


def trial_division(low: int, high: int) -> Iterator[int]:
    """Yield the primes in (low, high] by the oldest method: try all divisors up to the square root.

    Beyond 2 and 3 only divisors of the form 6 * k - 1 and 6 * k + 1 are tried, the others being multiples.
    """
    for number in range(max(low + 1, 2), high + 1):
        if number < 4:
            yield number
        elif number % 2 and number % 3:
            root = isqrt(number)
            if all(number % d and number % (d + 2) for d in range(5, root + 1, 6)):
                yield number
