"""What clients ask: submit, look, cancel, revive."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.ledger import Ledger
from dispatcher.records import Records
from shared.protocol import Batch, Nothing, Revival, Submission, TaskFilter, Waiting

_submission = msgspec.json.Decoder(Submission)
_batch = msgspec.json.Decoder(Batch)
_revival = msgspec.json.Decoder(Revival)
_nothing = msgspec.json.Decoder(Nothing)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def blueprint(ledger: Ledger, records: Records) -> Blueprint:
    """The routes under /tasks, and their older names /submit-task and /task."""
    routes = Blueprint("tasks", __name__)
    _add_looking(routes, records)

    def submit_one(data: bytes) -> Response:
        ids, statuses, warning = ledger.submit([wire.decode(data, _submission)], batch=False)
        return wire.answer(_with(warning, {"task_id": ids[0], "status": statuses[0]}), 201)

    @routes.post("/submit-task")
    def submit_task() -> Response:
        wire.query(Nothing)
        return submit_one(ledger.profiles.fill(wire.body()))

    @routes.post("/tasks")
    def submit_tasks() -> Response:
        wire.query(Nothing)
        data = ledger.profiles.fill(wire.body())
        if data.startswith(b'{"tasks"') or "tasks" in wire.decode(data, _fields):
            ids, _, warning = ledger.submit(wire.decode(data, _batch).tasks)
            return wire.answer(_with(warning, {"task_ids": ids}), 201)
        return submit_one(data)

    @routes.post("/tasks/<int:task_id>/cancel")
    def cancel(task_id: int) -> Response:
        wire.query(Nothing)
        wire.decode(wire.body(optional=True), _nothing)
        ledger.cancel(task_id)
        return wire.answer(records.task(task_id))

    @routes.delete("/task/<int:task_id>")
    @routes.delete("/tasks/<int:task_id>")
    def delete(task_id: int) -> Response:
        wire.query(Nothing)
        ledger.cancel(task_id)
        return wire.answer(records.task(task_id))

    @routes.post("/tasks/<int:task_id>/revive")
    def revive(task_id: int) -> Response:
        wire.query(Nothing)
        ledger.revive(task_id, wire.decode(wire.body(optional=True), _revival))
        return wire.answer(records.task(task_id))

    return routes


def _add_looking(routes: Blueprint, records: Records) -> None:
    """The routes that only read."""

    @routes.get("/tasks")
    def list_tasks() -> Response:
        return wire.answer(records.tasks(wire.query(TaskFilter)))

    @routes.get("/task/<int:task_id>")
    @routes.get("/tasks/<int:task_id>")
    def show_task(task_id: int) -> Response:
        return wire.answer(records.task(task_id, wire.query(Waiting).wait_seconds))

    @routes.get("/tasks/<int:task_id>/attempts")
    def attempts(task_id: int) -> Response:
        wire.query(Nothing)
        return wire.answer({"attempts": records.attempts(task_id)})

    @routes.get("/tasks/<int:task_id>/checkpoint")
    def checkpoint(task_id: int) -> Response:
        wire.query(Nothing)
        return wire.answer(records.checkpoint(task_id))

    @routes.get("/tasks/<int:task_id>/output")
    def output(task_id: int) -> Response:
        wire.query(Nothing)
        return Response(records.output(task_id), mimetype="application/x-ndjson")


def _with(warning: str | None, answer: dict[str, Any]) -> dict[str, Any]:
    return answer if warning is None else {**answer, "warning": warning}
