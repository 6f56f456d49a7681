"""Fan-outs: one task per item, over a list or over another task's result, and who waits for all of them."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.views import iso
from shared.operating import Drop
from tests.support.builder import Builder
from tests.support.flows import Flow, payload, told


def fan(key: str = "parts", over: Any = (10, 20), **fields: Any) -> dict[str, Any]:
    return {"key": key, "map": {"over": over, "as": "limit"}, **fields}


GATHER = {"key": "gather", "depends_on": ["parts"]}
SPLIT = {"key": "split"}
RESULT = {"result_of": "split", "field": "limits"}


def test_each_part_gets_its_item(tasks: Builder) -> None:
    flow = Flow(tasks, fan(payload={"output": "count", "limit": 1}))

    grants = flow.drain()

    assert list(flow.task_ids) == ["parts[0]", "parts[1]"]
    assert [payload(grant) for grant in grants] == [{"output": "count", "limit": limit} for limit in (10, 20)]


def test_the_item_has_a_name_when_none_is_given(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "parts", "map": {"over": ["x"]}})

    assert payload(flow.complete("parts[0]")) == {"item": "x"}


def test_who_depends_on_a_fan_out_sees_all_results_in_order(tasks: Builder) -> None:
    flow = Flow(tasks, fan(over=[1, 2, 3]), GATHER)
    for index in (2, 0, 1):
        assert flow.statuses()["gather"] == "blocked"
        flow.complete(f"parts[{index}]", index * 100)

    results = [{"status": "completed", "result": i * 100, "error": None} for i in range(3)]
    assert told(flow.complete("gather")) == {"parts": results}
    assert flow.status == "completed"


def test_parts_wait_for_the_parents_of_their_fan_out_and_see_them(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(depends_on=["split"]), GATHER)
    assert flow.statuses() == {
        "split": "pending",
        "parts[0]": "blocked",
        "parts[1]": "blocked",
        "gather": "blocked",
    }
    assert [task.depends_on for task in flow.view.tasks or ()] == [[], ["split"], ["split"], ["parts"]]

    flow.complete("split", "cut")

    grant = flow.complete("parts[1]")
    assert told(grant) == {"split": {"status": "completed", "result": "cut", "error": None}}
    assert tasks.view(grant.task_id).depends_on == [flow.task_ids["split"]]


def test_a_result_becomes_parts_in_the_transaction_that_brings_it(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT, tags=["t"], priority=3), GATHER)
    assert flow.task_ids["parts"] is None
    assert flow.statuses() == {"split": "pending", "parts": "blocked", "gather": "blocked"}

    flow.complete("split", {"limits": [5, 6, 7]})

    assert flow.statuses() == {
        "split": "completed",
        **{f"parts[{i}]": "pending" for i in range(3)},
        "gather": "blocked",
    }
    part = tasks.view(flow.ids()["parts[2]"] or 0)
    assert (part.tags, part.priority, part.key) == (["t"], 3, "parts[2]")
    assert flow.view.progress == 0.2
    grants = flow.drain()
    assert [payload(grant) for grant in grants[:-1]] == [{"limit": limit} for limit in (5, 6, 7)]
    assert [part["result"] for part in told(grants[-1])["parts"]] == [grant.task_id for grant in grants[:-1]]
    assert flow.status == "completed"


def test_forks_and_joins_wait_as_the_example_of_their_decision_tells(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "list"}, fan("fit", {"result_of": "list"}), {"key": "sum", "depends_on": ["fit"]})
    waits = [_waits(tasks)]
    for key, result in (("list", [1, 2]), ("fit[0]", None), ("fit[1]", None)):
        flow.complete(key, result)
        waits.append(_waits(tasks))

    assert waits == [
        {"fork": 1, "join": 1, "sum": 1},
        {"join": 2, "sum": 1},
        {"join": 1, "sum": 1},
        {},
    ]
    assert (flow.view.progress, flow.statuses()["sum"]) == (0.75, "pending")


def _waits(tasks: Builder) -> dict[str, int]:
    """For how many each node waits that does, by its key, or by what it is if it is no task."""
    rows = tasks.dispatcher.rows(
        "SELECT CASE WHEN n.kind = 'task' THEN n.key ELSE n.kind END, COALESCE(t.waiting, n.waiting)"
        " FROM nodes n LEFT JOIN tasks t ON t.task_id = n.node_id"
    )
    return {name: waiting for name, waiting in rows if waiting}


def test_a_whole_result_can_be_the_list(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over={"result_of": "split"}))

    flow.complete("split", [{"a": 1}, None])

    assert [payload(grant)["limit"] for grant in flow.drain()] == [{"a": 1}, None]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"limits": 5}, "the field 'limits' of the result of 'split' is not a list"),
        ({"other": []}, "the field 'limits' of the result of 'split' is missing; there are: other"),
        (7, "the field 'limits' of the result of 'split' cannot be taken: the result is not an object"),
        (None, "the field 'limits' of the result of 'split' cannot be taken: the result is not an object"),
        ({"limits": [0] * 10_001}, "parts.map.over has 10001 items; the limit is 10000"),
    ],
)
def test_what_cannot_be_fanned_out_fails_and_says_why(tasks: Builder, result: Any, message: str) -> None:
    tidy = {"key": "tidy", "depends_on": ["parts"], "run_if": "all_finished"}
    flow = Flow(tasks, SPLIT, fan(over=RESULT), GATHER, tidy)

    flow.complete("split", result)

    assert flow.statuses() == {"split": "completed", "parts": "failed", "gather": "cancelled", "tidy": "pending"}
    assert next(task for task in flow.view.tasks or () if task.key == "parts").error.message == message
    assert flow.error("gather")["task_id"] == flow.task_ids["split"]
    (entry,) = told(flow.complete("tidy"))["parts"]
    assert (entry["status"], entry["error"]["message"]) == ("failed", message)
    assert flow.status == "failed"


@pytest.mark.parametrize("over", [[], RESULT])
def test_an_empty_fan_out_completes_at_once(tasks: Builder, over: Any) -> None:
    flow = Flow(tasks, SPLIT, fan(over=over), GATHER)

    flow.complete("split", {"limits": []})

    assert flow.statuses() == {"split": "completed", "parts": "completed", "gather": "pending"}
    assert told(flow.complete("gather")) == {"parts": []}
    assert (flow.status, flow.view.progress) == ("completed", 1.0)


def test_a_flow_of_nothing_but_an_empty_fan_out_has_ended(tasks: Builder) -> None:
    flow = Flow(tasks, fan(over=[]))

    assert (flow.status, flow.task_ids) == ("completed", {"parts": None})
    assert tasks.claim() == []


def test_a_part_that_fails_cancels_who_needs_all_and_lets_the_others_go_on(tasks: Builder) -> None:
    tidy = {"key": "tidy", "depends_on": ["parts"], "run_if": "all_finished"}
    flow = Flow(tasks, fan(over=[1, 2]), GATHER, tidy)

    flow.fail("parts[0]")

    assert flow.statuses() == {
        "parts[0]": "failed",
        "parts[1]": "pending",
        "gather": "cancelled",
        "tidy": "blocked",
    }
    flow.complete("parts[1]", "fine")
    assert [part["status"] for part in told(flow.complete("tidy"))["parts"]] == ["failed", "completed"]


def test_a_failed_source_cancels_its_fan_out_and_what_follows(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT), GATHER)

    flow.fail("split")

    assert flow.statuses() == {"split": "failed", "parts": "cancelled", "gather": "cancelled"}
    assert flow.view.progress == 1.0


def test_a_revived_source_is_fanned_out_after_all(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT), GATHER)
    flow.fail("split")

    flow.flows.revive(flow.id)

    assert flow.statuses() == {"split": "pending", "parts": "blocked", "gather": "blocked"}
    flow.complete("split", {"limits": [1]})
    flow.drain()
    assert flow.status == "completed"


@pytest.mark.parametrize(("revived_after", "status"), [(99, "failed"), (101, "pending")])
def test_a_deadline_binds_parts_made_after_a_revival_unless_it_had_passed_by_then(
    tasks: Builder, revived_after: float, status: str
) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT, deadline=iso(tasks.dispatcher.clock.wall() + 100)))
    flow.fail("split")
    tasks.advance(revived_after)
    flow.flows.revive(flow.id)
    tasks.advance(10)

    flow.complete("split", {"limits": [1]})
    tasks.dispatcher.ledger.expire()

    assert flow.statuses() == {"split": "completed", "parts[0]": status}


def test_a_revived_part_is_waited_for_again(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT), GATHER)
    flow.complete("split", {"limits": [1, 2]})
    flow.fail("parts[1]")
    flow.complete("parts[0]")
    assert flow.status == "failed"

    flow.flows.revive(flow.id)

    assert flow.statuses() == {
        "split": "completed", "parts[0]": "completed", "parts[1]": "pending", "gather": "blocked",
    }  # fmt: skip
    flow.drain()
    assert flow.status == "completed"


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_who_was_revived_in_spite_of_a_lost_part_waits_for_the_others_only(tasks: Builder, end: str) -> None:
    flow = Flow(tasks, fan(over=[1, 2]), GATHER)
    if end == "fail":
        flow.fail("parts[0]")
    else:
        tasks.cancel(flow.task_ids["parts[0]"] or 0)
    tasks.revive(flow.task_ids["gather"] or 0)
    assert flow.statuses()["gather"] == "blocked"

    flow.complete("parts[1]", "fine")

    lost = "failed" if end == "fail" else "cancelled"
    assert [part["status"] for part in told(flow.complete("gather"))["parts"]] == [lost, "completed"]


def test_who_needs_all_waits_for_a_part_that_was_revived_before_it(tasks: Builder) -> None:
    tidy = {"key": "tidy", "depends_on": ["parts", "long"], "run_if": "all_finished"}
    flow = Flow(tasks, fan(over=[1, 2]), {"key": "long"}, GATHER, tidy)
    flow.fail("parts[0]")
    flow.complete("parts[1]", "fine")

    tasks.revive(flow.task_ids["parts[0]"] or 0)
    tasks.revive(flow.task_ids["gather"] or 0)
    flow.complete("long")

    assert [flow.statuses()[key] for key in ("gather", "tidy")] == ["blocked", "blocked"]
    flow.complete("parts[0]", "late")
    assert [part["result"] for part in told(flow.complete("gather"))["parts"]] == ["late", "fine"]
    flow.drain()
    assert flow.status == "completed"


def test_a_revived_part_that_fails_again_cancels_who_needs_all(tasks: Builder) -> None:
    flow = Flow(tasks, fan(over=[1, 2]), GATHER)
    flow.fail("parts[0]")
    flow.complete("parts[1]")
    for key in ("parts[0]", "gather"):
        tasks.revive(flow.task_ids[key] or 0)

    flow.fail("parts[0]")

    assert flow.statuses() == {"parts[0]": "failed", "parts[1]": "completed", "gather": "cancelled"}


def test_a_revived_part_waits_for_the_parents_of_its_fan_out_that_live(tasks: Builder) -> None:
    flow = Flow(tasks, {"key": "a"}, {"key": "b"}, fan(depends_on=["a", "b"]), GATHER)
    flow.fail("a")

    tasks.revive(flow.task_ids["parts[1]"] or 0)

    assert flow.statuses()["parts[1]"] == "blocked"
    flow.complete("b")
    assert flow.statuses()["parts[1]"] == "pending"
    flow.drain()
    assert flow.statuses() == {
        "a": "failed", "b": "completed", "parts[0]": "cancelled", "parts[1]": "completed", "gather": "cancelled",
    }  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_that_waits_again_is_not_made_twice(tasks: Builder, whole: bool) -> None:
    parts = fan(over=RESULT, depends_on=["lost"], run_if="all_finished")
    flow = Flow(tasks, SPLIT, {"key": "lost"}, parts, GATHER)
    flow.fail("lost")
    flow.complete("split", {"limits": [1, 2]})
    flow.complete("parts[0]")
    flow.fail("parts[1]")

    if whole:
        flow.flows.revive(flow.id)
    else:
        for key in ("lost", "parts[1]", "gather"):
            tasks.revive(flow.ids()[key] or 0)

    assert flow.statuses() == {
        "split": "completed",
        "lost": "pending",
        "parts[0]": "completed",
        "parts[1]": "blocked",
        "gather": "blocked",
    }
    assert len(flow.drain()) == 3
    assert flow.status == "completed"


def test_a_part_that_somebody_dropped_is_told_without_a_status(tasks: Builder) -> None:
    flow = Flow(tasks, fan(over=[1, 2]), GATHER)
    flow.complete("parts[1]", "fine")
    flow.fail("parts[0]")
    tasks.dispatcher.ledger.dead_letters.drop(Drop(status="failed"))

    flow.flows.revive(flow.id)

    assert told(flow.complete("gather")) == {
        "parts": [
            {"status": None, "result": None, "error": None},
            {"status": "completed", "result": "fine", "error": None},
        ]
    }


def test_cancelling_takes_a_fan_out_that_is_not_known_yet(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT), GATHER)

    flow.flows.cancel(flow.id)

    assert set(flow.statuses().values()) == {"cancelled"}
    assert flow.status == "cancelled"


def test_fan_outs_follow_each_other_without_an_edge_for_every_pair(tasks: Builder) -> None:
    second = fan("second", over=list(range(100)), depends_on=["parts"])
    flow = Flow(tasks, fan(over=list(range(100))), second, {"key": "end", "depends_on": ["second"]})
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM edges")[0][0] < 500

    grants = flow.drain()

    assert flow.status == "completed"
    assert len(told(grants[100])["parts"]) == 100


def test_ten_thousand_parts_are_made_from_a_result(tasks: Builder) -> None:
    flow = Flow(tasks, SPLIT, fan(over=RESULT), GATHER)

    flow.complete("split", {"limits": list(range(10_000))})
    grants = flow.drain()

    assert len(grants) == 10_001
    assert len(told(grants[-1])["parts"]) == 10_000
    assert flow.status == "completed"
