"""docs/sweeps.md: its commands run in order, and say what it shows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from analysis.cluster import Cluster, cluster
from examples.fit_task import BLOCK, fit, walk
from shared.protocol import Checkpoint, Grant, GrantedCheckpoint
from shared.settings import ROOT
from tasks.context import TaskContext
from tests.support.invariants import check_invariants

TEXT = (ROOT / "docs" / "sweeps.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL))
RUNS = re.findall(
    r"^\$ (.*)\n((?:(?!\$ ).+\n)*)", "".join(BLOCKS), re.MULTILINE
)  # each command with what it shows
STARTS = re.findall(r"^\$ (\w+)=(\S+) ./start_worker.sh (\S+)$", TEXT, re.MULTILINE)
MAIL = '#!/bin/sh\necho "$2" >> {}\n'


@pytest.fixture
def mailbox(tmp_path: Path) -> Path:
    """What the program `mail` there was given as subjects."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mail").write_text(MAIL.format(tmp_path / "mails"))
    (programs / "mail").chmod(0o755)
    return tmp_path / "mails"


@pytest.fixture
def baton(tmp_path: Path, mailbox: Path) -> Iterator[Cluster]:
    """The dispatcher and the workers of the page, each with the settings that stand before its start."""
    path = f"{mailbox.parent / 'bin'}:{os.environ['PATH']}"
    with cluster(tmp_path / "baton", PATH=path) as running:
        for setting, value, name in STARTS:
            running.settings[setting] = value
            running.start_worker(name)
            del running.settings[setting]
        yield running
    check_invariants(running.database)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, with the files that the page shows."""
    made = tmp_path / "checkout"
    made.mkdir()
    for name in ("add_task.py", "baton", "examples", ".venv"):
        (made / name).symlink_to(ROOT / name)
    for name, text in FILES.items():
        (made / name).write_text(text)
    return made


def run(command: str, folder: Path, baton: Cluster) -> list[str]:
    """What it prints, to standard output and then to standard error."""
    settings = {"DISPATCHER_URL": baton.url, "PATH": baton.settings["PATH"], "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return (ran.stdout + ran.stderr).splitlines()


def lacking(shown: str, printed: list[str]) -> list[str]:
    """Lines of the page that were not printed, or not in this order; a … stands for anything."""
    rest = iter(printed)
    patterns = [(line, re.sub("…", ".*", re.escape(line.rstrip()))) for line in shown.splitlines()]
    return [line for line, pattern in patterns if not any(re.fullmatch(pattern, found.rstrip()) for found in rest)]


def test_every_command_says_what_the_page_shows(baton: Cluster, folder: Path, mailbox: Path) -> None:
    went_wrong = []
    for command, shown in (run for run in RUNS if "start_worker" not in run[0]):
        printed = run(command, folder, baton)
        if wrong := lacking(shown, printed):
            went_wrong.append((command, wrong, printed))

    assert went_wrong == []
    assert mailbox.read_text().splitlines() == ["decay has ended: exit code 0", "all fits have ended"]


def test_the_page_has_its_commands() -> None:
    assert "start_worker.sh" in RUNS[0][0]
    assert len(RUNS) == sum(block.count("\n$ ") + block.startswith("$ ") for block in BLOCKS) >= 20
    assert sorted(FILES) == ["decay.toml", "sweep.py"]


def test_the_page_shows_the_example_as_it_is() -> None:
    name, shown = re.findall(r"<!-- example: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL)[0]

    assert shown in (ROOT / name).read_text()


def test_a_fit_finds_the_rate_it_was_given() -> None:
    assert fit(TaskContext(), rate=0.5, noise=0.0) == {"rate": 0.5, "off": 0.0}


def walked(steps: int, after: Checkpoint | None = None) -> tuple[list[Checkpoint], list[list[int]]]:
    """What an attempt sends, and the chunks in it; it goes on after this checkpoint."""
    known = None if after is None else GrantedCheckpoint(after.seq, after.state, after.progress, 1.0, 0)
    sent: list[Checkpoint] = []
    ctx = TaskContext(
        Grant(1, 2, "lease", 100.0, "walk", checkpoint=known), send=sent.append, interval_seconds=0.0
    )
    walk(ctx, steps)
    return sent, chunks(sent)


def chunks(sent: list[Checkpoint]) -> list[list[int]]:
    return [msgspec.json.decode(chunk) for checkpoint in sent for chunk in checkpoint.output]


@pytest.mark.parametrize("stored", [1, 2, 3])
def test_a_walk_that_loses_its_worker_puts_out_each_chunk_once(stored: int) -> None:
    steps = 3 * BLOCK + 1
    sent, undisturbed = walked(steps)

    _, rest = walked(steps, after=sent[stored - 1])

    assert len(undisturbed) == 4
    assert chunks(sent[:stored]) + rest == undisturbed
