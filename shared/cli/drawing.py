"""Draws a flow as text: each task once, in an order in which it could run, indented below its parent.

A task with several parents stands below the last of them and names the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from shared.cli import progress
from shared.lifecycle import TaskStatus

PARTS_SHOWN: Final = 5  # of a fan-out; more of them become one line
INDENT_MAX: Final = 16  # levels; a chain of a thousand tasks must not walk off the page
_PART: Final = re.compile(r"(.*)\[\d+\]\Z", re.DOTALL)


class Line(NamedTuple):
    """A task, or the many parts of a fan-out. `others`: parents that are not the line it is indented below.

    `trouble`: why it failed or was cancelled; of many parts, the first one that failed.
    """

    depth: int
    key: str
    status: str
    task_id: int | None
    others: list[str]
    trouble: str


class _Node(NamedTuple):
    """What stands in one line: `key` is what others depend on."""

    key: str
    parents: list[str]
    tasks: list[dict[str, Any]]


def lines(tasks: Sequence[dict[str, Any]], whole: bool = False) -> list[Line]:
    """The drawing; with `whole` every part of a fan-out has its line."""
    nodes = _nodes(tasks)
    below: dict[str | None, list[str]] = {}
    for key in _in_order(nodes):
        parents = [parent for parent in nodes[key].parents if parent in nodes]
        below.setdefault(parents[-1] if parents else None, []).append(key)
    drawn: list[Line] = []
    waiting = [(key, 0) for key in reversed(below.get(None, []))]
    while waiting:  # no recursion: a chain may have ten thousand tasks
        key, depth = waiting.pop()
        drawn += _lines_of(nodes[key], min(depth, INDENT_MAX), depth > INDENT_MAX, whole)
        waiting += [(child, depth + 1) for child in reversed(below.get(key, []))]
    return drawn


def _nodes(tasks: Sequence[dict[str, Any]]) -> dict[str, _Node]:
    """By key, the parts of a fan-out under the key of the whole."""
    nodes: dict[str, _Node] = {}
    for task in tasks:
        part = _PART.match(task["key"])
        key = part.group(1) if part else task["key"]
        nodes.setdefault(key, _Node(key, list(task["depends_on"]), [])).tasks.append(task)
    return nodes


def _in_order(nodes: dict[str, _Node]) -> Iterator[str]:
    """Keys, parents before their children; each node's parents are put into that order too."""
    missing = {key: {parent for parent in node.parents if parent in nodes} for key, node in nodes.items()}
    children: dict[str, list[str]] = {}
    for key, parents in missing.items():
        for parent in parents:
            children.setdefault(parent, []).append(key)
    ready = [key for key, parents in missing.items() if not parents]
    place: dict[str, int] = {}
    for key in ready:  # grows while we walk
        place[key] = len(place)
        nodes[key].parents.sort(key=lambda parent: place.get(parent, -1))
        yield key
        for child in children.get(key, []):
            missing[child].discard(key)
            if not missing[child]:
                ready.append(child)


def _lines_of(node: _Node, depth: int, is_deep: bool, whole: bool) -> list[Line]:
    others = node.parents if is_deep else node.parents[:-1]
    if len(node.tasks) <= PARTS_SHOWN or whole:
        return [
            Line(depth, task["key"], task["status"], task["task_id"], others, _trouble(task))
            for task in node.tasks
        ]
    counts = Counter(task["status"] for task in node.tasks)
    told = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    return [Line(depth, f"{node.key}[0..{len(node.tasks) - 1}]", told, None, others, _first_trouble(node.tasks))]


def _trouble(task: dict[str, Any]) -> str:
    return progress.trouble(task["status"], task.get("error"))


def _first_trouble(parts: Sequence[dict[str, Any]]) -> str:
    """Of those that failed, else of those that were cancelled."""
    by_status = {task["status"]: task for task in reversed(parts)}
    first = by_status.get(TaskStatus.FAILED) or by_status.get(TaskStatus.CANCELLED)
    return f"{first['key']} (task {first['task_id']}): {_trouble(first)}" if first else ""
