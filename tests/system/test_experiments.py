"""Each experiment with tiny parameters: it ends, answers are right, files are there and complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from analysis import results
from analysis.recovery import Recovery
from analysis.throughput import Throughput
from shared.settings import ROOT
from tests.support.waiting import wait_until


def _run(name: str, *options: str, out: Path) -> str:
    """Run a command of analysis; returns what it printed."""
    command = [sys.executable, "-m", f"analysis.{name}", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("kind", "size", "repeats"), [("prime", "1000000", 1), ("sleep", "0.02", 2)])
def test_throughput_leaves_every_repeat_and_a_page(tmp_path: Path, kind: str, size: str, repeats: int) -> None:
    options = ("--workers", "1,2", "--tasks", "4", "--repeats", str(repeats), "--type", kind, "--size", size)

    said = _run("task_throughput_analysis", *options, out=tmp_path)

    data = results.load(tmp_path / "throughput.json", Throughput)
    assert [(run.workers, run.repeat) for run in data.runs] == [(1, 1), (2, 1), (1, 2), (2, 2)][: 2 * repeats]
    assert all(sum(run.shares) == 4 and run.seconds > 0 and not run.wrong for run in data.runs)
    assert data.machine["usable_cores"] >= 1
    assert f"All {8 * repeats} answers were checked and are right." in said
    assert (tmp_path / "throughput.html").stat().st_size > 50_000
    assert len(list(tmp_path.glob("throughput-*.png"))) == 3


@pytest.mark.parametrize("way", ["kill", "stop", "term", "cut"])
def test_recovery_hands_over_what_the_lost_worker_had(tmp_path: Path, way: str) -> None:
    options = ("--dead-workers", "1", "--workers", "2", "--tasks", "2", "--size", "2", "--repeats", "1")

    said = _run("recovery_time_analysis", "--kill", way, "--when", "0.6", *options, out=tmp_path)

    data = results.load(tmp_path / "recovery.json", Recovery)
    undisturbed, disturbed = data.runs
    assert (undisturbed.dead, disturbed.dead) == (0, 1)
    (loss,) = disturbed.losses
    assert loss.worker in disturbed.victims
    assert loss.resumed_seconds is not None
    assert loss.resumed_seconds >= loss.detected_seconds >= 0
    assert "All 4 answers were checked and are right." in said
    assert {path.name for path in tmp_path.glob("*.png")} >= {"recovery-time.png", "recovery-gantt.png"}
    assert (tmp_path / "recovery.html").stat().st_size > 50_000


def test_recovery_replaces_the_dead_when_none_is_left(tmp_path: Path) -> None:
    options = ("--dead-workers", "1", "--workers", "1", "--tasks", "1", "--size", "2", "--repeats", "1")

    _run("recovery_time_analysis", *options, out=tmp_path)

    data = results.load(tmp_path / "recovery.json", Recovery)
    assert data.runs[1].tasks[0].attempts[-1].worker == "spare-1"


def test_the_scale_model_prints_its_assumptions_with_its_answer(tmp_path: Path) -> None:
    options = ("--workers", "10,20", "--seconds", "2", "--costs", "400,450,600,1000")

    said = _run("simulate", *options, out=tmp_path)

    assert "Assumptions:" in said
    assert "400 µs" in said
    assert "20 workers: fine" in said
    assert (tmp_path / "scale.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_experiment_that_is_ended_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    options = ("--workers", "2", "--tasks", "2", "--type", "sleep", "--size", "60", "--out", str(tmp_path))
    command = [sys.executable, "-m", "analysis.task_throughput_analysis", *options]
    experiment = psutil.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    wait_until(lambda: _modules(experiment) == ["dispatcher", "worker", "worker"], "two workers", 30.0)
    started = experiment.children(recursive=True)

    experiment.send_signal(number)

    gone, left = psutil.wait_procs(started, timeout=30)
    assert (len(gone), left) == (len(started), [])
    assert experiment.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or not list(tmp_path.glob("baton-*"))


def _modules(process: psutil.Process) -> list[str]:
    """What of Baton the process has started."""
    commands = [child.cmdline() for child in process.children()]
    return [command[2] for command in commands if command[1:2] == ["-m"]]
