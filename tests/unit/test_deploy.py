"""deploy/: what systemd is told fits what the programs do."""

from __future__ import annotations

import os
import subprocess
from configparser import RawConfigParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from shared.settings import ROOT, Settings
from worker import worker

UNITS = ("baton-dispatcher.service", "baton-worker@.service")


def service(name: str) -> dict[str, str]:
    parser = RawConfigParser(delimiters="=", comment_prefixes="#", strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "deploy" / name)
    return dict(parser["Service"])


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_program_that_exists_as_a_user_of_its_own(name: str) -> None:
    told = service(name)

    program, flag, module, *_ = told["ExecStart"].split()
    assert program == f"{told['WorkingDirectory']}/.venv/bin/python" and flag == "-m"
    assert find_spec(f"{module}.__main__")
    assert told["User"] == "baton"


def test_systemd_gives_a_stopping_worker_more_time_than_it_takes() -> None:
    longest = (
        Settings().drain_seconds + 2 * worker._KILLED_SECONDS + worker._DELIVERY_SECONDS + worker._GOODBYE_SECONDS
    )
    assert float(service("baton-worker@.service")["TimeoutStopSec"]) > longest


def test_systemd_leaves_the_children_of_a_worker_to_it() -> None:
    told = service("baton-worker@.service")

    assert told["KillMode"] == "mixed"  # SIGTERM to the worker alone
    assert told["OOMPolicy"] == "continue"  # or one task out of memory would end its worker and all others


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_short_and_can_be_run(path: os.PathLike[str]) -> None:
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("name", ["cleanup.sh", "start_dispatcher.sh", "start_worker.sh"])
def test_a_script_may_be_started_through_a_link(tmp_path: Path, name: str) -> None:
    link = tmp_path / name
    link.symlink_to(ROOT / name)

    done = subprocess.run([link, "--help"], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"Usage: ./{name}")
