"""The ways in which the recovery experiment takes workers out: kill, stop, term, cut."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Final

from analysis import machine
from analysis.cluster import Cluster
from analysis.crew import send
from analysis.cut_proxy import Line

WAYS: Final = {
    "kill": "killed (SIGKILL)",
    "stop": "frozen (SIGSTOP, with their tasks)",
    "term": "asked to stop (SIGTERM)",
    "cut": "cut off from the network",
}


def harm(baton: Cluster, way: str, names: Sequence[str], lines: dict[str, Line]) -> None:
    """Take these workers out at once. `lines`: how they reach the dispatcher, for `cut`."""
    for name in names:
        pid = baton.workers[name].pid
        if way == "cut":
            lines[name].cut()
        elif way == "stop":
            for member in machine.tree(pid):
                send(member, signal.SIGSTOP)
        else:
            send(pid, signal.SIGKILL if way == "kill" else signal.SIGTERM)
