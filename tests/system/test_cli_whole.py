"""What shows the whole: `./baton stats`, `top` and a watched flow, against a real dispatcher."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from shared import exits
from tests.support.scene import Scene, Terminal, said, scene


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One dispatcher; each test has task types, names and queues of its own."""
    with scene(tmp_path_factory.mktemp("cli")) as made:
        yield made


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


def test_a_watched_flow_that_is_longer_than_the_terminal_is_seen_to_go_on(stage: Scene) -> None:
    tasks = [{"key": f"step-{i}", "type": "walk"} for i in range(40)]
    flow = stage.client.submit_flow({"name": "long", "tasks": tasks})

    with stage.terminal("flows", "show", "long", "--watch") as screen:
        screen.expect("...")
        assert "step-39" not in screen.shown
        stage.client.cancel_flow(flow["flow_id"])
        screen.expect("step-39")  # the last picture is whole
        assert screen.ended() == exits.FAILED


def test_stats_and_top_name_what_is_paused(stage: Scene) -> None:
    stage.run("queues", "pause", "idle")
    stage.run("types", "pause", "fit")

    shown = [said(stage.run(verb)) for verb in ("stats", "top")]
    said(stage.run("queues", "resume", "idle"))
    said(stage.run("types", "resume", "fit"))

    assert [re.search(r"paused +.*queue idle, .*type fit", text) is not None for text in shown] == [True, True]
    assert "queue idle" not in said(stage.run("top"))


@pytest.mark.parametrize("ending", [lambda screen: screen.type("q"), lambda screen: screen.interrupt()])
def test_top_lives_until_somebody_ends_it(stage: Scene, ending: Callable[[Terminal], None]) -> None:
    with stage.terminal("top") as screen:
        screen.expect("in the last minute")
        ending(screen)
        assert screen.ended() == exits.OK
