"""What machines that watch machines ask."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.ledger import Ledger
from dispatcher.monitor import Monitor
from dispatcher.records import Records
from shared import errors
from shared.protocol import Nothing

LOOK = ["/stats", "/tasks", "/flows", "/schedules", "/workers", "/queues"]
DOCS = "docs/protocol.md in the checkout; ./baton --help there shows the same in a terminal"
PROBE_SECONDS = 3.0  # a write takes milliseconds; who watches us should not wait longer for the bad news


def blueprint(ledger: Ledger, records: Records, monitor: Monitor) -> Blueprint:
    """The routes /, /stats, /health and /ready."""
    routes = Blueprint("system", __name__)

    @routes.get("/")
    def root() -> Response:
        """For who opens the address in a browser: what this is, and where to look."""
        wire.query(Nothing)
        return wire.answer({"name": "Baton", "version": records.version, "look": LOOK, "docs": DOCS})

    @routes.get("/stats")
    def stats() -> Response:
        wire.query(Nothing)
        return wire.answer(records.stats())

    @routes.get("/health")
    def health() -> Response:
        """Touches no database: only says that this process answers."""
        wire.query(Nothing)
        return wire.answer({"status": "ok", "version": records.version})

    @routes.get("/ready")
    def ready() -> Response:
        """Proves a write (an empty transaction that is committed) and a living monitor."""
        wire.query(Nothing)
        health: dict[str, Any]
        try:
            ledger.database.probe(PROBE_SECONDS)
            database, health = "ok", records.health()
        except errors.Unavailable as error:
            database, health = error.message, {}
        watching = "ok" if monitor.alive else "not running"
        good = database == watching == "ok"
        answer = {"status": "ok" if good else "unavailable", "database": database, "monitor": watching}
        response = wire.answer({**answer, **health, "version": records.version}, 200 if good else 503)
        if not good:
            response.headers["Retry-After"] = "1"
        return response

    return routes
