"""What workers say. POST /exchange is all of it; the other three are parts of it for curl."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.idempotency import Answer
from dispatcher.ledger import Ledger
from shared import errors
from shared.protocol import (
    AttemptLog,
    Checkpoint,
    Exchange,
    ExchangeAnswer,
    GetTask,
    Heartbeat,
    Nothing,
    Refusal,
    Result,
    SubmitResults,
    TaskAttempt,
    WorkerId,
    WorkerInfo,
)


class _Single(msgspec.Struct):
    """POST /submit-result with one result: the result's own fields follow."""

    worker_id: WorkerId


class _Named(TaskAttempt, frozen=True):
    """Enough of an item to refuse it by name."""


_exchange = msgspec.json.Decoder(Exchange)
_get_task = msgspec.json.Decoder(GetTask)
_heartbeat = msgspec.json.Decoder(Heartbeat)
_results = msgspec.json.Decoder(SubmitResults)
_result = msgspec.json.Decoder(Result)
_single = msgspec.json.Decoder(_Single)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_KINDS: dict[str, Any] = {
    "checkpoints": msgspec.json.Decoder(Checkpoint),
    "results": _result,
    "logs": msgspec.json.Decoder(AttemptLog),
}


def blueprint(ledger: Ledger) -> Blueprint:
    """The routes of workers."""
    routes = Blueprint("leases", __name__)

    @routes.post("/exchange")
    def exchange() -> Response:
        wire.query(Nothing)
        return wire.sent(carry_out(ledger, wire.body()))

    @routes.post("/get-task")
    def get_task() -> Response:
        wire.query(Nothing)
        message = wire.decode(wire.body(), _get_task)
        info = WorkerInfo(message.worker_id, types=message.types, queues=message.queues)
        return wire.answer(ledger.exchange(Exchange(info, want=message.want, wait_seconds=message.wait_seconds)))

    @routes.post("/heartbeat")
    def heartbeat() -> Response:
        wire.query(Nothing)
        message = wire.decode(wire.body(), _heartbeat)
        info = WorkerInfo(message.worker_id)
        return wire.answer(
            ledger.exchange(Exchange(info, holding=message.holding, checkpoints=message.checkpoints))
        )

    @routes.post("/submit-result")
    def submit_result() -> Response:
        wire.query(Nothing)
        data = wire.body()
        if "results" in wire.decode(data, _fields):
            many = wire.decode(data, _results)
            return wire.answer(ledger.exchange(Exchange(WorkerInfo(many.worker_id), results=many.results)))
        info = WorkerInfo(wire.decode(data, _single).worker_id)
        result = wire.decode(data, _result)
        answer = ledger.exchange(Exchange(info, results=[result]))
        _raise_if_alone(answer, result)
        return wire.answer(answer)

    return routes


def _raise_if_alone(answer: ExchangeAnswer, result: Result) -> None:
    """A single result that was not taken is an error of the whole call."""
    if answer.lost:
        raise errors.LeaseLost(
            f"task {result.task_id} attempt {result.attempt} is no longer yours; drop the work",
            task_id=result.task_id,
            attempt=result.attempt,
        )
    if answer.refused:
        refused = answer.refused[0].error
        raise errors.from_body(422, {"error": refused})


def carry_out(ledger: Ledger, data: bytes) -> Answer:
    """What the body of POST /exchange says."""
    refused: list[Refusal] = []
    try:
        message = wire.decode(data, _exchange)
    except errors.Invalid as error:
        message, refused = _without_bad_items(data, error)
    return Answer(200, wire.text(ledger.exchange(message, refused)))


def _without_bad_items(data: bytes, error: errors.Invalid) -> tuple[Exchange, list[Refusal]]:
    """A checkpoint, a result or a log that cannot be read is refused by name; the rest of the message stands.

    Raises the first error if an item cannot even be named, or if something else is wrong.
    """
    fields = wire.decode(data, _fields)
    refused: list[Refusal] = []
    good: dict[str, list[Any]] = {}
    for part, decoder in _KINDS.items():
        good[part] = []
        for raw in wire.decode(bytes(fields.pop(part, b"[]")), _items):
            try:
                good[part].append(wire.decode(bytes(raw), decoder))
            except errors.Invalid as wrong:
                try:
                    name = msgspec.json.decode(bytes(raw), type=TaskAttempt)
                except msgspec.MsgspecError:
                    raise error from None
                refused.append(Refusal(name.task_id, name.attempt, wrong.body()["error"]))
    message = wire.decode(msgspec.json.encode(fields), _exchange)
    message.checkpoints, message.results, message.logs = good["checkpoints"], good["results"], good["logs"]
    return message, refused
