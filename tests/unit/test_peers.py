"""The comparison with peers, as far as it needs no process: the no-op, the pins, the table."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from analysis.peers import drain, peer, venv
from analysis.peers.__main__ import PEERS
from analysis.peers.table import HEAD, Comparison, keep, sentences

EACH_PEER = pytest.mark.parametrize("described", PEERS.values(), ids=PEERS)


def test_a_drain_is_read_from_what_the_no_ops_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter((100.0, 100.5, 102.0))
    monkeypatch.setenv("PEER_STAMPS", str(tmp_path))
    monkeypatch.setattr(peer, "_files", {})
    monkeypatch.setattr("analysis.peers.peer.time.time", lambda: next(moments))

    for pid in (1, 2, 1):
        monkeypatch.setattr("analysis.peers.peer.os.getpid", lambda pid=pid: pid)
        peer.stamp()

    assert drain.count(tmp_path) == 3
    assert drain.read(tmp_path) == drain.Drain(3, 100.0, 102.0)
    assert drain.read(tmp_path).rate == 1.5
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == [8, 16]


def test_batons_no_op_is_the_peers() -> None:
    folder = Path(peer.__file__).parent
    assert _body(folder / "stamp_task.py", "peer_stamp") == _body(folder / "peer.py", "stamp")


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
    comparison.baton = [1000.0, 4000.0, 9000.0]
    comparison.rates[huey.name] = [500.0, 1000.0, 1000.0]
    comparison.reasons[celery.name] = "no redis-server"

    json_path, markdown_path = keep(comparison, tmp_path)

    assert [row[:3] for row in comparison.rows()] == [
        ("Baton", "4,000", ""),
        (f"Huey {venv.version('huey')} on SQLite", "1,000", "4.0 ×"),
        (f"Celery {venv.version('celery')} + Redis", "not measured", ""),
    ]
    assert comparison.measurable() == [huey]
    assert "Celery + Redis: not measured: no redis-server" in comparison.notes()
    assert len(sentences(comparison)) == 3
    assert f"| {' | '.join(HEAD)} |" in markdown_path.read_text()
    kept = {one["name"]: one for one in msgspec.json.decode(json_path.read_bytes())["peers"]}
    assert kept[celery.name]["not_measured"] == "no redis-server"
    assert kept[huey.name]["baton_is_times_as_fast"] == 4.0


def _body(path: Path, function: str) -> list[str]:
    """What a function does, without its name, arguments and docstring."""
    found = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef) and n.name == function
    ]
    return [ast.dump(statement) for statement in found[0].body[1:]]
