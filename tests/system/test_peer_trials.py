"""The comparison with peers measures Baton with the same steps: here on few tasks, and for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.peers import contestant, trial


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SINGLES", 50)
    monkeypatch.setattr(trial, "WAITS", 10)
    monkeypatch.setattr(trial, "REST_SECONDS", 0.2)


def test_baton_goes_through_the_trial_of_its_peers(tmp_path: Path) -> None:
    with contestant.baton(tmp_path) as queue:
        queue.tasks = trial.SINGLES + 200

        measured = trial.measure(queue)

        assert trial.count(queue.stamps) == queue.tasks + trial.WAITS
    assert min(measured.drained, measured.single) > 0
    assert len(measured.waits) == trial.WAITS
    assert min(measured.waits) > 0  # no function starts before its submission


def test_a_task_whose_worker_is_killed_is_seen_to_start_again(tmp_path: Path) -> None:
    with contestant.baton(tmp_path) as queue:
        seconds = trial.recovery_seconds(queue)

        assert trial.count(queue.stamps) == 3
        assert len(queue.consumers) == 1
    assert seconds is not None
    assert seconds > 0
