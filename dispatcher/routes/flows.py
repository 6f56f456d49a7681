"""What clients ask about flows: submit, look, cancel, revive."""

from __future__ import annotations

from flask import Blueprint, Response, request

from dispatcher import wire
from dispatcher.flows import Made
from dispatcher.idempotency import Answer, Repeatable
from dispatcher.ledger import Ledger
from shared.flows import FlowFilter
from shared.protocol import Nothing


def blueprint(ledger: Ledger) -> Blueprint:
    """The routes under /flows."""
    routes = Blueprint("flows", __name__)

    @routes.post("/flows")
    def submit() -> Response:
        wire.query(Nothing)
        return wire.sent(_submit(ledger, wire.body(), request.headers.get("Idempotency-Key")))

    @routes.get("/flows")
    def list_flows() -> Response:
        return wire.answer(ledger.flows.page(wire.query(FlowFilter)))

    @routes.get("/flows/<int:flow_id>")
    def show_flow(flow_id: int) -> Response:
        wire.query(Nothing)
        return wire.answer(ledger.flows.show(flow_id))

    @routes.post("/flows/<int:flow_id>/cancel")
    def cancel(flow_id: int) -> Response:
        wire.nothing()
        ledger.flows.cancel(flow_id)
        return wire.answer(ledger.flows.show(flow_id))

    @routes.post("/flows/<int:flow_id>/revive")
    def revive(flow_id: int) -> Response:
        wire.nothing()
        ledger.flows.revive(flow_id)
        return wire.answer(ledger.flows.show(flow_id))

    return routes


def _submit(ledger: Ledger, data: bytes, key: str | None) -> Answer:
    def store(repeatable: Repeatable | None) -> Answer:
        flow, fields = wire.flow(ledger.profiles.fill(data))
        if repeatable is None:
            return _answer(ledger.flows.submit(flow, fields))
        return ledger.flows.submit_once(repeatable, flow, fields, _answer)

    return ledger.once(data, key, store)


def _answer(made: Made) -> Answer:
    flow_id, task_ids, warning = made
    return Answer(201, wire.text(wire.warned({"flow_id": flow_id, "task_ids": task_ids}, warning)))
