"""Limits and pauses: never exceeded, never leaked, and who waits for them is served at once."""

from __future__ import annotations

import pytest

from dispatcher import limits
from shared import errors
from tests.support.builder import Builder
from tests.support.flows import Flow
from tests.support.messages import completed, crashed, failed, holding, released
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until

KINDS = [("queue", {"queue": "q"}), ("type", {"type": "t"}), ("key", {"limit_key": "k"})]
NAMES = {"queue": "q", "type": "t", "key": "k"}


def park(tasks: Builder, worker: str = "parked") -> Call:
    """A claim under way that waits for work."""
    database = tasks.dispatcher.database
    before = len(database._parked)
    call = Call(tasks.claim, worker, wait_seconds=LIMIT_SECONDS)
    wait_until(lambda: len(database._parked) > before, "the claim to be parked")
    return call


def ids(grants: object) -> list[int]:
    return [grant.task_id for grant in grants]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_no_more_run_than_the_limit_says_and_the_next_follows(
    tasks: Builder, kind: str, fields: dict[str, str]
) -> None:
    tasks.limit(**{kind: NAMES[kind]}, max_running=2)
    first, second, third = tasks.submit_many(3, **fields)
    other = tasks.submit()

    grants = tasks.claim(want=10)
    nothing = tasks.claim(want=10)
    tasks.finish(grants[0])

    assert (ids(grants), nothing) == ([first, second, other], [])
    assert ids(tasks.claim(want=10)) == [third]


@pytest.mark.parametrize(("kind", "fields"), KINDS)
@pytest.mark.parametrize("first", ["limit", "tasks"])
def test_a_limit_counts_whatever_was_there_before_it(
    tasks: Builder, kind: str, fields: dict[str, str], first: str
) -> None:
    made = tasks.submit_many(3, **fields)
    running = tasks.claim(want=1)
    tasks.limit(**{kind: NAMES[kind]}, max_running=1)

    assert tasks.claim(want=10) == []
    tasks.finish(*running)
    assert ids(tasks.claim(want=10)) == [made[1]]


@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_lifting_a_limit_lets_everything_run(tasks: Builder, kind: str, fields: dict[str, str]) -> None:
    tasks.limit(**{kind: NAMES[kind]}, max_running=0)
    made = tasks.submit_many(3, **fields)
    before = tasks.claim(want=10)
    call = park(tasks)

    tasks.lift(kind, NAMES[kind])

    assert (before, ids(call.result())) == ([], made[:1])
    assert ids(tasks.claim(want=10)) == made[1:]
    with pytest.raises(errors.NotFound):
        tasks.lift(kind, NAMES[kind])


@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_a_place_that_becomes_free_wakes_who_waits(tasks: Builder, kind: str, fields: dict[str, str]) -> None:
    tasks.limit(**{kind: NAMES[kind]}, max_running=1)
    tasks.submit_many(2, **fields)
    (running,) = tasks.claim()
    call = park(tasks)

    tasks.finish(running)

    assert len(call.result()) == 1


@pytest.mark.parametrize("report", [completed, failed, crashed, released])
@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_however_an_attempt_ends_its_place_is_free(
    tasks: Builder, report: object, kind: str, fields: dict[str, str]
) -> None:
    tasks.limit(**{kind: NAMES[kind]}, max_running=1)
    made = tasks.submit_many(2, **{"type": "t", **fields})
    (grant,) = tasks.claim()

    tasks.report(report(grant))  # type: ignore[operator]
    next_grants = tasks.claim(want=2)

    assert (grant.task_id, len(next_grants)) == (made[0], 1)


@pytest.mark.parametrize("end", ["cancel", "silence", "expire"])
def test_a_place_is_free_when_its_task_ends_otherwise(tasks: Builder, end: str) -> None:
    tasks.limit(key="k", max_running=1)
    first = tasks.submit(limit_key="k", deadline="2027-01-15T08:00:05Z", crash_limit=1)
    second = tasks.submit(limit_key="k")
    ends = {
        "cancel": lambda: tasks.cancel(first),
        "silence": lambda: (tasks.claim("w1"), tasks.fall_silent()),
        "expire": lambda: (tasks.advance(6), tasks.dispatcher.ledger.expire()),
    }

    ends[end]()

    assert ids(tasks.claim("w2", want=2)) == [second]


def test_the_best_of_a_key_goes_first_whenever_it_came(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=1)
    low, high = tasks.submit(limit_key="k"), tasks.submit(limit_key="k", priority=5)

    (first,) = tasks.claim(want=5)
    tasks.finish(first)
    (second,) = tasks.claim(want=5)

    assert (first.task_id, second.task_id) == (high, low)


def test_tasks_of_a_key_that_no_worker_takes_are_in_nobodys_way(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=1)
    tasks.submit("nobody", limit_key="k", priority=9)
    wanted = tasks.submit("wanted", limit_key="k")

    assert ids(tasks.claim(types=["wanted"], want=5)) == [wanted]
    assert tasks.claim("other", types=["nobody"], want=5) == []


def test_a_thousand_tasks_that_may_not_start_hide_none_that_may(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=1000)
    tasks.submit_many(300, "a", limit_key="k", priority=1)
    tasks.submit_many(300, "b", limit_key="k", priority=1)
    plain = tasks.submit("a")
    tasks.claim("w1", types=["b"], want=1)
    tasks.limit(key="k", max_running=1)

    assert ids(tasks.claim("w2", want=1)) == [plain]


def test_many_more_than_are_let_in_at_once_all_get_their_turn(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=1000)
    count = limits.AHEAD * 2 + 50
    made = tasks.submit_many(count, limit_key="k")

    claimed: list[int] = []
    while grants := tasks.claim(want=1000):
        claimed += ids(grants)

    assert claimed == made


def test_a_key_without_a_limit_holds_back_nothing_of_a_large_flow(tasks: Builder) -> None:
    part = {"limit_key": "k", "map": {"over": list(range(6000))}}
    Flow(tasks, {"key": "a", "type": "nobody", **part}, {"key": "b", "type": "wanted", **part})

    assert len(tasks.claim(types=["wanted"], want=1000)) == 1000
    ((waiting,),) = tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks WHERE place = 1")
    assert waiting == 0


def test_a_window_counts_starts_at_every_moment(tasks: Builder) -> None:
    tasks.limit(key="k", max_starts=2, per_seconds=10)
    tasks.submit_many(6, limit_key="k")

    starts: list[float] = []
    for _ in range(60):
        for grant in tasks.claim(want=1):
            tasks.finish(grant)
            starts.append(tasks.dispatcher.clock.lease())
        tasks.advance(0.5)
        tasks.dispatcher.ledger.limits.open_windows()

    assert len(starts) == 6
    assert all(later - earlier >= 10 for earlier, later in zip(starts, starts[2:], strict=False))


def test_a_window_of_very_many_starts_is_kept_in_few_rows(tasks: Builder) -> None:
    tasks.limit(type="noop", max_starts=2000, per_seconds=100)
    tasks.submit_many(2001)

    for _ in range(100):
        tasks.finish(*tasks.claim(want=20))
        tasks.advance(0.01)

    ((rows,),) = tasks.dispatcher.rows("SELECT COUNT(*) FROM limit_starts")
    assert rows <= 11
    assert tasks.claim() == []
    tasks.advance(98.9)
    assert tasks.claim() == []
    tasks.advance(0.3)
    assert len(tasks.claim()) == 1


@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_a_window_that_moves_on_wakes_who_waits(tasks: Builder, kind: str, fields: dict[str, str]) -> None:
    tasks.limit(**{kind: NAMES[kind]}, max_starts=1, per_seconds=1.5)
    tasks.submit_many(2, **fields)
    tasks.finish(*tasks.claim("parked"))
    call = park(tasks)
    tasks.advance(1.0)
    tasks.say("parked")  # it heartbeats
    tasks.advance(1.0)

    tasks.dispatcher.ledger.limits.open_windows()

    assert len(call.result()) == 1


@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_a_grant_is_not_readopted_when_its_place_has_gone(
    tasks: Builder, kind: str, fields: dict[str, str]
) -> None:
    tasks.limit(**{kind: NAMES[kind]}, max_running=1)
    tasks.submit_many(1, **fields)
    grant = tasks.claim_one("cut-off")
    other = tasks.submit(**{"priority": 9} | fields)
    tasks.fall_silent(others=["w2"])
    taken = tasks.claim("w2", want=1)

    answer = tasks.hold(holding(grant, running=True), worker="cut-off")

    assert ids(taken) == [other]
    assert ids(answer.lost) == [grant.task_id]


def test_a_grant_is_readopted_while_its_place_is_free(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=1)
    tasks.submit(limit_key="k")
    grant = tasks.claim_one("cut-off")
    tasks.fall_silent()

    answer = tasks.hold(holding(grant, running=True), worker="cut-off")

    assert (answer.lost, tasks.status(grant.task_id)) == ([], "in-progress")


def test_limits_hold_over_a_restart(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=1)
    first, second = tasks.submit_many(2, limit_key="k")
    (grant,) = tasks.claim()

    tasks.dispatcher.restart()

    assert (grant.task_id, tasks.claim()) == (first, [])
    tasks.finish(grant)
    assert ids(tasks.claim()) == [second]


def test_a_window_stands_still_while_the_dispatcher_is_down(tasks: Builder) -> None:
    tasks.limit(type="noop", max_starts=1, per_seconds=10)
    tasks.submit_many(2)
    tasks.finish(*tasks.claim())

    tasks.dispatcher.clock.jump_wall(100)
    tasks.dispatcher.restart()

    assert tasks.claim() == []
    tasks.advance(10)
    assert len(tasks.claim()) == 1


def test_a_limit_that_was_being_set_when_the_dispatcher_ended_is_finished_afterwards(tasks: Builder) -> None:
    tasks.limit(key="k", max_running=0)
    made = tasks.submit_many(3, limit_key="k")
    tasks.dispatcher.database.write(lambda tx: tx.lift_limit(kind="key", name="k"))

    tasks.dispatcher.restart()
    settled = tasks.dispatcher.ledger.limits.settle_all()

    assert settled == 1
    assert ids(tasks.claim(want=9)) == made


@pytest.mark.parametrize(("kind", "fields"), KINDS[:2])
def test_nothing_of_what_is_paused_starts_until_it_is_resumed(
    tasks: Builder, kind: str, fields: dict[str, str]
) -> None:
    running = tasks.submit(**fields)
    (grant,) = tasks.claim()
    tasks.pause(kind, NAMES[kind])
    paused, plain = tasks.submit(**fields), tasks.submit()
    tasks.dispatcher.restart()

    claimed = tasks.claim(want=9)
    tasks.finish(grant)
    call = park(tasks)
    tasks.pause(kind, NAMES[kind], paused=False)

    assert (ids(claimed), tasks.status(running)) == ([plain], "completed")
    assert ids(call.result()) == [paused]


@pytest.mark.parametrize(("order", "state"), [("pause", "paused"), ("drain", "draining")])
def test_a_worker_that_was_told_to_stop_claiming_gets_nothing_until_it_may_again(
    tasks: Builder, order: str, state: str
) -> None:
    tasks.say("w1")
    ledger = tasks.dispatcher.ledger
    ledger.order_worker("w1", order)  # type: ignore[arg-type]
    task_id = tasks.submit()
    tasks.dispatcher.restart()

    told = tasks.say("w1", want=1)
    (view,) = tasks.dispatcher.records.workers()
    call = park(tasks, "w1")
    tasks.dispatcher.ledger.order_worker("w1", None)

    assert (told.tasks, told.directive, view.state) == ([], order, state)
    assert ids(call.result()) == [task_id]
    assert tasks.say("w1").directive == "run"


def test_only_a_living_worker_takes_orders(tasks: Builder) -> None:
    tasks.say("w1", state="stopped")

    with pytest.raises(errors.Conflict):
        tasks.dispatcher.ledger.order_worker("w1", "pause")
    with pytest.raises(errors.NotFound):
        tasks.dispatcher.ledger.order_worker("w9", "pause")
