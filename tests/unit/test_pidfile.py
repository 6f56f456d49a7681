"""Records of running processes."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import pidfile


def test_a_record_is_there_while_the_process_runs(tmp_path: Path) -> None:
    with pidfile.recorded(tmp_path, "worker"):
        (record,) = (tmp_path / "run").iterdir()
        pid, started = record.read_text().split()

        assert record.name == f"worker-{os.getpid()}.pid"
        assert pidfile.alive(int(pid), started)

    assert list((tmp_path / "run").iterdir()) == []


def test_a_record_that_cannot_be_removed_is_no_error(tmp_path: Path) -> None:
    with pidfile.recorded(tmp_path, "worker"):
        (record,) = (tmp_path / "run").iterdir()
        record.unlink()
        record.mkdir()  # which no unlink removes

    assert record.exists()


@pytest.mark.parametrize("content", [b"\xff\xfe 12 x", "²3 1 n".encode(), b"", None])
def test_what_is_no_record_is_no_living_process(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run" / "worker-7.pid"
    path.parent.mkdir()
    path.mkdir() if content is None else path.write_bytes(content)

    assert [record for record in pidfile.records(tmp_path, "worker") if record.alive] == []


def test_free_names_are_those_of_no_living_worker(tmp_path: Path) -> None:
    gone = tmp_path / "run" / "worker-1.pid"
    with pidfile.recorded(tmp_path, "worker", "worker-2"):
        gone.write_text(f"{os.getpid()} 1 worker-1\n")  # a pid that another process has by now

        assert pidfile.free_names(tmp_path, 3) == ["worker-1", "worker-3", "worker-4"]

    assert pidfile.free_names(tmp_path / "new", 1) == ["worker-1"]


def test_a_namesake_is_another_living_process(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with pidfile.recorded(tmp_path, "worker", "lab"):
        alone = pidfile.namesake(tmp_path, "lab")
        record = tmp_path / "run" / f"worker-{other.pid}.pid"
        record.write_text(f"{other.pid} {pidfile.start_ticks(other.pid)} lab\n")
        found = pidfile.namesake(tmp_path, "lab")
        other.communicate(b"\n")
        after = pidfile.namesake(tmp_path, "lab")

    assert (alone, found and found.pid, after) == (None, other.pid, None)


def test_a_pid_given_to_another_process_since_is_not_ours() -> None:
    assert not pidfile.alive(os.getpid(), "1")


def test_a_process_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = pidfile.start_ticks(child.pid)
    child.wait()

    assert not pidfile.alive(child.pid, started)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    started = pidfile.start_ticks(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert not pidfile.alive(child.pid, started)
    child.communicate()


def test_no_process_has_pid_zero() -> None:
    assert not pidfile.alive(0, "")


def test_a_process_of_another_user_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    with pidfile.recorded(tmp_path, "worker"):
        those = pidfile.records(tmp_path, "worker")

        assert pidfile.stop(those, seconds=math.inf) == those


def test_a_folder_that_may_not_be_read_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, pattern: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "glob", refuse)

    with pytest.raises(pidfile.Unwritable, match=f"DATA_DIR={tmp_path} cannot be written"):
        pidfile.free_names(tmp_path, 1)
