"""Flows in short words: submitted from plain dictionaries, looked at by key, worked off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.flows import FlowSubmission, FlowView
from shared.protocol import Grant
from tests.support import messages
from tests.support.builder import Builder


def flow_of(*tasks: Mapping[str, Any], name: str | None = None) -> FlowSubmission:
    """A flow whose tasks are noops unless they say otherwise."""
    body = {"name": name, "tasks": [{"type": "noop", **task} for task in tasks]}
    return msgspec.json.decode(msgspec.json.encode(body), type=FlowSubmission)


class Flow:
    """A flow that was just submitted, and its worker."""

    def __init__(self, tasks: Builder, *nodes: Mapping[str, Any], name: str | None = None) -> None:
        self.tasks = tasks
        self.flows = tasks.dispatcher.ledger.flows
        self.id, self.task_ids, self.warning = self.flows.submit(flow_of(*nodes, name=name), {})

    @property
    def view(self) -> FlowView:
        return self.flows.show(self.id)

    @property
    def status(self) -> str:
        return self.view.status

    def statuses(self) -> dict[str, str]:
        """Of each task, by key."""
        return {task.key: task.status for task in self.view.tasks or ()}

    def ids(self) -> dict[str, int | None]:
        """As far as they are known now."""
        return {task.key: task.task_id for task in self.view.tasks or ()}

    def error(self, key: str) -> Any:
        return msgspec.json.decode(self.tasks.view(self.ids()[key] or 0).error)

    def start(self, key: str) -> Grant:
        """Claim what can be claimed until this one comes; the others are released again."""
        wanted = self.ids()[key]
        grants = self.tasks.claim("worker", want=1000)
        others = [messages.released(grant) for grant in grants if grant.task_id != wanted]
        self.tasks.say("worker", results=others)
        return next(grant for grant in grants if grant.task_id == wanted)

    def complete(self, key: str, result: Any = None) -> Grant:
        """Run one task; returns its grant."""
        grant = self.start(key)
        assert not self.tasks.report(messages.completed(grant, result), worker="worker").lost
        return grant

    def fail(self, key: str) -> Grant:
        """Let one task fail for good."""
        grant = self.start(key)
        self.tasks.report(messages.failed(grant, "no luck", retryable=False), worker="worker")
        return grant

    def drain(self) -> list[Grant]:
        """Complete everything that can run, until nothing can; the result is the task's id."""
        done: list[Grant] = []
        while grants := self.tasks.claim("worker", want=1000):
            self.tasks.say("worker", results=[messages.completed(grant, grant.task_id) for grant in grants])
            done += grants
        return done


def told(grant: Grant) -> Any:
    """What a task is told of its parents."""
    return msgspec.json.decode(grant.parents)


def payload(grant: Grant) -> Any:
    return msgspec.json.decode(grant.payload)
