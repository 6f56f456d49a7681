"""The bell that wakes the executor."""

from __future__ import annotations

import os

from worker.bell import Bell


def test_a_ring_after_the_end_writes_into_nobody_elses_file() -> None:
    bell = Bell()
    bell.close()
    reads, writes = os.pipe()  # with the numbers that the bell had
    os.set_blocking(reads, False)

    bell.ring()
    os.close(writes)

    assert os.read(reads, 1) == b""
    os.close(reads)
