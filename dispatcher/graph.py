"""The graph of a flow, before anything is stored: are the keys right, and in what order can it run?

Pure: no database, no clock. A fan-out (`map`) is one node here; `parts` makes its payloads, at
submission or, over another task's result, when that has ended. Read flows.py next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from shared import errors
from shared.flows import (
    EDGES_MAX,
    FAN_OUT_BYTES_MAX,
    FAN_OUT_MAX,
    FLOW_TASKS_MAX,
    FanOut,
    FlowSubmission,
    FlowTask,
    ResultOf,
)
from shared.payload import check_payload
from shared.protocol import BODY_BYTES_MAX

_NO_FIELDS: Mapping[str, str] = {}
_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Node:
    """A task of the flow, or a fan-out: then `payloads` are those of its parts (None: not known yet)."""

    task: FlowTask
    parents: list[str]  # keys, each once
    payloads: list[Raw] | None = None

    @property
    def key(self) -> str:
        """Its name within the flow."""
        return self.task.key

    @property
    def source(self) -> ResultOf | None:
        """Whose result a fan-out waits for, if it does."""
        over = None if self.task.map is None else self.task.map.over
        return over if isinstance(over, ResultOf) else None


def plan(flow: FlowSubmission, fields: Mapping[str, str] = _NO_FIELDS) -> list[Node]:
    """The nodes in the order given. Raises Invalid or TooLarge naming the field or the path of a cycle.

    `fields`: where the parents of a key were written, if not in its `depends_on`.
    """
    places = _places(flow.tasks)
    nodes: list[Node] = []
    total = edges = 0
    is_in_order = True  # of parents and children, as most are written: then there is no cycle
    for index, task in enumerate(flow.tasks):
        parents = task.depends_on
        node = Node(task, parents if len(parents) < 2 else list(dict.fromkeys(parents)))
        if task.map is not None:
            _fan_out(node, task.map, flow.tasks, places, f"tasks[{index}]")
        for parent in node.parents:
            place = places.get(parent)
            if place is None:
                where = fields.get(task.key, f"tasks[{index}].depends_on")
                raise errors.Invalid(f"{where}: the flow has no task {parent!r}", field=where)
            is_in_order = is_in_order and place < index
        total += 1 if node.payloads is None else len(node.payloads)
        edges += len(node.parents)
        nodes.append(node)
    if total > FLOW_TASKS_MAX:
        raise errors.TooLarge(f"the flow has {total} tasks; the limit is {FLOW_TASKS_MAX}", field="tasks")
    if edges > EDGES_MAX:
        raise errors.TooLarge(f"the flow has more than {EDGES_MAX} dependencies", field="tasks")
    if not is_in_order:
        _check_cycles(nodes)
    return nodes


def _places(tasks: Sequence[FlowTask]) -> dict[str, int]:
    """At which place each key is."""
    places = {task.key: place for place, task in enumerate(tasks)}
    if len(places) < len(tasks):
        place, key = _taken(tasks)
        where = f"tasks[{place}].key"
        raise errors.Invalid(f"{where}: the key {key!r} is taken by an earlier task", field=where)
    return places


def _taken(tasks: Sequence[FlowTask]) -> tuple[int, str]:
    """Where the first key is that comes again."""
    seen: set[str] = set()
    for place, task in enumerate(tasks):
        if task.key in seen:
            return place, task.key
        seen.add(task.key)
    raise ValueError("every key comes once")


def _fan_out(node: Node, fan: FanOut, tasks: Sequence[FlowTask], places: Mapping[str, int], where: str) -> None:
    if node.task.unique_key is not None:
        field = f"{where}.unique_key"
        raise errors.Invalid(f"{field}: the parts of a fan-out would share it", field=field)
    if not isinstance(fan.over, ResultOf):
        node.payloads = parts(node.task.payload, fan.item_name, fan.over, where)
        return
    where = f"{where}.map.over.result_of"
    place = places.get(fan.over.result_of)
    if place is None:
        raise errors.Invalid(f"{where}: the flow has no task {fan.over.result_of!r}", field=where)
    source = tasks[place]
    if source.map is not None:
        raise errors.Invalid(f"{where}: {source.key!r} is a fan-out itself; name a single task", field=where)
    node.parents = list(dict.fromkeys([*node.parents, source.key]))


def _check_cycles(nodes: Sequence[Node]) -> None:
    """Take away what can run, again and again; what remains is held up by a cycle."""
    waiting = {node.key: len(node.parents) for node in nodes}
    children: dict[str, list[str]] = {}
    for node in nodes:
        for parent in node.parents:
            children.setdefault(parent, []).append(node.key)
    ready = [key for key, n in waiting.items() if n == 0]
    for key in ready:  # grows while it is walked
        for child in children.get(key, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if len(ready) < len(nodes):
        path = _cycle({node.key: node.parents for node in nodes}, set(waiting) - set(ready))
        shown = " -> ".join(path)
        raise errors.Invalid(f"the tasks depend on each other in a circle: {shown}", field="tasks", path=path)


def _cycle(parents: Mapping[str, Sequence[str]], held_up: set[str]) -> list[str]:
    """Each that is held up has a parent that is: follow those until a key comes again."""
    path: list[str] = []
    seen: dict[str, int] = {}
    key = min(held_up)
    while key not in seen:
        seen[key] = len(path)
        path.append(key)
        key = next(parent for parent in parents[key] if parent in held_up)
    return [*path[seen[key] :], key]


def parts(payload: Raw, item_name: str, items: Sequence[Raw], where: str) -> list[Raw]:
    """The payloads of a fan-out's parts. Raises Invalid or TooLarge naming the field under `where`."""
    over = f"{where}.map.over"
    if len(items) > FAN_OUT_MAX:
        raise errors.TooLarge(f"{over} has {len(items)} items; the limit is {FAN_OUT_MAX}", field=over)
    check_payload(payload, f"{where}.payload")
    # Every payload but for its item: the item alone is what differs, and comes last.
    common = {name: value for name, value in _object.decode(payload).items() if name != item_name}
    head = bytes(_encode(common))[:-1] + (b"," if common else b"") + _encode(item_name) + b":"
    sizes = [len(head) + memoryview(item).nbytes + 1 for item in items]
    if sum(sizes) > FAN_OUT_BYTES_MAX or max(sizes, default=0) > BODY_BYTES_MAX:
        raise errors.TooLarge(
            f"{over}: the payloads of the parts have {sum(sizes)} bytes, the largest {max(sizes)}; the limits are "
            f"{FAN_OUT_BYTES_MAX} and {BODY_BYTES_MAX}",
            field=over,
        )
    made = [Raw(head + bytes(item) + b"}") for item in items]
    for index, body in enumerate(made):
        check_payload(body, f"{over}[{index}]")
    return made


def items_of(result: bytes | None, source: ResultOf) -> list[Raw]:
    """The list that a fan-out runs over, from the result of its source. Raises Invalid saying what it lacks."""
    name = f"the result of {source.result_of!r}"
    value: Any = Raw(result or b"null")
    if source.field is not None:
        name = f"the field {source.field!r} of {name}"
        try:
            fields = _object.decode(value)
        except msgspec.DecodeError:
            raise errors.Invalid(f"{name} cannot be taken: the result is not an object") from None
        if source.field not in fields:
            raise errors.Invalid(f"{name} is missing; there are: {', '.join(sorted(fields)) or 'none'}")
        value = fields[source.field]
    try:
        return msgspec.json.decode(value, type=list[Raw])
    except msgspec.DecodeError:
        raise errors.Invalid(f"{name} is not a list") from None


def single(task: FlowTask, payload: Raw) -> FlowTask:
    """A part of a fan-out: the same task with a payload of its own."""
    return msgspec.structs.replace(task, payload=payload, map=None)
