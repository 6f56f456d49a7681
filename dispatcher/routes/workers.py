"""What operators ask about workers."""

from __future__ import annotations

from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.ledger import Ledger
from dispatcher.records import Records
from shared.protocol import Nothing


def blueprint(ledger: Ledger, records: Records) -> Blueprint:
    """The routes under /workers."""
    routes = Blueprint("workers", __name__)

    @routes.get("/workers")
    def list_workers() -> Response:
        wire.query(Nothing)
        return wire.answer({"workers": records.workers()})

    @routes.get("/workers/<worker>")
    def show_worker(worker: str) -> Response:
        wire.query(Nothing)
        return wire.answer(records.worker(worker))

    @routes.delete("/workers/<worker>")
    def forget_worker(worker: str) -> Response:
        wire.query(Nothing)
        view = records.worker(worker)
        ledger.forget_worker(view.worker_id)
        return wire.answer(view)

    return routes
