"""./baton tasks against a real dispatcher: what each verb does, shows, and exits with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shared import exits
from shared.protocol import Submission
from tests.support.scene import Scene, said, scene


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One dispatcher; each test has task types, names and queues of its own."""
    with scene(tmp_path_factory.mktemp("cli")) as made:
        yield made


def test_tasks_are_listed_by_what_one_asks_for(stage: Scene) -> None:
    good, bad = stage.submit("list-good", tags=["mine"]), stage.failed("list-bad", tags=["mine"])

    both = said(stage.run("tasks", "list", "--tag", "mine"))
    failed = stage.run("tasks", "list", "--tag", "mine", "--status", "failed", "--json").json

    assert [line.split()[:3] for line in both.splitlines()] == [
        ["task", "type", "status"],
        [str(bad), "list-bad", "failed"],
        [str(good), "list-good", "pending"],
    ]
    assert "ValueError: row 17 is empty" in both
    assert failed == stage.client.tasks(tag="mine", status="failed")


def test_what_is_in_progress_may_be_called_running(stage: Scene) -> None:
    stage.submit("runs")
    grant = stage.claim("runs")

    listed = stage.run("tasks", "list", "--type", "runs", "--status", "running", "--json").json

    assert [task["task_id"] for task in listed["tasks"]] == [grant.task_id]


def test_a_listing_goes_on_where_it_ended(stage: Scene) -> None:
    ids = [stage.submit("pages") for _ in range(3)]

    first = stage.run("tasks", "list", "--type", "pages", "--limit", "2")
    rest = stage.run("tasks", "list", "--type", "pages", "--after", str(ids[1]), "--json").json

    assert [line.split()[0] for line in first.out.splitlines()] == ["task", str(ids[2]), str(ids[1])]
    assert first.err == f"more: --after {ids[1]}\n"
    assert [task["task_id"] for task in rest["tasks"]] == ids[:1]
    assert said(stage.run("tasks", "list", "--type", "nothing")) == "no tasks\n"


def test_a_task_is_shown_with_its_attempts_and_its_traceback(stage: Scene) -> None:
    task_id = stage.failed("shown", payload={"row": 17})

    shown = said(stage.run("tasks", "show", str(task_id)))

    for part in ('{"row":17}', "ValueError: row 17 is empty", "attempt  worker", "at row", "s ago"):
        assert part in shown
    assert stage.run("tasks", "show", str(task_id), "--json").json == stage.client.task(task_id)


def test_what_others_wrote_cannot_steer_the_terminal(stage: Scene) -> None:
    stage.submit("rude")
    grant = stage.claim("rude")
    stage.log(grant, "\x1b[2Jgone")
    stage.fail(grant, message="\x1b]0;title\x07[bold]x[/bold]")

    for words in (["show", str(grant.task_id)], ["logs", str(grant.task_id)], ["list", "--type", "rude"]):
        out = said(stage.run("tasks", *words))
        assert "\x1b" not in out and "\x07" not in out
    assert "[bold]x[/bold]" in said(stage.run("tasks", "show", str(grant.task_id)))


def test_a_watched_task_tells_each_change_until_it_ends(stage: Scene) -> None:
    stage.submit("watched")
    grant = stage.claim("watched")
    stage.progress(grant, 0.25, "a quarter")
    with stage.start("tasks", "show", str(grant.task_id), "--watch") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        stage.complete(grant, {"rows": 3})
        rest = process.stdout.read()

    assert first.split("  ") == [f"task {grant.task_id}", "in-progress", "25%", "a quarter\n"]
    assert rest.splitlines()[-1].split("  ") == [f"task {grant.task_id}", "completed", "100%", "rows 3"]
    assert process.returncode == exits.OK


def test_the_exit_code_tells_how_a_watched_task_ended(stage: Scene) -> None:
    bad = stage.failed("watched-bad")
    stage.submit("watched-good")
    good = stage.complete(stage.claim("watched-good"))

    codes = [stage.run("tasks", "show", str(task_id), "--watch").code for task_id in (bad, good)]

    assert codes == [exits.FAILED, exits.OK]
    assert stage.run("tasks", "show", str(bad)).code == exits.OK


def test_a_watched_task_is_redrawn_on_a_terminal(stage: Scene) -> None:
    stage.submit("drawn")
    grant = stage.claim("drawn")
    with stage.terminal("tasks", "show", str(grant.task_id), "-w") as screen:
        screen.expect("in-progress")
        stage.complete(grant)
        screen.expect("completed")
        assert screen.ended() == exits.OK


def test_waiting_tells_what_came_out(stage: Scene) -> None:
    stage.submit("waited")
    good = stage.complete(stage.claim("waited"), {"answer": 42})
    bad = stage.failed("waited")

    fine = stage.run("tasks", "wait", str(good))
    both = stage.run("tasks", "wait", "-", "--json", stdin=f"{good}\n{bad}\n")
    late = stage.run("tasks", "wait", str(stage.submit("waited")), "--timeout", "0.1s")
    absent = stage.run("tasks", "wait", "999999")

    assert fine.code == exits.OK and "answer 42" in fine.out
    assert both.code == exits.FAILED
    assert [task["task_id"] for task in both.json["tasks"]] == [good, bad]
    assert late.code == exits.TIMED_OUT and "timed out" in late.err
    assert absent == (exits.NOT_FOUND, "", "there is no task 999999\n")


def test_waiting_goes_on_for_those_that_there_are(stage: Scene) -> None:
    stage.submit("there")
    good = stage.complete(stage.claim("there"), {"answer": 42})
    bad = stage.failed("there")

    ran = stage.run("tasks", "wait", "999998", str(good), "999999", str(bad))

    assert ran.code == exits.NOT_FOUND
    assert "answer 42" in ran.out and "row 17" in ran.out
    assert ran.err.startswith("there is no task 999998\nthere is no task 999999\n")


def test_waiting_says_why_nothing_runs(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.cli.progress.QUIET_SECONDS", 0)
    monkeypatch.setattr("shared.cli.progress.ASK_SECONDS", 0)
    task_id = stage.submit("orphan", queue="nobodys")

    ran = stage.run("tasks", "wait", str(task_id), "--timeout", "0.8s")

    assert ran.code == exits.TIMED_OUT
    assert ran.err.count(f"task {task_id} waits: ") == 1
    assert "'orphan'" in ran.err


def test_waiting_says_that_the_dispatcher_is_away(tmp_path: Path) -> None:
    with scene(tmp_path) as alone, alone.terminal("tasks", "wait", str(alone.submit("orphan"))) as screen:
        screen.expect("1 task(s)")
        assert alone.baton.dispatcher is not None
        alone.baton.dispatcher.kill()
        screen.expect("does not answer")
        screen.expect("trying on for 30 s")
        screen.interrupt()


def test_waiting_can_be_interrupted(stage: Scene) -> None:
    with stage.terminal("tasks", "wait", str(stage.submit("endless"))) as screen:
        screen.expect("1 task(s)")
        screen.interrupt()
        assert screen.ended() == exits.INTERRUPTED
        assert "interrupted" in screen.shown


def test_all_that_fit_are_cancelled_unless_they_have_ended(stage: Scene) -> None:
    stage.failed("cancelled", tags=["wrong"])
    other = stage.submit("cancelled")
    later = stage.submit("cancelled", tags=["wrong"], delay_seconds=60)
    child = stage.submit("cancelled", tags=["wrong"], depends_on=[later])

    unasked = stage.run("tasks", "cancel", "--tag", "wrong")
    done = stage.run("tasks", "cancel", "--tag", "wrong", "--yes")
    again = stage.run("tasks", "cancel", "--tag", "wrong", "--yes")
    both = stage.run("tasks", "cancel", str(other), "--tag", "wrong", "--yes")

    assert (unasked.code, both.code) == (exits.USAGE, exits.USAGE)
    assert f"cancel tasks {later}, {child}?" in unasked.err
    assert (done.code, done.out) == (exits.OK, f"task {child} is cancelled\ntask {later} is cancelled\n")
    assert (again.code, again.err) == (exits.NOT_FOUND, "no task that fits is left to cancel\n")
    assert stage.client.task(other)["status"] == "pending"


def test_tasks_are_cancelled_and_revived_one_refusal_does_not_stop_the_others(stage: Scene) -> None:
    first, second = stage.submit("stopped"), stage.submit("stopped")

    some = stage.run("tasks", "cancel", str(first), "999999", str(second), "--yes")
    again = stage.run("tasks", "cancel", str(first), "--yes")
    revived = stage.run("tasks", "revive", "-", "--payload", '{"row": 1}', "--json", stdin=f"{first}")

    assert (some.code, some.err) == (exits.NOT_FOUND, "there is no task 999999\n")
    assert some.out == f"task {first} is cancelled\ntask {second} is cancelled\n"
    assert again.code == exits.REFUSED and again.err.startswith("refused: ")
    assert (revived.json["status"], revived.json["payload"]) == ("pending", {"row": 1})


def test_reviving_from_scratch_drops_the_checkpoint_and_asks(stage: Scene) -> None:
    task_id = stage.failed("scratch")
    assert stage.client.checkpoint(task_id)["state"] == {"row": 16}

    unasked = stage.run("tasks", "revive", str(task_id), "--from-scratch")
    said(stage.run("tasks", "revive", str(task_id), "--from-scratch", "--yes"))

    assert unasked.code == exits.USAGE and "--yes" in unasked.err
    assert stage.claim("scratch").checkpoint is None


def test_logs_are_printed_and_followed_until_the_task_ends(stage: Scene) -> None:
    stage.submit("talks")
    grant = stage.claim("talks")
    stage.log(grant, "one", "two")
    with stage.start("tasks", "logs", str(grant.task_id), "--follow") as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        stage.log(grant, "three")
        stage.complete(grant)
        rest = process.stdout.read()

    assert [line.split()[-1] for line in [*first, *rest.splitlines()]] == ["one", "two", "three"]
    assert said(stage.run("tasks", "logs", str(grant.task_id), "--attempt", "1")).count("\n") == 3
    assert stage.run("tasks", "logs", str(grant.task_id), "--json").json["lines"][0]["message"] == "one"
    quiet = stage.run("tasks", "logs", str(stage.submit("quiet")), "--json")
    assert quiet.json["lines"] == []


def test_what_a_task_has_put_out_and_saved_is_shown(stage: Scene) -> None:
    task_id, silent = stage.submit("saves"), str(stage.submit("silent"))
    grant = stage.claim("saves")
    stage.save(grant, 1, {"row": 7}, [2, 3], "\x9b1m")
    stage.save(grant, 2, {"row": 9, "seen": "x" * 999}, {"sum": 5})

    shown = said(stage.run("tasks", "show", str(task_id)))
    output = stage.run("tasks", "output", str(task_id))
    nothing = stage.run("tasks", "output", silent)

    facts = dict(line.split(maxsplit=1) for line in shown.splitlines() if line.startswith(("output", "check")))
    assert facts["output"] == f"3 chunk(s); ./baton tasks output {task_id}"
    assert re.match(r'2, saved [0-9.]+s ago: \{"row":9,"seen":"xxx.{,300}…$', facts["checkpoint"])
    assert output == (exits.OK, '[2,3]\n"\x9b1m"\n{"sum":5}\n', "")
    assert nothing == (exits.OK, "", f"task {silent} has no output\n")
    assert "checkpoint" not in said(stage.run("tasks", "show", silent))
    with stage.terminal("tasks", "output", str(task_id)) as terminal:
        terminal.expect('"sum"')
        assert terminal.ended() == exits.OK
        assert "\x9b" not in terminal.shown


def test_a_task_that_does_not_run_is_explained(stage: Scene) -> None:
    task_id = stage.submit("later", delay_seconds=3600.0)

    told = said(stage.run("tasks", "explain", str(task_id)))

    assert (
        "it is not due before" in told and "in about 1h00m" in told.replace("59m", "1h00m")[:400]
    ) or "59m" in told
    assert stage.run("tasks", "explain", str(task_id), "--json").json["reason"] == "not_due"


def test_a_full_limit_is_explained_as_it_was_set(stage: Scene) -> None:
    said(stage.run("limits", "set", "type", "rare", "--starts", "1", "--per", "1h"))
    first, second = stage.submit("rare"), stage.submit("rare")
    assert stage.claim("rare").task_id == first

    told = said(stage.run("tasks", "explain", str(second)))

    assert ["per", "1h"] in [line.split() for line in told.splitlines()]


def test_a_blocked_task_is_explained_by_what_it_waits_for(stage: Scene) -> None:
    parents = [stage.submit("parent"), stage.submit("parent")]
    child = stage.submit("child", depends_on=parents)
    stage.complete(stage.claim("parent"))

    told = said(stage.run("tasks", "explain", str(child)))

    assert told.splitlines()[-1].split(maxsplit=2) == ["waits", "for", f"{parents[1]} (pending)"]


def test_waiting_for_all_that_fit_is_waiting_for_those_that_there_are_now(stage: Scene) -> None:
    for _ in range(2):
        stage.submit("all-of-it", tags=["whole"])
    good = stage.complete(stage.claim("all-of-it"), {"answer": 42})
    open_ended = stage.run("tasks", "wait", "--tag", "whole", "--timeout", "0.1s")
    bad = stage.fail(stage.claim("all-of-it"))

    ran = stage.run("tasks", "wait", "--tag", "whole", "--type", "all-of-it", "--json")
    none = stage.run("tasks", "wait", "--tag", "whole", "--queue", "other")

    assert (open_ended.code, "timed out" in open_ended.err) == (exits.TIMED_OUT, True)
    assert (ran.code, [task["task_id"] for task in ran.json["tasks"]]) == (exits.FAILED, [good, bad])
    assert none == (exits.NOT_FOUND, "", "there is no such task\n")


def test_tasks_are_exported_over_all_pages_oldest_first(stage: Scene, tmp_path: Path) -> None:
    payload = msgspec.Raw(b'{"rate": 1.50}')
    ids = stage.client.submit_many([Submission("exported", payload=payload, tags=["out"])] * 1001)["task_ids"]
    stage.complete(stage.claim("exported"), {"rate": 1.25, "rows": [1, 2]})
    table, lines = tmp_path / "results.csv", tmp_path / "results.jsonl"

    told = said(stage.run("tasks", "export", "--tag", "out", "--output", str(table)))
    stage.run("tasks", "export", "--tag", "out", "--json", "--output", str(lines))
    header, first, *rest = table.read_text().splitlines()

    assert told == f"written: {table}, 1001 task(s)\n"
    assert header.split(",")[:6] == ["task_id", "status", "rate", "result.rate", "rows", "error"]
    assert first.startswith(f'{ids[0]},completed,1.50,1.25,"[1,2]",,1,hand-exported,')
    assert [int(row.partition(",")[0]) for row in rest] == ids[1:]
    assert msgspec.json.decode(lines.read_bytes().splitlines()[0]) == stage.client.task(ids[0])
    assert said(stage.run("tasks", "export", "--tag", "out", "--status", "completed")) == f"{header}\n{first}\n"


def test_an_export_that_cannot_be_written_leaves_nothing(stage: Scene, tmp_path: Path) -> None:
    stage.submit("unwritten")

    absent = stage.run("tasks", "export", "--type", "unwritten", "--output", str(tmp_path / "no" / "x.csv"))
    nothing = stage.run("tasks", "export", "--type", "nothing-like-it")

    assert (absent.code, absent.out) == (exits.UNWRITTEN, "")
    assert absent.err.endswith("x.csv cannot be written: No such file or directory\n")
    assert (nothing.code, nothing.out.count("\n"), nothing.err) == (exits.OK, 1, "no tasks\n")
