"""What operators do about limits, pauses and workers' orders."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.ledger import Ledger
from dispatcher.limits import Kind, named
from dispatcher.records import Records
from shared import errors
from shared.operating import LimitName, LimitSetting
from shared.protocol import Nothing, QueueName

_setting = msgspec.json.Decoder(LimitSetting)


def blueprint(ledger: Ledger, records: Records) -> Blueprint:
    """The routes /limits, /queues and /types."""
    routes = Blueprint("limits", __name__)
    _add_pauses(routes, ledger, records)

    @routes.get("/limits")
    def list_limits() -> Response:
        wire.query(Nothing)
        return wire.answer({"limits": ledger.limits.views()})

    @routes.put("/limits")
    def put_limit() -> Response:
        wire.query(Nothing)
        return wire.answer(ledger.limits.put(wire.decode(wire.body(), _setting)))

    @routes.delete("/limits")
    def remove_limit() -> Response:
        kind, name = named(wire.query(LimitName))
        return wire.answer(ledger.limits.remove(kind, name))

    return routes


def _add_pauses(routes: Blueprint, ledger: Ledger, records: Records) -> None:
    """A queue or type may be paused before there is anything in it."""

    @routes.get("/queues")
    def queues() -> Response:
        wire.query(Nothing)
        return wire.answer(records.queues())

    @routes.post("/queues/<name>/pause")
    def pause_queue(name: str) -> Response:
        return _pause("queue", name, True)

    @routes.post("/queues/<name>/resume")
    def resume_queue(name: str) -> Response:
        return _pause("queue", name, False)

    @routes.post("/types/<name>/pause")
    def pause_type(name: str) -> Response:
        return _pause("type", name, True)

    @routes.post("/types/<name>/resume")
    def resume_type(name: str) -> Response:
        return _pause("type", name, False)

    def _pause(kind: Kind, name: str, paused: bool) -> Response:
        wire.nothing()
        try:
            msgspec.convert(name, QueueName)
        except msgspec.ValidationError:
            raise errors.Invalid(f"{kind} must be 1 to 100 of a-z 0-9 _ . -, not {name!r}", field=kind) from None
        warning = records.stranger_warning(kind, name)
        ledger.limits.pause(kind, name, paused)
        return wire.answer(wire.warned({kind: name, "paused": paused}, warning))
