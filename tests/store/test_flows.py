"""Flows in the ledger: who waits for whom, what an end leads to, cancel and revive."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dispatcher import dead_letters
from shared import errors
from shared.flows import ErrorView, FlowFilter
from shared.operating import ReviveMany
from tests.support import messages
from tests.support.builder import Builder
from tests.support.flows import Flow, flow_of, told

DIAMOND: tuple[dict[str, Any], ...] = (
    {"key": "a"},
    {"key": "b", "depends_on": ["a"]},
    {"key": "c", "depends_on": ["a"]},
    {"key": "d", "depends_on": ["b", "c"]},
)


def test_a_child_waits_for_its_last_parent(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND)

    flow.complete("a")
    flow.complete("b")

    assert flow.statuses() == {"a": "completed", "b": "completed", "c": "pending", "d": "blocked"}
    flow.complete("c")
    assert flow.statuses()["d"] == "pending"


def test_the_last_parents_transaction_makes_the_child_pending(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"}, {"key": "b", "depends_on": ["a"]})
    grant = flow.start("a")

    answer = tasks.say("worker", results=[messages.completed(grant)], want=1)

    assert [task.task_id for task in answer.tasks] == [flow.task_ids["b"]]


def test_the_order_in_which_tasks_are_given_does_not_matter(tasks: Builder) -> None:
    flow = Flow(tasks, *reversed(DIAMOND))

    done = [grant.task_id for grant in flow.drain()]

    assert done[0] == flow.task_ids["a"]
    assert done[-1] == flow.task_ids["d"]
    assert flow.status == "completed"


def test_a_child_is_told_how_its_parents_ended(tasks: Builder) -> None:
    flow = Flow(
        tasks, {"key": "a"}, {"key": "b"}, {"key": "c", "depends_on": ["b", "a"], "run_if": "all_finished"}
    )
    flow.complete("a", {"count": 3})
    flow.fail("b")

    child = flow.start("c")

    assert told(child) == {
        "b": {"status": "failed", "result": None, "error": {"type": "ValueError", "message": "no luck"}},
        "a": {"status": "completed", "result": {"count": 3}, "error": None},
    }
    assert list(told(child)) == ["b", "a"]


def test_a_flow_tells_the_error_of_each_task_in_short(tasks: Builder) -> None:
    flow = Flow(
        tasks, {"key": "a"}, {"key": "b", "depends_on": ["a"]}, {"key": "long"}, {"key": "huge"}, {"key": "c"}
    )
    flow.fail("a")
    for key, message in (("long", "no " * 100), ("huge", "no " * 5000)):
        tasks.report(messages.failed(flow.start(key), message, retryable=False), worker="worker")

    told = {task.key: task.error for task in flow.view.tasks or ()}

    assert told["a"] == ErrorView("ValueError", "no luck")
    assert told["b"] == ErrorView("ParentFailed", f"task {flow.task_ids['a']}, which this one depends on, failed")
    assert told["long"] == ErrorView("ValueError", f"{('no ' * 100)[:199]}…")
    assert told["huge"] == ErrorView("ValueError", "a long error: see the task")
    assert told["c"] is msgspec.UNSET


def test_a_task_that_will_be_tried_again_has_no_error_yet(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"})
    tasks.report(messages.failed(flow.start("a"), "no luck"), worker="worker")

    assert [task.error for task in flow.view.tasks or ()] == [msgspec.UNSET]


def test_a_task_without_parents_is_told_nothing(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"})

    assert told(flow.start("a")) == {}


def test_a_failed_parent_cancels_all_its_descendants(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND, {"key": "e", "depends_on": ["d"]}, {"key": "other"})
    flow.complete("a")

    flow.fail("b")

    assert flow.statuses() == {
        "a": "completed", "b": "failed", "c": "pending", "d": "cancelled", "e": "cancelled", "other": "pending",
    }  # fmt: skip
    failed = flow.task_ids["b"]
    error = {
        "type": "ParentFailed",
        "message": f"task {failed}, which this one depends on, failed",
        "task_id": failed,
    }
    assert flow.error("d") == flow.error("e") == error


def test_a_parent_with_retries_left_has_not_ended(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"}, {"key": "b", "depends_on": ["a"]})
    grant = flow.start("a")

    tasks.report(messages.failed(grant), worker="worker")

    assert flow.statuses() == {"a": "scheduled", "b": "blocked"}


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_child_that_runs_if_all_finished_runs_whatever_happened(tasks: Builder, end: str) -> None:
    flow = Flow(
        tasks,
        {"key": "a"},
        {"key": "b", "depends_on": ["a"]},
        {"key": "clean-up", "depends_on": ["b"], "run_if": "all_finished"},
    )

    if end == "fail":
        flow.fail("a")
    else:
        tasks.cancel(flow.task_ids["a"] or 0)

    assert flow.statuses()["b"] == "cancelled"
    assert flow.statuses()["clean-up"] == "pending"
    flow.drain()
    assert flow.status == ("failed" if end == "fail" else "cancelled")


def test_a_lost_worker_can_be_what_fails_a_parent(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a", "crash_limit": 1}, {"key": "b", "depends_on": ["a"]})
    flow.start("a")

    tasks.fall_silent()

    assert flow.statuses() == {"a": "failed", "b": "cancelled"}


def test_a_delay_counts_from_submission_and_holds_back_what_is_unblocked_sooner(tasks: Builder) -> None:
    flow = Flow(
        tasks,
        {"key": "a"},
        *({"key": key, "depends_on": ["a"], "delay_seconds": s} for key, s in (("b", 5), ("c", 60))),
    )
    tasks.advance(10)

    flow.complete("a")

    assert flow.statuses() == {"a": "completed", "b": "pending", "c": "scheduled"}
    tasks.advance(51)
    tasks.dispatcher.ledger.promote()
    assert flow.statuses()["c"] == "pending"


def test_progress_is_the_share_that_has_ended(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND, name="night run")

    flow.complete("a")

    view = flow.view
    assert (view.name, view.status, view.progress) == ("night run", "running", 0.25)
    assert [(task.key, task.depends_on) for task in view.tasks or ()] == [
        ("a", []), ("b", ["a"]), ("c", ["a"]), ("d", ["b", "c"]),
    ]  # fmt: skip


def test_flows_are_listed_newest_first(tasks: Builder) -> None:
    flows = [Flow(tasks, {"key": "a"}, name=f"flow {i}") for i in range(3)]
    listed = flows[0].flows

    first = listed.page(FlowFilter(limit=2))
    second = listed.page(FlowFilter(limit=2, after=first["next"]))

    assert [view.name for view in [*first["flows"], *second["flows"]]] == ["flow 2", "flow 1", "flow 0"]
    assert second["next"] is None


def test_a_task_says_which_flow_it_is_of_and_what_it_depends_on(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"}, {"key": "b", "depends_on": ["a"]})

    view = tasks.view(flow.task_ids["b"] or 0)

    assert (view.flow_id, view.key, view.depends_on) == (flow.id, "b", [flow.task_ids["a"]])


# --- cancel, revive


def test_cancelling_a_flow_ends_everything_in_it_and_nothing_else(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND, {"key": "later", "delay_seconds": 60})
    outside = tasks.submit(depends_on=[flow.task_ids["d"]], run_if="all_finished")
    flow.complete("a")
    flow.start("b")

    flow.flows.cancel(flow.id)

    assert flow.statuses() == {key: "cancelled" for key in "bcd"} | {"a": "completed", "later": "cancelled"}
    assert flow.status == "cancelled"
    assert flow.error("d") == {"type": "Cancelled", "message": "cancelled on request"}
    assert tasks.status(outside) == "pending"


def test_a_flow_that_has_ended_cannot_be_cancelled(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"})
    flow.drain()

    with pytest.raises(errors.AlreadyEnded):
        flow.flows.cancel(flow.id)


def test_reviving_a_flow_revives_what_failed_and_nothing_else(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND)
    flow.complete("a")
    flow.fail("b")
    flow.complete("c")
    assert flow.status == "failed"

    flow.flows.revive(flow.id)

    assert flow.statuses() == {"a": "completed", "b": "pending", "c": "completed", "d": "blocked"}
    assert flow.status == "running"
    flow.drain()
    assert flow.status == "completed"
    assert [tasks.outcomes(flow.task_ids[key] or 0).count("completed") for key in "abcd"] == [1, 1, 1, 1]


def test_a_flow_is_revived_while_a_part_of_it_still_runs(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND)
    flow.complete("a")
    running = flow.start("c")
    tasks.cancel(flow.task_ids["b"] or 0)
    assert flow.statuses()["d"] == "cancelled"

    flow.flows.revive(flow.id)
    tasks.report(messages.completed(running), worker="worker")

    assert flow.statuses() == {"a": "completed", "b": "pending", "c": "completed", "d": "blocked"}
    flow.complete("b")
    assert flow.statuses()["d"] == "pending"


def test_a_flow_without_failures_cannot_be_revived(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"})

    with pytest.raises(errors.Conflict, match="none of its tasks"):
        flow.flows.revive(flow.id)


def test_a_revived_task_is_blocked_while_a_parent_has_not_ended(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"}, {"key": "b", "depends_on": ["a"]})
    tasks.cancel(flow.task_ids["b"] or 0)

    tasks.revive(flow.task_ids["b"] or 0)

    assert flow.statuses() == {"a": "pending", "b": "blocked"}
    flow.drain()
    assert flow.status == "completed"


def test_a_revived_parent_holds_up_children_that_are_still_blocked(tasks: Builder) -> None:
    flow = Flow(
        tasks, {"key": "a"}, {"key": "b"}, {"key": "c", "depends_on": ["a", "b"], "run_if": "all_finished"}
    )
    flow.fail("a")

    tasks.revive(flow.task_ids["a"] or 0)
    flow.complete("b")

    assert flow.statuses()["c"] == "blocked"
    flow.complete("a")
    assert flow.statuses()["c"] == "pending"


@pytest.mark.parametrize("bite", [1, 2, 200])
def test_reviving_many_lets_each_wait_for_its_parents_however_they_were_listed(
    tasks: Builder, bite: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "BITE", bite)
    parts = {"key": "parts", "map": {"over": [1, 2]}, "depends_on": ["a"]}
    flow = Flow(
        tasks, {"key": "d", "depends_on": ["c"]}, {"key": "c", "depends_on": ["parts"]}, parts, {"key": "a"}
    )
    flow.fail("a")

    revived = tasks.dispatcher.ledger.dead_letters.revive(ReviveMany(type="noop"))

    assert revived == 5
    assert flow.statuses() == {"d": "blocked", "c": "blocked", "parts[0]": "blocked", "parts[1]": "blocked"} | {
        "a": "pending"
    }
    flow.drain()
    assert flow.status == "completed"


@pytest.mark.parametrize(
    "wanted", [{"tag": "t"}, {"error_type": "ParentFailed"}, {"status": "cancelled"}, {"ids": None}]
)
def test_reviving_many_revives_no_parent_that_was_not_asked_for(tasks: Builder, wanted: dict[str, Any]) -> None:
    flow = Flow(tasks, {"key": "b", "depends_on": ["a"], "tags": ["t"]}, {"key": "a"})
    flow.fail("a")
    wanted = {"ids": [flow.task_ids["b"]]} if "ids" in wanted else wanted

    assert tasks.dispatcher.ledger.dead_letters.revive(ReviveMany(**wanted)) == 1

    assert flow.statuses() == {"b": "pending", "a": "failed"}


# --- in all


def test_nothing_of_a_wrong_flow_is_stored(tasks: Builder) -> None:
    wrong = flow_of({"key": "a", "depends_on": ["b"]}, {"key": "b", "depends_on": ["a"]})

    with pytest.raises(errors.Invalid, match="a -> b -> a"):
        tasks.dispatcher.ledger.flows.submit(wrong, {})

    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(0,)]
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM flows") == [(0,)]


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_ten_thousand_descendants_are_cancelled_at_once(tasks: Builder, shape: str) -> None:
    parent = (lambda i: f"k{i - 1}") if shape == "long" else (lambda i: "k0")
    nodes = [{"key": "k0"}, *({"key": f"k{i}", "depends_on": [parent(i)]} for i in range(1, 10_000))]
    flow = Flow(tasks, *nodes)

    flow.fail("k0")

    assert tasks.dispatcher.rows("SELECT status, COUNT(*) FROM tasks GROUP BY status ORDER BY status") == [
        ("cancelled", 9999),
        ("failed", 1),
    ]
    assert flow.view.progress == 1.0


def test_a_flow_survives_a_restart_of_the_dispatcher(tasks: Builder) -> None:
    flow = Flow(tasks, *DIAMOND)
    flow.complete("a")

    tasks.dispatcher.restart()
    flow.flows = tasks.dispatcher.ledger.flows
    flow.drain()

    assert flow.status == "completed"


def test_a_parent_is_kept_as_long_as_its_flow_lives_and_then_goes_with_it(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"}, {"key": "b", "depends_on": ["a"]})
    flow.complete("a", "kept")
    tasks.advance(40 * 86400)

    assert tasks.dispatcher.ledger.prune() == 0
    assert told(flow.complete("b"))["a"]["result"] == "kept"
    tasks.advance(40 * 86400)
    assert tasks.dispatcher.ledger.prune() == 2

    with pytest.raises(errors.NotFound):
        flow.flows.show(flow.id)
    assert all(
        tasks.dispatcher.rows(f"SELECT * FROM {table}") == [] for table in ("nodes", "edges", "flow_counts")
    )
