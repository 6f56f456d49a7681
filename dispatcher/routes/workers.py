"""What operators ask about workers."""

from __future__ import annotations

from typing import Literal

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
        view = records.worker(worker, gone_first=True)
        ledger.forget_worker(view.worker_id)
        return wire.answer(view)

    @routes.post("/workers/<worker>/pause")
    def pause_worker(worker: str) -> Response:
        return _order(worker, "pause")

    @routes.post("/workers/<worker>/resume")
    def resume_worker(worker: str) -> Response:
        return _order(worker, None)

    @routes.post("/workers/<worker>/drain")
    def drain_worker(worker: str) -> Response:
        return _order(worker, "drain")

    def _order(worker: str, ordered: Literal["pause", "drain"] | None) -> Response:
        wire.nothing()
        worker_id = records.worker(worker).worker_id
        ledger.order_worker(worker_id, ordered)
        return wire.answer(records.worker(worker_id))

    return routes
