"""When a worker speaks: what it asks for, when it waits, and what cannot wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from shared import errors
from shared.client import DispatcherClient
from shared.protocol import ExchangeAnswer, Grant
from tests.support.desk import Desk
from tests.support.messages import checkpoint, completed
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until
from worker.conversation import Freight, Heartbeat, Work
from worker.executor import Executor
from worker.outgoing import BEAT_BYTES
from worker.pace import Pace


class Talk(Desk):
    """A desk with its conversations, each driven step by step."""

    def __init__(self, folder: Path, burst: bool = False) -> None:
        super().__init__(folder)
        self.pace = Pace()
        self.idle = 0
        executor = cast(Executor, self.executor)
        urls = ["http://127.0.0.1:1"]
        on_idle = self.on_idle if burst else None
        self.work = Work(self.link, self.hand, executor, self.pace, urls, 20.0, on_idle)
        self.heart = Heartbeat(self.link, self.hand, self.work, urls)
        self.freight = Freight(self.link, self.hand, self.work, urls)
        client = cast(DispatcherClient, self.dispatcher)
        self.work._client = self.heart._client = self.freight._client = client

    def on_idle(self) -> None:
        self.idle += 1


def grant(task_id: int = 1) -> Grant:
    return Grant(task_id, 1, "lease", 100.0, "noop")


@pytest.fixture
def burst() -> bool:
    """Whether the worker ends when there is nothing to do; a test overrides this by parametrizing it."""
    return False


@pytest.fixture
def talk(tmp_path: Path, burst: bool) -> Iterator[Talk]:
    made = Talk(tmp_path, burst)
    yield made
    made.outbox.close()


def test_a_checkpoint_that_could_not_be_delivered_wakes_the_heartbeat(talk: Talk) -> None:
    talk.hand.add([grant()])
    talk.hand.save(checkpoint(grant(), seq=1))
    parcel = talk.hand.outgoing.pack()
    talk.heart._seconds = 10 * LIMIT_SECONDS
    pause = Call(talk.heart._pause, threading.Event())
    wait_until(lambda: talk.hand.changed._waiting, "the heartbeat to pause")

    talk.hand.outgoing.returned(parcel)

    pause.result()


def test_an_idle_worker_asks_for_one_task_and_waits_for_it(talk: Talk) -> None:
    talk.work.run_once()

    (message,) = talk.dispatcher.messages
    assert (message.want, message.results, message.holding) == (1, [], None)
    assert 18 <= message.wait_seconds <= 20


def test_a_busy_worker_claims_ahead_but_does_not_wait_for_what_an_idle_one_could_have(talk: Talk) -> None:
    talk.pace.observe("noop", 1000, 0.1)
    talk.hand.add([grant()])

    talk.work.run_once()
    again = talk.work._want()[0]
    talk.hand.end([completed(grant())])
    talk.work.run_once()
    talk.work.run_once()

    ahead, with_result, idle = talk.dispatcher.messages
    assert (ahead.want, ahead.wait_seconds, again) == (1000, 0, 0)
    assert (with_result.want, len(with_result.results), with_result.wait_seconds) == (1000, 1, 0)
    assert idle.wait_seconds > 0


def test_results_that_went_without_a_claim_hold_no_claim_up(talk: Talk) -> None:
    talk.pace.observe("noop", 1000, 0.1)
    talk.hand.add([grant(task_id) for task_id in range(1, 1003)])  # more than half of what it holds ahead
    talk.hand.end([completed(grant(1))])
    talk.work.run_once()

    talk.hand.end([completed(grant(task_id)) for task_id in range(2, 1002)])  # it runs the last one

    (message,) = talk.dispatcher.messages
    assert (message.want, len(message.results)) == (0, 1)
    assert talk.work._want()[0] > 0


def test_a_message_with_results_does_not_wait(talk: Talk) -> None:
    talk.finish(1)

    talk.work.run_once()

    (message,) = talk.dispatcher.messages
    assert (len(message.results), message.want, message.wait_seconds) == (1, 1, 0)


def test_a_busy_worker_with_nothing_to_say_says_nothing(talk: Talk) -> None:
    talk.hand.add([grant()])

    talk.work.run_once()

    assert talk.dispatcher.messages == []


def test_slots_with_long_tasks_are_left_out_of_a_claim(talk: Talk) -> None:
    talk.executor.slots = 2
    talk.pace.observe("noop", 1000, 0.1)
    talk.hand.add([grant()])
    talk.executor.closed_slots = 1

    talk.work.run_once()

    assert talk.dispatcher.messages[0].want == 1000


def test_nothing_is_claimed_while_no_child_can_work(talk: Talk) -> None:
    talk.executor.slots = 0
    talk.finish(1)

    talk.work.run_once()
    talk.work.run_once()

    assert [(message.want, len(message.results)) for message in talk.dispatcher.messages] == [(0, 1)]


@pytest.mark.parametrize("reason", ["paused", "draining", "told to wait"])
def test_nothing_is_claimed_by_a_worker_that_is(talk: Talk, reason: str) -> None:
    answers = {
        "paused": ExchangeAnswer(directive="pause"),
        "draining": ExchangeAnswer(),
        "told to wait": ExchangeAnswer(poll_after_seconds=60),
    }
    talk.dispatcher.answers.append(answers[reason])
    talk.work.run_once()
    talk.link.worker.state = "draining" if reason == "draining" else "running"
    talk.finish(1)

    talk.work.run_once()

    assert [message.want for message in talk.dispatcher.messages] == [1, 0]


def test_a_paused_worker_beats_on_and_claims_again_when_told_to_run(talk: Talk) -> None:
    talk.dispatcher.answers += [ExchangeAnswer(directive="pause")] * 2 + [ExchangeAnswer()]
    talk.hand.add([grant()])
    talk.heart.run_once()
    talk.hand.end([completed(grant())])

    talk.work.run_once()
    talk.work.run_once()
    talk.heart.run_once()
    talk.work.run_once()

    sent = [
        (message.want, message.holding is not None, len(message.results)) for message in talk.dispatcher.messages
    ]
    assert sent == [(0, True, 0), (0, False, 1), (0, True, 0), (1, False, 0)]


class Threaded(Talk):
    """A worker with one slot and four threads; `sleep` waits, `noop` does not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.executor.threads = 4
        self.hand.waiting_types = frozenset({"sleep"})
        self.link.worker.types = ["noop", "sleep"]

    def hold(self, *kinds: str) -> None:
        """Tasks of these types that run, all of them long."""
        held = [Grant(number, 1, "lease", 100.0, kind) for number, kind in enumerate(kinds, 1)]
        self.hand.add(held)
        self.executor.closed_threads += kinds.count("sleep")
        self.executor.closed_slots += kinds.count("noop")

    def asked(self) -> list[tuple[int, list[str] | None, bool]]:
        """Of each message: how many tasks, of which types, and whether it may be parked."""
        return [(m.want, m.want_types, m.wait_seconds > 0) for m in self.dispatcher.messages]


@pytest.fixture
def threaded(tmp_path: Path) -> Iterator[Threaded]:
    made = Threaded(tmp_path)
    yield made
    made.outbox.close()


def test_a_worker_with_threads_asks_for_what_finds_room_whichever_kind_it_is(threaded: Threaded) -> None:
    threaded.work.run_once()

    assert threaded.asked() == [(1, None, True)]


def test_after_tasks_that_wait_every_free_thread_is_asked_for(threaded: Threaded) -> None:
    threaded.pace.observe("sleep", 10, 100.0)
    threaded.hold("sleep")

    threaded.work.run_once()

    assert threaded.asked() == [(3, None, True)]


def test_beside_a_task_that_computes_only_waiting_ones_are_asked_for(threaded: Threaded) -> None:
    threaded.hold("noop")

    threaded.work.run_once()
    threaded.work.run_once()

    assert threaded.asked() == [(4, ["sleep"], False)]  # and not again at once


def test_when_every_thread_waits_only_computing_ones_are_asked_for(threaded: Threaded) -> None:
    threaded.hold("sleep", "sleep", "sleep", "sleep")

    threaded.work.run_once()

    assert threaded.asked() == [(1, ["noop"], False)]


def test_a_worker_that_is_full_asks_for_nothing(threaded: Threaded) -> None:
    threaded.hold("sleep", "sleep", "sleep", "sleep", "noop")

    threaded.work.run_once()

    assert threaded.asked() == []


def test_a_parked_worker_sends_its_results_with_a_heartbeat(talk: Talk) -> None:
    talk.finish(1)

    urgent_while_talking = talk.heart._is_urgent()
    talk.work.is_parked = True
    urgent_while_parked = talk.heart._is_urgent()
    talk.heart.run_once()

    assert (urgent_while_talking, urgent_while_parked, talk.heart._is_urgent()) == (False, True, False)
    assert [len(message.results) for message in talk.dispatcher.messages] == [1]


def test_log_lines_go_with_the_next_heartbeat(talk: Talk) -> None:
    talk.hand.add([grant()])
    talk.hand.say(grant(), [(0.0, "warning", "careful")])

    urgent = talk.heart._is_urgent()
    talk.heart.run_once()
    talk.heart.run_once()

    first, second = talk.dispatcher.messages
    assert not urgent
    assert [(log.task_id, log.lease_id, [line.message for line in log.lines]) for log in first.logs] == [
        (1, "lease", ["careful"])
    ]
    assert first.logs[0].lines[0].age_seconds > 0
    assert second.logs == []


def test_a_checkpoint_does_not_wait_for_the_next_beat(talk: Talk) -> None:
    talk.hand.add([grant()])
    before = talk.heart._is_urgent()

    talk.hand.save(checkpoint(grant(), seq=1))

    assert (before, talk.heart._is_urgent()) == (False, True)


def test_a_large_checkpoint_goes_as_freight_and_no_heartbeat_waits_for_it(talk: Talk) -> None:
    talk.hand.add([grant()])
    talk.hand.save(checkpoint(grant(), seq=1, state="x" * BEAT_BYTES))

    urgent = talk.heart._is_urgent()
    talk.heart.run_once()
    talk.freight.run_once()
    talk.freight.run_once()

    beat, freight = talk.dispatcher.messages
    assert not urgent
    assert (beat.checkpoints, beat.holding is None) == ([], False)
    assert ([c.seq for c in freight.checkpoints], freight.holding) == ([1], None)


def test_freight_brings_large_results_while_work_is_parked_and_large_logs(talk: Talk) -> None:
    talk.hand.add([grant(1), grant(2)])
    talk.hand.end([completed(grant(1), "x" * BEAT_BYTES)])
    loads = [talk.freight._has_load()]
    talk.work.is_parked = True
    loads.append(talk.freight._has_load())

    talk.freight.run_once()
    talk.hand.say(grant(2), [(0.0, "info", "x" * 2000)] * 1000)
    talk.heart.run_once()
    talk.freight.run_once()

    assert loads == [False, True]
    assert [(len(m.results), len(m.logs)) for m in talk.dispatcher.messages] == [(1, 0), (0, 0), (0, 1)]


def test_the_other_conversations_go_where_the_last_heartbeat_was_answered(talk: Talk) -> None:
    talk.dispatcher.urls = ["http://elsewhere"]
    talk.heart.run_once()
    talk.finish(1)
    talk.hand.add([grant(2)])

    talk.work.run_once()
    talk.hand.save(checkpoint(grant(2), seq=2, state="x" * BEAT_BYTES))
    talk.freight.run_once()

    assert talk.dispatcher.preferred == ["http://elsewhere"] * 2


def test_a_heartbeat_says_that_an_answer_is_coming_in(talk: Talk) -> None:
    talk.heart.run_once()
    talk.dispatcher.is_receiving = True
    talk.heart.run_once()

    assert [message.receiving for message in talk.dispatcher.messages] == [False, True]


def test_every_heartbeat_lists_what_is_held(talk: Talk) -> None:
    talk.hand.add([grant(1), grant(2)])
    talk.hand.end([completed(grant(1))])

    talk.heart.run_once()
    talk.heart.run_once()

    listed = [message.holding for message in talk.dispatcher.messages]
    assert [[entry.task_ids for entry in entries or ()] for entries in listed] == [[[2, 1]], [[2]]]


def test_what_a_failed_heartbeat_carried_goes_with_the_next(talk: Talk) -> None:
    talk.hand.add([grant()])
    talk.hand.save(checkpoint(grant(), seq=1))
    talk.dispatcher.answers.append(errors.Unreachable("nobody there"))

    talk.heart.run_once()
    talk.heart.run_once()

    assert [[c.seq for c in message.checkpoints] for message in talk.dispatcher.messages] == [[1], [1]]


@pytest.mark.parametrize("burst", [True])
def test_a_burst_worker_does_not_wait_and_ends_when_nothing_is_left(talk: Talk) -> None:
    talk.dispatcher.answers += [ExchangeAnswer(tasks=[grant()]), ExchangeAnswer(), ExchangeAnswer()]

    talk.work.run_once()
    idle_with_a_task = talk.idle
    talk.hand.end([completed(grant())])
    talk.work.run_once()

    assert idle_with_a_task == 0
    assert talk.idle == 1
    assert [message.wait_seconds for message in talk.dispatcher.messages] == [0, 0]
