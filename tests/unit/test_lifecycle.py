"""The table of shared/lifecycle.py against itself and against the names used elsewhere."""

from __future__ import annotations

import pytest

from dispatcher import kin
from dispatcher.claims import Claims
from dispatcher.leases import Leases
from dispatcher.ledger import Ledger
from shared.lifecycle import ENDED, LIVE, TRANSITIONS, VERBS, TaskStatus, Transition, markdown

BY_VERB = {transition.verb: transition for transition in TRANSITIONS}


def test_every_status_is_live_or_ended() -> None:
    assert frozenset(TaskStatus) == LIVE | ENDED
    assert not LIVE & ENDED


def test_each_verb_is_listed_once() -> None:
    assert len(VERBS) == len(set(VERBS)) == len(TRANSITIONS)


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.verb)
def test_only_revive_leaves_an_ended_status(transition: Transition) -> None:
    leaves = any(status in ENDED for status in transition.sources)

    assert leaves == (transition.verb == "revive")


def test_only_a_claim_or_a_readoption_puts_a_task_into_a_workers_hands() -> None:
    arrows = {t.verb for t in TRANSITIONS if TaskStatus.IN_PROGRESS in t.targets - t.sources}

    assert arrows == {"claim", "readopt"}


def test_every_live_status_can_be_cancelled() -> None:
    assert BY_VERB["cancel"].sources == LIVE


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_method_of_the_same_name(verb: str) -> None:
    owners = [owner for owner in (Ledger, Claims, Leases, kin) if callable(getattr(owner, verb, None))]

    assert len(owners) == 1


def test_the_chart_has_every_arrow_and_no_state_with_a_hyphen() -> None:
    lines = markdown().splitlines()
    arrows = [line for line in lines if "-->" in line]

    assert len(arrows) == sum(len(t.sources) * len(t.targets) for t in TRANSITIONS)
    assert not any("in-progress" in line for line in arrows)
    assert [line for line in lines if line.startswith("| claim |")]
