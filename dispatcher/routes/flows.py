"""What clients ask about flows: submit, look, cancel, revive."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.ledger import Ledger
from shared.flows import FlowFilter
from shared.protocol import Nothing

_nothing = msgspec.json.Decoder(Nothing)


def blueprint(ledger: Ledger) -> Blueprint:
    """The routes under /flows."""
    routes = Blueprint("flows", __name__)

    @routes.post("/flows")
    def submit() -> Response:
        wire.query(Nothing)
        flow_id, task_ids, warning = ledger.flows.submit(*wire.flow(ledger.profiles.fill(wire.body())))
        answer: dict[str, Any] = {"flow_id": flow_id, "task_ids": task_ids}
        return wire.answer(answer if warning is None else {**answer, "warning": warning}, 201)

    @routes.get("/flows")
    def list_flows() -> Response:
        return wire.answer(ledger.flows.page(wire.query(FlowFilter)))

    @routes.get("/flows/<int:flow_id>")
    def show_flow(flow_id: int) -> Response:
        wire.query(Nothing)
        return wire.answer(ledger.flows.show(flow_id))

    @routes.post("/flows/<int:flow_id>/cancel")
    def cancel(flow_id: int) -> Response:
        wire.query(Nothing)
        wire.decode(wire.body(optional=True), _nothing)
        ledger.flows.cancel(flow_id)
        return wire.answer(ledger.flows.show(flow_id))

    @routes.post("/flows/<int:flow_id>/revive")
    def revive(flow_id: int) -> Response:
        wire.query(Nothing)
        wire.decode(wire.body(optional=True), _nothing)
        ledger.flows.revive(flow_id)
        return wire.answer(ledger.flows.show(flow_id))

    return routes
