"""What clients ask: submit, look, cancel, revive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from dispatcher import wire
from dispatcher.idempotency import Answer, Repeatable
from dispatcher.ledger import Ledger
from dispatcher.records import Records
from dispatcher.submissions import Submitted
from shared.operating import Drop, ReviveMany
from shared.protocol import Batch, Later, Nothing, Revival, Submission, TaskFilter, Waiting

_submission = msgspec.json.Decoder(Submission)
_batch = msgspec.json.Decoder(Batch)
_revival = msgspec.json.Decoder(Revival)
_later = msgspec.json.Decoder(Later)
_drop = msgspec.json.Decoder(Drop)
_revive_many = msgspec.json.Decoder(ReviveMany)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def blueprint(ledger: Ledger, records: Records) -> Blueprint:
    """The routes under /tasks, and their older names /submit-task and /task."""
    routes = Blueprint("tasks", __name__)
    _add_looking(routes, records)

    @routes.post("/submit-task")
    def submit_task() -> Response:
        wire.query(Nothing)
        data = wire.body()
        return _submit_one(ledger, data, lambda: wire.decode(ledger.profiles.fill(data), _submission))

    @routes.post("/tasks")
    def submit_tasks() -> Response:
        wire.query(Nothing)
        return wire.sent(submit(ledger, wire.body(), request.headers.get("Idempotency-Key")))

    @routes.post("/tasks/schedule")
    def schedule_task() -> Response:
        wire.query(Nothing)
        data = wire.body()
        return _submit_one(ledger, data, lambda: _delayed(wire.decode(data, _later)))

    @routes.post("/tasks/revive")
    def revive_many() -> Response:
        wire.query(Nothing)
        return wire.answer({"revived": ledger.dead_letters.revive(wire.decode(wire.body(), _revive_many))})

    @routes.post("/tasks/drop")
    def drop_many() -> Response:
        wire.query(Nothing)
        return wire.answer({"dropped": ledger.dead_letters.drop(wire.decode(wire.body(), _drop))})

    @routes.post("/tasks/<int:task_id>/cancel")
    def cancel(task_id: int) -> Response:
        wire.nothing()
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


def submit(ledger: Ledger, data: bytes, key: str | None = None) -> Answer:
    """Store what the body of POST /tasks holds: one task, or a batch of them."""

    def read() -> tuple[Sequence[Submission], bool]:
        filled = ledger.profiles.fill(data)
        if filled.startswith(b'{"tasks"') or "tasks" in wire.decode(filled, _fields):
            return wire.decode(filled, _batch).tasks, True
        return [wire.decode(filled, _submission)], False

    return _submit(ledger, data, key, read)


def _delayed(later: Later) -> Submission:
    return Submission(later.type, later.payload, delay_seconds=later.delay_seconds, max_retries=later.retries)


def _submit_one(ledger: Ledger, data: bytes, read: Callable[[], Submission]) -> Response:
    key = request.headers.get("Idempotency-Key")
    return wire.sent(_submit(ledger, data, key, lambda: ([read()], False)))


def _submit(
    ledger: Ledger, data: bytes, key: str | None, read: Callable[[], tuple[Sequence[Submission], bool]]
) -> Answer:
    """Store what `read` makes of the body: submissions, and whether they are a batch."""

    def store(repeatable: Repeatable | None) -> Answer:
        submissions, batch = read()
        if repeatable is None:
            return _answer(ledger.submit(submissions, batch=batch), batch)
        return ledger.submit_once(repeatable, submissions, batch, lambda submitted: _answer(submitted, batch))

    return ledger.once(data, key, store)


def _answer(submitted: Submitted, batch: bool) -> Answer:
    ids, statuses, existing, warning = submitted
    body: dict[str, Any] = {"task_ids": ids} if batch else {"task_id": ids[0], "status": statuses[0]}
    if existing and not batch:
        body["existing"] = True
    return Answer(200 if existing and not batch else 201, wire.text(wire.warned(body, warning)))
