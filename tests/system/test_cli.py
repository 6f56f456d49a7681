"""./baton against a real dispatcher: what each verb does, shows, and exits with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import exits
from shared.cli.reference import verbs
from shared.settings import ROOT
from tests.support.scene import Ran, Scene, Terminal, scene

PAIR = '{"name": "%s", "tasks": [{"key": "a", "type": "%s"}, {"key": "b", "type": "%s", "depends_on": ["a"]}]}'


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One dispatcher; each test has task types, names and queues of its own."""
    with scene(tmp_path_factory.mktemp("cli")) as made:
        made.exchange("worker-1")
        yield made


def said(ran: Ran) -> str:
    """What it printed, if it went well."""
    assert (ran.code, ran.err) == (exits.OK, ""), ran
    return ran.out


# --- tasks


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


def test_a_listing_goes_on_where_it_ended(stage: Scene) -> None:
    ids = [stage.submit("pages") for _ in range(3)]

    first = said(stage.run("tasks", "list", "--type", "pages", "--limit", "2"))
    rest = stage.run("tasks", "list", "--type", "pages", "--after", str(ids[1]), "--json").json

    assert first.splitlines()[-1] == f"more: --after {ids[1]}"
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
    absent = stage.run("tasks", "wait", str(good), "999999")

    assert fine.code == exits.OK and "answer 42" in fine.out
    assert both.code == exits.FAILED
    assert [task["task_id"] for task in both.json["tasks"]] == [good, bad]
    assert late.code == exits.TIMED_OUT and "timed out" in late.err
    assert absent == (exits.NOT_FOUND, "", "there is no task 999999\n")


def test_waiting_can_be_interrupted(stage: Scene) -> None:
    with stage.terminal("tasks", "wait", str(stage.submit("endless"))) as screen:
        screen.expect("1 task(s)")
        screen.interrupt()
        assert screen.ended() == exits.INTERRUPTED
        assert "interrupted" in screen.shown


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


def test_a_task_that_does_not_run_is_explained(stage: Scene) -> None:
    task_id = stage.submit("later", delay_seconds=3600.0)

    told = said(stage.run("tasks", "explain", str(task_id)))

    assert (
        "it is not due before" in told and "in about 1h00m" in told.replace("59m", "1h00m")[:400]
    ) or "59m" in told
    assert stage.run("tasks", "explain", str(task_id), "--json").json["reason"] == "not_due"


def test_a_blocked_task_is_explained_by_what_it_waits_for(stage: Scene) -> None:
    parents = [stage.submit("parent"), stage.submit("parent")]
    child = stage.submit("child", depends_on=parents)
    stage.complete(stage.claim("parent"))

    told = said(stage.run("tasks", "explain", str(child)))

    assert told.splitlines()[-1].split(maxsplit=2) == ["waits", "for", f"{parents[1]} (pending)"]


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

    assert added.code == exits.OK and "added: schedule life, first run in " in added.out
    assert (taken.code, taken.err.count("\n")) == (exits.REFUSED, 1)
    assert paused["paused"] and "paused" in listed and "every 1h" in listed
    assert resumed.startswith("schedule life runs again in ")
    assert stage.client.task(ran["task_id"])["payload"] == {"n": 1}
    assert "by hand" in shown and str(ran["task_id"]) in shown
    assert removed.code == exits.OK
    assert stage.run("schedules", "show", "life").code == exits.NOT_FOUND


def test_a_schedule_can_be_written_in_a_file_and_options_win(stage: Scene, tmp_path: Path) -> None:
    flow = tmp_path / "flow.toml"
    flow.write_text('[[tasks]]\nkey = "a"\ntype = "tick"\n')
    whole = 'name = "file"\ncron = "0 2 * * *"\noverlap = "skip"\n[task]\ntype = "tick"\npriority = 3\n'

    first = stage.run("schedules", "add", "--file", "-", "--timezone", "Asia/Tokyo", "--json", stdin=whole).json
    second = stage.run("schedules", "add", "flowing", "--cron", "0 2 * * *", "--flow", str(flow), "--json").json

    assert (first["name"], first["timezone"], first["task"]["priority"]) == ("file", "Asia/Tokyo", 3)
    assert second["flow"]["tasks"][0]["key"] == "a"
    assert "submitted: flow " in said(stage.run("schedules", "run", "flowing"))


# --- workers the dispatcher knows


def test_workers_are_listed_paused_resumed_drained_and_removed(stage: Scene) -> None:
    stage.exchange("w-life")

    said(stage.run("workers", "pause", "w-life"))
    paused = said(stage.run("workers", "list"))
    said(stage.run("workers", "resume", "w-life-id"))
    drained = stage.run("workers", "drain", "w-life", "--json").json
    living = stage.run("workers", "remove", "w-life", "--yes")
    stage.exchange("w-life", state="stopped")
    removed = stage.run("workers", "remove", "w-life", "--yes")

    assert [line.split()[1] for line in paused.splitlines() if line.startswith("w-life")] == ["paused"]
    assert drained["state"] == "draining"
    assert (living.code, living.err.count("\n")) == (exits.REFUSED, 1)
    assert removed.out == "worker w-life is forgotten\n"
    assert stage.run("workers", "pause", "w-life").code == exits.NOT_FOUND


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
    paused = said(stage.run(noun, "pause", f"{noun}-1", f"{noun}-2"))
    listed = said(stage.run("queues", "list"))
    resumed = stage.run(noun, "resume", f"{noun}-1", "--json").json
    wrong = stage.run(noun, "pause", "Not A Name")

    assert paused == f"{kind} {noun}-1 is paused\n{kind} {noun}-2 is paused\n"
    assert f"{noun}-1" in listed and "paused" in listed
    assert resumed == {kind: f"{noun}-1", "paused": False}
    assert (wrong.code, wrong.err.count("\n")) == (exits.REFUSED, 1)


def test_limits_are_set_listed_and_removed(stage: Scene) -> None:
    said(stage.run("limits", "set", "key", "mail", "--running", "2", "--starts", "10", "--per", "1m"))
    listed = said(stage.run("limits", "list"))
    removed = stage.run("limits", "remove", "key", "mail", "--yes")
    absent = stage.run("limits", "remove", "key", "mail", "--yes")

    assert ["key", "mail", "0", "2", "10", "in", "60s"] in [line.split() for line in listed.splitlines()]
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

    refused = stage.run("dead", "drop", str(bad), str(good), "--yes")
    absent = stage.run("dead", "drop", "999999", "--yes")
    dropped = stage.run("dead", "drop", str(bad), "--yes")

    assert (refused.code, absent.code, dropped.code) == (exits.REFUSED, exits.NOT_FOUND, exits.OK)
    assert stage.client.task(good)["result"] == 1
    assert stage.run("tasks", "show", str(bad)).code == exits.NOT_FOUND


@pytest.mark.parametrize("words", [["drop", "--yes"], ["revive"], ["drop", "3", "--type", "x", "--yes"]])
def test_many_tasks_are_never_meant_by_saying_nothing(stage: Scene, words: list[str]) -> None:
    assert stage.run("dead", *words).code == exits.USAGE


# --- the whole


def test_stats_and_top_show_the_whole(stage: Scene) -> None:
    stage.submit("topped")
    grant = stage.claim("topped")
    stage.progress(grant, 0.5, "half way")

    counts = said(stage.run("stats"))
    frame = said(stage.run("top"))
    told = stage.run("top", "--json").json

    assert "in-progress" in counts and "lost" in counts
    assert "##########.........." in frame and "half way" in frame and "hand-topped" in frame
    assert set(told) == {"stats", "workers", "tasks"}
    assert stage.run("stats", "--json").json["tasks"]["in-progress"] >= 1


@pytest.mark.parametrize("ending", [lambda screen: screen.type("q"), lambda screen: screen.interrupt()])
def test_top_lives_until_somebody_ends_it(stage: Scene, ending: Callable[[Terminal], None]) -> None:
    with stage.terminal("top") as screen:
        screen.expect("in the last minute")
        ending(screen)
        assert screen.ended() == exits.OK


# --- what holds for all of them


def test_what_destroys_asks_first(stage: Scene) -> None:
    task_id = stage.submit("asked")
    words = ("tasks", "cancel", str(task_id))

    piped = stage.run(*words)
    with stage.terminal(*words) as screen:
        screen.expect(f"Cancel task {task_id}? [y/N]")
        screen.type("n\n")
        assert screen.ended() == exits.INTERRUPTED
    assert stage.client.task(task_id)["status"] == "pending"
    with stage.terminal(*words) as screen:
        screen.expect("[y/N]")
        screen.type("y\n")
        assert screen.ended() == exits.OK

    assert (piped.code, piped.err.count("\n")) == (exits.USAGE, 1)
    assert "--yes" in piped.err
    assert stage.client.task(task_id)["status"] == "cancelled"


def minimal(path: str) -> list[str]:
    """A call of a verb that is right as it stands."""
    words: dict[str, list[str]] = {
        "flows submit": ["examples/flow.toml"],
        "schedules add": ["x", "--every", "1h", "--type", "x"],
        "workers start": ["1"],
        "limits set": ["type", "x", "--running", "1"],
        "limits remove": ["type", "x"],
        "dead revive": ["1"],
        "dead drop": ["1"],
    }
    noun, _, name = path.removeprefix("baton ").partition(" ")
    takes_nothing = name in ("list", "") or path.endswith("workers check")
    return [noun, *([name] if name else []), *words.get(f"{noun} {name}", [] if takes_nothing else ["1"])]


ASKING = [
    (path, [option.name for option in command.params])
    for path, command in verbs()
    if path not in ("baton completion", "baton workers check", "baton workers stop")  # these ask no dispatcher
]


@pytest.mark.parametrize(("path", "options"), ASKING, ids=[path for path, _ in ASKING])
def test_every_verb_says_when_the_dispatcher_does_not_answer(stage: Scene, path: str, options: list[str]) -> None:
    yes = ["--yes"] if "yes" in options else []
    ran = stage.run(*minimal(path), *yes, "--url", "http://127.0.0.1:9")

    assert (ran.code, ran.out, ran.err.count("\n")) == (exits.UNREACHABLE, "", 1)
    assert "http://127.0.0.1:9 does not answer" in ran.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "Usage"),
        (["tasks"], "Usage"),
        (["nonsense"], "nonsense"),
        (["tasks", "list", "--status", "odd"], "baton tasks list --help"),
        (["tasks", "show", "abc"], "abc"),
        (["tasks", "show", "0"], "0"),
        (["tasks", "wait"], "ID"),
        (["tasks", "wait", "-"], "no ids"),
        (["tasks", "wait", "1", "--timeout", "soon"], "5m"),
        (["tasks", "revive", "1", "--payload", "{"], "--payload is not JSON"),
        (["tasks", "list", "--url", "localhost:5000"], "http://host:port"),
        (["flows", "submit", "/nonexistent"], "/nonexistent cannot be read"),
        (["schedules", "add", "--every", "1h", "--type", "x"], "NAME"),
        (["workers", "stop", "--yes"], "--all"),
        (["workers", "start", "0"], "0"),
        (["limits", "set", "colour", "x", "--running", "1"], "colour"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what(stage: Scene, words: list[str], named: str) -> None:
    ran = stage.run(*words)

    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert named in ran.err
    assert named == "Usage" or ran.err.count("\n") == 1


def test_who_reads_may_stop_reading(stage: Scene) -> None:
    with stage.start("tasks", "list", "--limit", "500") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        process.stdout = None
    assert (process.returncode, told) == (exits.OK, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_completion(stage: Scene, shell: str) -> None:
    assert "_BATON_COMPLETE" in said(stage.run("completion", shell))


# What bash does when somebody presses Tab.
TAB = """
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _baton_completion ./baton
    echo "${COMPREPLY[*]}"
}
source "$1"
cd "$2"
try ./baton sch; try ./baton schedules re; try ./baton tasks list --st
"""


def test_bash_completes_nouns_verbs_and_options(stage: Scene, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(said(stage.run("completion", "bash")))

    command = ["bash", "-c", TAB, "bash", str(script), str(ROOT)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert shown.splitlines() == ["schedules", "resume remove", "--status"]
