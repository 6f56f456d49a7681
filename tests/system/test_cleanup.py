"""./cleanup.sh: what it says of the folder it looks into, and that it asks before it removes that."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from shared import cleanup, exits
from tests.support.scene import Scene, scene

CLEANUP = "shared.cleanup"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def test_it_names_the_folder_in_which_nobody_runs(stage: Scene, tmp_path: Path) -> None:
    stage.environment["DATA_DIR"] = str(tmp_path / "elsewhere")

    with stage.start(module=CLEANUP) as process:
        said, _ = process.communicate()

    folder = tmp_path / "elsewhere"
    assert said == f"no worker runs with DATA_DIR={folder}\nno dispatcher runs with DATA_DIR={folder}\n"
    assert stage.client.ready()["status"] == "ok"


def test_it_names_what_it_would_remove_and_asks(stage: Scene, tmp_path: Path) -> None:
    data = tmp_path / "data"

    with stage.terminal("--data", module=CLEANUP) as screen:
        screen.expect("remove it? [y/N]")
        screen.type("n\n")
        assert screen.ended() == exits.INTERRUPTED
    assert f"{data} holds baton.db" in screen.shown and "run (" in screen.shown
    assert stage.client.ready()["status"] == "ok"

    with stage.terminal("--data", "--yes", module=CLEANUP) as screen:
        assert screen.ended() == exits.OK
    assert "[y/N]" not in screen.shown and f"removing {data}: baton.db" in screen.shown
    assert not data.exists()


def test_it_removes_nothing_that_is_not_ours(stage: Scene, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    stage.environment["DATA_DIR"] = str(home)

    with stage.start("--data", "--yes", module=CLEANUP) as process:
        said, _ = process.communicate()

    assert (process.returncode, "left alone" in said, (home / "letter.txt").exists()) == (1, True, True)


def test_a_data_folder_behind_a_link_is_emptied_and_the_link_stays(stage: Scene, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "data")
    stage.environment["DATA_DIR"] = str(link)

    with stage.start("--data", "--yes", module=CLEANUP) as process:
        process.communicate()

    assert (process.returncode, list(link.iterdir())) == (0, [])


def test_it_leaves_processes_of_other_users_alone_and_says_so(
    stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(os, "kill", refuse)

    done = CliRunner().invoke(cleanup.main, ["--data", "--yes"])

    assert (done.exit_code, done.stdout) == (exits.FAILED, f"no worker runs with DATA_DIR={tmp_path / 'data'}\n")
    assert done.stderr.startswith("left alone, since of another user: dispatcher ")
    assert stage.client.ready()["status"] == "ok"


def test_what_cannot_be_removed_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data"
    file.write_text("no folder")
    monkeypatch.setenv("DATA_DIR", str(file))

    done = CliRunner().invoke(cleanup.main, ["--data", "--yes"])

    assert (done.exit_code, done.stderr) == (exits.FAILED, f"{file}: Not a directory\n")
