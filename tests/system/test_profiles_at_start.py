"""A file of profiles that cannot be used keeps the dispatcher from starting, and says where it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from analysis.cluster import cluster
from shared.settings import ROOT


def test_a_wrong_file_is_no_start(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text("[batch]\npriority = 5\nretries = 3\n")
    settings = {"PROFILES_FILE": str(file), "DATA_DIR": str(tmp_path / "data"), "DISPATCHER_PORT": "0"}

    ended = subprocess.run(
        [sys.executable, "-m", "dispatcher"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 2
    assert f"{file}, line 3: batch.retries: no such option" in ended.stderr


def test_the_example_is_taken(tmp_path: Path) -> None:
    with cluster(tmp_path, PROFILES_FILE="examples/profiles.toml") as baton:
        answer = baton.client.submit_flow({"tasks": [{"key": "a", "type": "noop", "profile": "interactive"}]})

        assert baton.client.task(answer["task_ids"]["a"])["priority"] == 10
