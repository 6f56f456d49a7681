"""The comparison with peers, as far as it needs no process: the no-op, the pins, the table."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from analysis.peers import peer, trial, venv
from analysis.peers.__main__ import PEERS
from analysis.peers.table import BATON, HEAD, Comparison, keep, sentences
from analysis.peers.trial import Trial

EACH_PEER = pytest.mark.parametrize("described", PEERS.values(), ids=PEERS)


def test_starts_are_read_from_what_the_tasks_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter((102.0, 100.0, 100.5))
    monkeypatch.setenv("PEER_STAMPS", str(tmp_path))
    monkeypatch.setattr(peer, "_files", {})
    monkeypatch.setattr("analysis.peers.peer.time.time", lambda: next(moments))

    for pid in (1, 2, 1):
        monkeypatch.setattr("analysis.peers.peer.os.getpid", lambda pid=pid: pid)
        peer.stamp()

    assert trial.count(tmp_path) == 3
    assert list(trial.read(tmp_path)) == [100.0, 100.5, 102.0]
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == [8, 16]


def test_batons_tasks_are_the_peers() -> None:
    folder = Path(peer.__file__).parent
    assert _body(folder / "stamp_task.py", "peer_stamp") == _body(folder / "peer.py", "stamp")
    assert _body(folder / "stamp_task.py", "peer_nap")[1:] == _body(folder / "peer.py", "nap")[1:]


def test_submissions_are_timed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter((10.0, 10.5, 11.0))
    monkeypatch.setattr("analysis.peers.peer.time.time", lambda: next(moments))
    submitted: list[str] = []

    assert peer.submit_each(submitted.append, "stamp", 2, pause=0.0) == [10.0, 10.5, 11.0]
    assert submitted == ["stamp", "stamp"]


def test_every_package_is_pinned_to_a_version() -> None:
    lines = venv.requirements(venv.REQUIREMENTS.read_text())
    assert [line for line in lines if line.count("==") != 1] == []
    assert len({line.partition("==")[0] for line in lines}) == len(lines)


@EACH_PEER
def test_a_peer_says_what_it_is(described: peer.Peer) -> None:
    assert venv.version(described.package)
    assert described.durability.partition(":")[0] in ("yes", "no", "in part")
    assert (Path(peer.__file__).parent / f"{described.module}.py").exists()


def test_a_peer_that_did_not_start_is_named_with_its_reason(tmp_path: Path) -> None:
    celery, huey = PEERS["celery_redis"], PEERS["huey_sqlite"]
    comparison = Comparison([celery, huey])
    waits = [n / 1000 for n in range(1, 101)]
    comparison.trials[BATON] = [Trial(drained, 2000.0, waits) for drained in (1000.0, 4000.0, 9000.0)]
    comparison.trials[huey.name] = [Trial(drained, 3000.0, [0.25]) for drained in (500.0, 1000.0, 1000.0)]
    comparison.recoveries = {BATON: 2.14, huey.name: None}
    comparison.reasons[celery.name] = "no redis-server"

    json_path, markdown_path = keep(comparison, tmp_path)

    assert [row[:6] for row in comparison.rows()] == [
        ("Baton", "4,000", "", "2,000", "51.0; 100", "2.1"),
        (f"Huey {venv.version('huey')} on SQLite", "1,000", "4.0 ×", "3,000", "250; 250", "not in 60"),
        (f"Celery {venv.version('celery')} + Redis", "not measured", "", "", "", ""),
    ]
    assert comparison.measurable() == [huey]
    assert "Celery + Redis: not measured: no redis-server" in comparison.notes()
    assert len(sentences(comparison)) == 3
    assert f"| {' | '.join(HEAD)} |" in markdown_path.read_text()
    kept = {one["name"]: one for one in msgspec.json.decode(json_path.read_bytes())["peers"]}
    assert kept[celery.name]["not_measured"] == "no redis-server"
    assert kept[huey.name]["baton_is_times_as_fast"] == 4.0
    assert kept[huey.name]["seconds_to_recover"] is None
    assert kept[huey.name]["recovery_tried_for_seconds"] == trial.RECOVERY_SECONDS


def _body(path: Path, function: str) -> list[str]:
    """What a function does, without its name, arguments and docstring."""
    found = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef) and n.name == function
    ]
    return [ast.dump(statement) for statement in found[0].body[1:]]
