"""What anybody asks about the past and the future of tasks."""

from __future__ import annotations

from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.records import Records
from shared.operating import HistoryFilter, LogQuery
from shared.protocol import Nothing


def blueprint(records: Records) -> Blueprint:
    """The routes /history, and /tasks/<id>/logs and /tasks/<id>/explain."""
    routes = Blueprint("history", __name__)

    @routes.get("/history")
    def history() -> Response:
        return wire.answer(records.history.attempts(wire.query(HistoryFilter)))

    @routes.get("/tasks/<int:task_id>/logs")
    def logs(task_id: int) -> Response:
        return wire.answer(records.history.logs(task_id, wire.query(LogQuery)))

    @routes.get("/tasks/<int:task_id>/explain")
    def explain(task_id: int) -> Response:
        wire.query(Nothing)
        return wire.answer(records.explainer.explain(task_id))

    return routes
