"""create_app(): wiring only. Routes are in dispatcher/routes, one file per audience."""

from __future__ import annotations

from functools import partial

from flask import Flask, Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.routing import MapAdapter

from dispatcher import wire
from dispatcher.ledger import Ledger
from dispatcher.monitor import Monitor
from dispatcher.records import Records
from dispatcher.routes import flows, history, leases, limits, schedules, system, tasks, workers
from dispatcher.shortcut import Shortcut
from shared import errors
from shared.log import Log
from shared.protocol import REQUEST_BYTES_MAX


class _App(Flask):
    """Flask that finds routes by path and method alone, and does not look into the host of each request."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        if request is None:
            return None
        return MapAdapter(self.url_map, "dispatcher", "/", "", "http", request.path, request.method)


def create_app(ledger: Ledger, records: Records, monitor: Monitor, log: Log) -> Flask:
    """The dispatcher's HTTP face."""
    app = _App("dispatcher", static_folder=None)
    app.url_map.strict_slashes = False  # /tasks/ is /tasks, without a redirect that would drop a body
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = REQUEST_BYTES_MAX
    app.register_blueprint(tasks.blueprint(ledger, records))
    app.register_blueprint(flows.blueprint(ledger))
    app.register_blueprint(schedules.blueprint(ledger))
    app.register_blueprint(leases.blueprint(ledger))
    app.register_blueprint(workers.blueprint(ledger, records))
    app.register_blueprint(limits.blueprint(ledger, records))
    app.register_blueprint(history.blueprint(records))
    app.register_blueprint(system.blueprint(ledger, records, monitor))
    app.register_error_handler(errors.BatonError, wire.refusal)
    app.register_error_handler(HTTPException, _http_error)

    def unexpected(error: Exception) -> Response:
        log("internal_error", where="a request", reason=repr(error))
        app.logger.debug("unexpected", exc_info=error)
        return wire.refusal(errors.Internal())

    app.register_error_handler(Exception, unexpected)
    calls = {"/tasks": partial(tasks.submit, ledger), "/exchange": partial(leases.carry_out, ledger)}
    app.wsgi_app = Shortcut(app.wsgi_app, calls, unexpected)  # type: ignore[method-assign]
    return app


def _http_error(error: HTTPException) -> Response:
    """Flask's own errors in our shape: no such page, wrong method, too large, cut short."""
    if isinstance(error, WerkzeugMethodNotAllowed):
        allowed = sorted(error.valid_methods or ())
        response = wire.refusal(errors.MethodNotAllowed(f"allowed here: {', '.join(allowed)}"))
        response.headers["Allow"] = ", ".join(allowed)
        return response
    if error.code == 404:
        return wire.refusal(errors.NotFound("there is no such page"))
    if error.code == 413:
        return wire.refusal(errors.TooLarge(f"a request may have {REQUEST_BYTES_MAX} bytes"))
    if error.code is not None and error.code >= 500:
        return wire.refusal(errors.Internal())
    return wire.refusal(errors.Malformed(error.description))
