"""A child that cannot be started, since its worker has run out of something, leaves nothing open."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from worker import output, strand
from worker.child_process import ChildProcess

THREADS = 1  # so there are two strands
FDS = "/dev/fd"


class Shortage:
    """Lets a call succeed so many times, then no more."""

    def __init__(self, call: Callable[..., Any], allowed: int) -> None:
        self.call = call
        self.left = allowed

    def __call__(self, *values: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.call(*values, **options)


@pytest.mark.parametrize(
    ("where", "name", "allowed"),
    [
        *((os, "pipe", n) for n in range(6)),
        *((os, "memfd_create", n) for n in range(2)),
        *((strand, "Board", n) for n in range(2)),
        *((output, "open", n) for n in range(2)),
        (subprocess, "Popen", 0),
        (os, "pidfd_open", 0),
    ],
)
def test_a_start_that_fails_midway_leaves_no_file_open(
    where: Any, name: str, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(os.listdir(FDS))
    call = getattr(where, name, open)
    monkeypatch.setattr(where, name, Shortage(call, allowed), raising=False)

    with pytest.raises(OSError, match="Too many open files"):
        ChildProcess("{}", THREADS)
    monkeypatch.undo()

    assert sorted(os.listdir(FDS)) == before


def test_what_a_child_shares_with_its_worker_needs_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", Shortage(tempfile.TemporaryFile, allowed=0))

    ends = strand.ChildEnds()

    assert os.fstat(ends.memory.fileno()).st_nlink == 0
    ends.close()
    ends.abandon()
