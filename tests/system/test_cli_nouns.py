"""The other nouns of ./baton against a real dispatcher: flows, schedules, workers, queues, limits, and so on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import exits
from tests.support.scene import Scene, said, scene

PAIR = '{"name": "%s", "tasks": [{"key": "a", "type": "%s"}, {"key": "b", "type": "%s", "depends_on": ["a"]}]}'


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One dispatcher; each test has task types, names and queues of its own."""
    with scene(tmp_path_factory.mktemp("cli")) as made:
        yield made


# --- flows


def test_a_flow_goes_from_a_file_through_its_life(stage: Scene, tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(PAIR % ("life", "f1", "f1"))

    submitted = stage.run("flows", "submit", str(file), "--json").json
    flow_id = str(submitted["flow_id"])
    drawn = said(stage.run("flows", "show", "life"))
    cancelled = stage.run("flows", "cancel", "life", "--yes")
    again = stage.run("flows", "cancel", flow_id, "--yes")
    revived = stage.run("flows", "revive", flow_id, "--json").json
    stage.complete(stage.claim("f1"))
    stage.complete(stage.claim("f1"))

    assert [line.split()[:2] for line in drawn.splitlines()[-2:]] == [["a", "pending"], ["b", "blocked"]]
    assert cancelled.out == f"flow {flow_id} is cancelled\n"
    assert again.code == exits.REFUSED
    assert revived["status"] == "running"
    assert stage.run("flows", "show", "life", "--json").json == stage.client.flow(int(flow_id))
    assert [
        "life" in line and "completed" in line for line in said(stage.run("flows", "list")).splitlines()
    ].count(1)
    assert stage.run("flows", "list", "--json", "--limit", "1").json["flows"][0]["name"] == "life"


def test_a_flow_comes_in_either_language_and_form(stage: Scene) -> None:
    toml = '[[tasks]]\nkey = "a"\ntype = "f2"\nrun_at = 2030-01-01T00:00:00Z\n'
    theirs = '{"jobId": "1", "tasks": [{"taskId": "a", "type": "f2"}], "dependencies": {}}'

    for text, name in ((toml, "toml"), (theirs, "theirs")):
        answer = stage.run("flows", "submit", "-", "--name", name, "--json", stdin=text).json
        assert stage.client.flow(answer["flow_id"])["name"] == name


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ('{"tasks": [', exits.USAGE, "standard input is not JSON"),
        ("tasks = [", exits.USAGE, "standard input is not TOML"),
        ("[]", exits.USAGE, "standard input is not an object"),
        ("", exits.REFUSED, "tasks"),
        ('{"tasks": [{"key": "a", "type": "x", "depends_on": ["a"]}]}', exits.REFUSED, "a -> a"),
    ],
)
def test_a_flow_that_is_wrong_says_where(stage: Scene, text: str, code: int, named: str) -> None:
    ran = stage.run("flows", "submit", "-", stdin=text)

    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert named in ran.err


def test_a_name_means_the_newest_flow(stage: Scene) -> None:
    ids = [stage.client.submit_flow({"name": "twice", "tasks": [{"key": "a", "type": "f3"}]}) for _ in range(2)]

    assert stage.run("flows", "show", "twice", "--json").json["flow_id"] == ids[1]["flow_id"]
    assert stage.run("flows", "show", "nobody").code == exits.NOT_FOUND
    assert stage.run("flows", "show", "999999").code == exits.NOT_FOUND


def test_a_watched_flow_tells_its_progress_until_it_ends(stage: Scene) -> None:
    stage.client.submit_flow({"name": "seen", "tasks": [{"key": "a", "type": "f4"}, {"key": "b", "type": "f4"}]})
    with stage.start("flows", "show", "seen", "--watch") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        stage.complete(stage.claim("f4"))
        stage.complete(stage.claim("f4"))
        rest = process.stdout.read().splitlines()

    assert first.endswith("running  0%\n")
    assert rest[-1].endswith("completed  100%")


def test_a_flow_is_waited_for_and_the_code_tells_how_it_ended(stage: Scene) -> None:
    for name in ("good", "bad"):
        stage.client.submit_flow({"name": name, "tasks": [{"key": "a", "type": f"f5-{name}"}]})
    late = stage.run("flows", "wait", "good", "--timeout", "0.1s")
    with stage.start("flows", "wait", "good") as process:
        stage.complete(stage.claim("f5-good"))
        good, _ = process.communicate()
    stage.fail(stage.claim("f5-bad"))

    bad = stage.run("flows", "wait", "bad")
    watched = stage.run("flows", "show", "bad", "--watch")

    assert (late.code, late.err.count("\n")) == (exits.TIMED_OUT, 1)
    assert "a    pending" in late.out
    assert (process.returncode, "100%, 1 of 1 task(s) ended" in good) == (exits.OK, True)
    assert (bad.code, watched.code) == (exits.FAILED, exits.FAILED)
    assert "ValueError: row 17 is empty" in bad.out
    assert stage.run("flows", "wait", "bad", "--json").json["tasks"][0]["status"] == "failed"
    assert stage.run("flows", "wait", "nobody").code == exits.NOT_FOUND


def test_cancelling_says_what_the_flow_has_become(stage: Scene) -> None:
    tasks = [{"key": "a", "type": "f6"}, {"key": "b", "type": "f6-later"}]
    flow_id = stage.client.submit_flow({"name": "half", "tasks": tasks})["flow_id"]
    stage.fail(stage.claim("f6"))

    cancelled = said(stage.run("flows", "cancel", "half", "--yes"))
    drawn = said(stage.run("flows", "show", "half"))

    assert cancelled == f"what had not ended of flow {flow_id} is cancelled; the flow is failed\n"
    assert "ValueError: row 17 is empty" in drawn and "cancelled on request" in drawn


# --- schedules


def test_a_schedule_goes_through_its_life(stage: Scene) -> None:
    added = stage.run("schedules", "add", "life", "--every", "1h", "--type", "tick", "--payload", '{"n": 1}')
    taken = stage.run("schedules", "add", "life", "--every", "1h", "--type", "tick")
    paused = stage.run("schedules", "pause", "life", "--json").json
    listed = said(stage.run("schedules", "list"))
    resumed = said(stage.run("schedules", "resume", "life"))
    ran = stage.run("schedules", "run", "life", "--json").json
    shown = said(stage.run("schedules", "show", "life"))
    removed = stage.run("schedules", "remove", "life", "--yes")

    assert added.code == exits.OK and "added: schedule life, next run in " in added.out
    assert taken.code == exits.REFUSED
    assert taken.err == (
        "refused: there is a schedule 'life' already; change it with ./baton schedules change life\n"
    )
    assert paused["paused"] and "paused" in listed and "every 1h" in listed
    assert resumed.startswith("schedule life goes on, next run in ")
    assert stage.client.task(ran["task_id"])["payload"] == {"n": 1}
    assert "by hand" in shown and str(ran["task_id"]) in shown
    assert removed.code == exits.OK
    assert stage.run("schedules", "show", "life").code == exits.NOT_FOUND


def test_the_times_of_a_schedule_can_be_checked_on_a_calendar(stage: Scene) -> None:
    monday = ("--cron", "0 6 * * 1", "--timezone", "Europe/Berlin")

    added = stage.run("schedules", "add", "monday", *monday, "--type", "tick")
    said(stage.run("schedules", "run", "monday"))
    shown = said(stage.run("schedules", "show", "monday"))

    assert re.search(r"in .* \(Mon \d{4}-\d\d-\d\d 06:00 Europe/Berlin\)$", added.out)
    assert len(re.findall(r"in .* \(Mon \d{4}-\d\d-\d\d 06:00 Europe/Berlin\)", shown)) == 5
    assert re.match(r"\w{3} \d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? Europe/Berlin  fired ", shown.splitlines()[-1])


def test_a_schedule_can_be_written_in_a_file_and_options_win(stage: Scene, tmp_path: Path) -> None:
    flow = tmp_path / "flow.toml"
    flow.write_text('[[tasks]]\nkey = "a"\ntype = "tick"\n')
    whole = 'name = "file"\ncron = "0 2 * * *"\noverlap = "skip"\n[task]\ntype = "tick"\npriority = 3\n'

    first = stage.run("schedules", "add", "--file", "-", "--timezone", "Asia/Tokyo", "--json", stdin=whole).json
    second = stage.run("schedules", "add", "flowing", "--cron", "0 2 * * *", "--flow", str(flow), "--json").json

    assert (first["name"], first["timezone"], first["task"]["priority"]) == ("file", "Asia/Tokyo", 3)
    assert second["flow"]["tasks"][0]["key"] == "a"
    assert "submitted: flow " in said(stage.run("schedules", "run", "flowing"))


def test_what_is_given_of_a_schedule_is_changed(stage: Scene, tmp_path: Path) -> None:
    flow = tmp_path / "flow.toml"
    flow.write_text('[[tasks]]\nkey = "a"\ntype = "tick"\n')
    change = ("schedules", "change", "changing")
    stage.run("schedules", "add", "changing", "--cron", "0 2 * * *", "--type", "noop")

    told = said(stage.run(*change, "--timezone", "Asia/Tokyo"))
    zoned = stage.client.schedule("changing")
    stage.run(*change, "--every", "1h", "--type", "prime", "--payload", '{"limit": 9}', "--overlap", "skip")
    period = stage.client.schedule("changing")
    zone = stage.run(*change, "--timezone", "Asia/Tokyo")
    flowing = stage.run(*change, "--flow", str(flow), "--json").json
    absent = stage.run("schedules", "change", "nobody", "--every", "1h")

    assert told.startswith("changed: schedule changing, next run in ") and "02:00 Asia/Tokyo" in told
    assert (zoned["cron"], zoned["task"]) == ("0 2 * * *", {"type": "noop"})
    assert (period["cron"], period["every_seconds"], period["overlap"]) == (None, 3600.0, "skip")
    assert period["task"] == {"type": "prime", "payload": {"limit": 9}}
    assert (zone.code, "goes with --cron" in zone.err) == (exits.USAGE, True)
    assert flowing["flow"]["tasks"][0]["type"] == "tick" and "task" not in flowing
    assert absent.code == exits.NOT_FOUND


def test_options_win_over_the_other_kind_in_a_file(stage: Scene) -> None:
    whole = 'name = "winning"\ncron = "0 2 * * *"\n[task]\ntype = "tick"\n'

    added = stage.run("schedules", "add", "--file", "-", "--every", "1h", "--json", stdin=whole).json

    assert (added["cron"], added["every_seconds"]) == (None, 3600.0)


# --- workers the dispatcher knows


def test_workers_are_listed_paused_resumed_drained_and_removed(stage: Scene) -> None:
    stage.exchange("w-life")

    said(stage.run("workers", "pause", "w-life"))
    paused = said(stage.run("workers", "list"))
    resumed = said(stage.run("workers", "resume", "w-life-id"))
    drained = stage.run("workers", "drain", "w-life", "--json").json
    living = stage.run("workers", "remove", "w-life", "--yes")
    stage.exchange("w-life", state="stopped")
    removed = stage.run("workers", "remove", "w-life", "--yes")

    assert [line.split()[1] for line in paused.splitlines() if line.startswith("w-life")] == ["paused"]
    assert resumed == "worker w-life takes tasks again\n"
    assert drained["state"] == "draining"
    assert (living.code, living.err.count("\n")) == (exits.REFUSED, 1)
    assert removed.out == "worker w-life is forgotten\n"
    assert stage.run("workers", "pause", "w-life").code == exits.NOT_FOUND


def test_removing_a_worker_says_what_is_forgotten_with_it(stage: Scene) -> None:
    stage.exchange("w-known", state="stopped")

    refused = stage.run("workers", "remove", "w-known")

    assert "forget w-known, and which attempts were made there?" in refused.err
    assert (refused.code, "w-known" in said(stage.run("workers", "list", "--gone"))) == (exits.USAGE, True)


def test_workers_that_are_gone_are_listed_on_request(stage: Scene) -> None:
    stage.exchange("w-gone", state="stopped")

    assert "w-gone" not in said(stage.run("workers", "list"))
    assert "w-gone" in said(stage.run("workers", "list", "--gone"))
    assert any(one["name"] == "w-gone" for one in stage.run("workers", "list", "--gone", "--json").json["workers"])


def test_a_name_with_blanks_and_slashes_is_a_name(stage: Scene) -> None:
    assert stage.run("workers", "pause", "no such/one?").code == exits.NOT_FOUND


# --- queues, types, limits


@pytest.mark.parametrize("noun", ["queues", "types"])
def test_queues_and_types_are_paused_and_resumed(stage: Scene, noun: str) -> None:
    kind = noun.removesuffix("s")
    paused = stage.run(noun, "pause", f"{noun}-1", f"{noun}-2")
    listed = said(stage.run("queues", "list"))
    resumed = stage.run(noun, "resume", f"{noun}-1", "--json").json
    wrong = stage.run(noun, "pause", "Not A Name")

    assert paused.out == f"{kind} {noun}-1 is paused\n{kind} {noun}-2 is paused\n"
    assert paused.err.startswith(f"warning: nothing is known of a {kind} '{noun}-1' yet")
    assert f"{noun}-1" in listed and "paused" in listed
    assert resumed == {kind: f"{noun}-1", "paused": False}
    assert (wrong.code, wrong.err.count("\n")) == (exits.REFUSED, 1)


def test_limits_are_set_listed_and_removed(stage: Scene) -> None:
    said(stage.run("limits", "set", "key", "mail", "--running", "2", "--starts", "10", "--per", "1m"))
    listed = said(stage.run("limits", "list"))
    removed = stage.run("limits", "remove", "key", "mail", "--yes")
    absent = stage.run("limits", "remove", "key", "mail", "--yes")

    assert ["key", "mail", "0", "2", "10", "in", "1m"] in [line.split() for line in listed.splitlines()]
    assert (removed.code, absent.code) == (exits.OK, exits.NOT_FOUND)
    assert stage.run("limits", "set", "key", "mail").code == exits.USAGE
    assert stage.run("limits", "set", "key", "mail", "--starts", "3").code == exits.USAGE


# --- dead letters


def test_dead_letters_are_listed_revived_and_dropped_by_filter(stage: Scene) -> None:
    ids = [stage.failed("dead-1", tags=["night"]) for _ in range(3)]

    listed = said(stage.run("dead", "list", "--type", "dead-1", "--error-type", "ValueError"))
    revived = stage.run("dead", "revive", "--type", "dead-1", "--tag", "night", "--json").json
    for _ in ids:
        stage.fail(stage.claim("dead-1"))
    dropped = stage.run("dead", "drop", "--type", "dead-1", "--yes")

    assert [line.split()[0] for line in listed.splitlines()] == ["task", *map(str, reversed(ids))]
    assert revived == {"revived": 3}
    assert dropped.out == "dropped: 3 task(s)\n"
    assert said(stage.run("dead", "list", "--type", "dead-1")) == "no dead letters\n"


def test_dropping_by_id_never_costs_a_result(stage: Scene) -> None:
    stage.submit("dead-2")
    good = stage.complete(stage.claim("dead-2"), 1)
    bad = stage.failed("dead-2")

    refused = stage.run("dead", "drop", str(good), "--yes")
    absent = stage.run("dead", "drop", "999999", "--yes")
    dropped = stage.run("dead", "drop", str(bad), "--yes")

    assert (refused.code, absent.code, dropped.code) == (exits.REFUSED, exits.NOT_FOUND, exits.OK)
    assert stage.client.task(good)["result"] == 1
    assert stage.run("tasks", "show", str(bad)).code == exits.NOT_FOUND


def test_a_wrong_id_does_not_keep_other_dead_letters_from_being_done(stage: Scene) -> None:
    first, second = stage.failed("dead-3"), stage.failed("dead-3")
    live = stage.submit("dead-4")

    revived = stage.run("dead", "revive", str(first), "999999")
    stage.fail(stage.claim("dead-3"))
    dropped = stage.run("dead", "drop", str(live), str(first), "999999", str(second), "--yes")

    assert (revived.code, revived.err) == (exits.NOT_FOUND, "there is no task 999999\n")
    assert revived.out == "revived: 1 task(s)\n"
    assert (dropped.code, dropped.out) == (exits.REFUSED, "dropped: 2 task(s)\n")
    assert dropped.err == (f"refused: task {live} is pending, no dead letter\nthere is no task 999999\n")
    assert stage.client.tasks(type="dead-3")["tasks"] == []
    assert stage.client.task(live)["status"] == "pending"


def test_reviving_all_says_how_many_and_asks(stage: Scene) -> None:
    task_id = stage.failed("dead-5")
    many = len(stage.client.tasks(status="failed", limit=500)["tasks"])

    refused = stage.run("dead", "revive", "--all")
    unasked = stage.client.task(task_id)["status"]
    revived = stage.run("dead", "revive", "--all", "--yes")

    assert (refused.code, f"revive {many} failed task(s)?" in refused.err, unasked) == (
        exits.USAGE,
        True,
        "failed",
    )
    assert (revived.code, revived.out) == (exits.OK, f"revived: {many} task(s)\n")


@pytest.mark.parametrize("words", [["drop", "--yes"], ["revive"], ["drop", "3", "--type", "x", "--yes"]])
def test_many_tasks_are_never_meant_by_saying_nothing(stage: Scene, words: list[str]) -> None:
    assert stage.run("dead", *words).code == exits.USAGE
