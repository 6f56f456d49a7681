"""A worker may open as many files as its slots and threads need, where the system lets it."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from worker.descriptors import make_room
from worker.strand import ChildEnds, Strand

SLOTS, THREADS = 8, 50  # 1,640 descriptors at the worker's end


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_there_is_room_for_all_strands(few_files: None) -> None:
    make_room(SLOTS, THREADS)

    kept = []
    for _ in range(SLOTS):
        child = [ChildEnds() for _ in range(1 + THREADS)]
        kept += [Strand(ends, is_main=False) for ends in child]
        for ends in child:
            ends.close()

    assert len(kept) == SLOTS * (1 + THREADS)
    for strand in kept:
        strand.close()


def test_a_limit_that_is_high_enough_stays(few_files: None) -> None:
    make_room(slots=1, threads=1)

    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
