"""Settings: environment over file over default, and every problem named at once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from shared import settings as settings_module
from shared.settings import (
    Settings,
    SettingsProblem,
    env_text,
    exit_with_problems,
    load,
    load_or_exit,
    markdown,
    slips,
)

NO_FILE = Path("/nonexistent/.env")


def test_without_anything_the_defaults_count() -> None:
    assert load({}, NO_FILE) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("DISPATCHER_PORT=1\nWORKER_SLOTS=auto\nLEASE_SECONDS=\n")

    settings = load({"DISPATCHER_PORT": "2", "PATH": "/bin"}, file)

    assert (settings.dispatcher_port, settings.worker_slots, settings.lease_seconds) == (2, "auto", 100.0)


def test_every_problem_is_named_at_once() -> None:
    wrong = {"DISPATCHER_PORT": "70000", "DURABILITY": "some", "RETENTION_DAYS": "0", "WORKER_SLOTS": "0"}

    with pytest.raises(SettingsProblem) as problem:
        load(wrong, NO_FILE)

    lines = str(problem.value).splitlines()
    assert [line.split("=")[0] for line in lines] == [
        "DISPATCHER_PORT",
        "DURABILITY",
        "RETENTION_DAYS",
        "WORKER_SLOTS",
    ]
    assert "'70000'" in lines[0]


def test_queues_are_a_list_of_names() -> None:
    assert load({}, NO_FILE).queues is None
    assert load({"WORKER_QUEUES": " fast, slow ,"}, NO_FILE).queues == ["fast", "slow"]
    with pytest.raises(SettingsProblem, match="WORKER_QUEUES='Not A Queue'"):
        load({"WORKER_QUEUES": "fast,Not A Queue"}, NO_FILE)


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "soon", "1e999"])
def test_a_duration_is_a_finite_number_above_zero(text: str) -> None:
    with pytest.raises(SettingsProblem, match="HEARTBEAT_INTERVAL_SECONDS"):
        load({"HEARTBEAT_INTERVAL_SECONDS": text}, NO_FILE)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HEARTBEAT_TIMEOUT_SECONDS": "1"}, "HEARTBEAT_TIMEOUT_SECONDS=1"),
        ({"LEASE_SECONDS": "2"}, "LEASE_SECONDS=2"),
        ({"DISPATCHER_URL": "localhost:5000"}, "DISPATCHER_URL='localhost:5000'"),
        ({"DISPATCHER_URL": "http://lab:secret@here:99999"}, "DISPATCHER_URL='http://here:99999'"),
        ({"DISPATCHER_URL": ","}, "DISPATCHER_URL=','"),
        ({"DISPATCHER_URL": "http://here:99999"}, "DISPATCHER_URL='http://here:99999'"),
        ({"DISPATCHER_URL": "http://"}, "DISPATCHER_URL='http:'"),
        ({"DATABASE_URL": "mysql://db"}, "DATABASE_URL='mysql://db'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsProblem, match=named):
        load(environment, NO_FILE)


def test_a_dispatcher_may_take_any_free_port() -> None:
    assert load({"DISPATCHER_PORT": "0"}, NO_FILE).dispatcher_port == 0


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"NAME=\xff\xfe\n")

    with pytest.raises(SettingsProblem, match="cannot be read"):
        load({}, file)


def test_lines_that_cannot_be_understood_are_named_with_file_and_number(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nWORKER_SLOTS=2\n\n\nWORKER_THREADS 4\nDATA_DIR='open\n")

    with pytest.raises(SettingsProblem) as problem:
        load({}, file)

    assert str(problem.value).splitlines() == [
        f"file {file} line 5: expected NAME=value",
        f"file {file} line 6: expected NAME=value",
    ]


def test_a_name_that_looks_like_a_setting_is_told_with_the_right_one() -> None:
    names = ["WORKER_SLOTZ", "lease_seconds", "DATA_DIR", "API_TOKEN", "DATABASE_HOST"]

    assert slips(names) == [
        "WORKER_SLOTZ is no setting of Baton; did you mean WORKER_SLOTS?",
        "lease_seconds is no setting of Baton; did you mean LEASE_SECONDS?",
    ]


def test_a_slip_in_the_file_is_told_once_for_a_process_and_those_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".env"
    file.write_text("WORKER_SLOTZ=4\n")
    monkeypatch.setattr(settings_module, "ENV_FILE", file)
    monkeypatch.setattr(settings_module.os, "environ", {})

    load_or_exit()
    load_or_exit()

    told = "WORKER_SLOTZ is no setting of Baton; did you mean WORKER_SLOTS?"
    assert capsys.readouterr().err == f"file {file}: {told}\n"


def test_the_generated_file_holds_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(env_text())

    assert load({}, file) == Settings()
    assert markdown().count("\n| `") == len(fields(Settings))


def test_every_setting_has_a_help_text() -> None:
    assert [setting.name for setting in fields(Settings) if not setting.metadata["help"]] == []


def test_addresses_follow_from_the_settings(tmp_path: Path) -> None:
    plain = Settings(dispatcher_port=7000, data_dir=str(tmp_path))
    given = Settings(dispatcher_url="http://a:1/, http://b:2", database_url="sqlite:////x/y.db")

    assert plain.dispatcher_urls == ["http://127.0.0.1:7000"]
    assert plain.database_address == f"sqlite:///{tmp_path}/baton.db"
    assert given.dispatcher_urls == ["http://a:1", "http://b:2"]
    assert given.database_address == "sqlite:////x/y.db"


@pytest.mark.parametrize(("slots", "count"), [("3", 3), ("auto", 6)])
def test_slots_may_be_one_per_core_that_one_may_use(
    monkeypatch: pytest.MonkeyPatch, slots: str, count: int
) -> None:
    monkeypatch.setattr(settings_module.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(settings_module.os, "sched_getaffinity", lambda _: set(range(6)))

    assert Settings(worker_slots=slots).slots == count


def test_problems_end_the_program_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        exit_with_problems(["A=1: no", "B=2: no"])

    assert end.value.code == 2
    assert capsys.readouterr().err == "setting A=1: no\nsetting B=2: no\n"


def test_what_is_wrong_in_an_option_is_told_of_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_THREADS", "none")

    with pytest.raises(SystemExit):
        load_or_exit({"slots": "many", "threads": None})

    told = [line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["--slots='many'", "setting WORKER_THREADS='none'"]


@pytest.mark.parametrize("parameter", ["password", "sslpassword", "oauth_client_secret"])
def test_no_secret_of_the_database_is_in_its_name(parameter: str) -> None:
    url = f"postgresql://baton:hunter2@db/baton?sslmode=require&{parameter}=hunter2&connect_timeout=3"

    assert (
        Settings(database_url=url).database_name == "postgresql://baton@db/baton?sslmode=require&connect_timeout=3"
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [("10.0.0.7", "http://10.0.0.7:5001"), ("::1", "http://[::1]:5001"), ("lab", "http://lab:5001")],
)
def test_workers_and_clients_look_where_the_dispatcher_listens(host: str, url: str) -> None:
    settings = load({"DISPATCHER_HOST": host, "DISPATCHER_PORT": "5001"}, NO_FILE)

    assert settings.dispatcher_urls == [url]
