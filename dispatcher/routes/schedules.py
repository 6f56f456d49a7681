"""What clients ask about schedules: add, look, change, pause, resume, run, remove."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response

from dispatcher import wire
from dispatcher.ledger import Ledger
from shared.protocol import Nothing
from shared.schedules import ScheduleChange, ScheduleFilter, ScheduleSubmission, ScheduleView, SlotFilter

_schedule = msgspec.json.Decoder(ScheduleSubmission)
_change = msgspec.json.Decoder(ScheduleChange)


def blueprint(ledger: Ledger) -> Blueprint:
    """The routes under /schedules."""
    routes = Blueprint("schedules", __name__)
    _add_steering(routes, ledger)

    @routes.post("/schedules")
    def add() -> Response:
        wire.query(Nothing)
        wanted = wire.decode(ledger.profiles.fill(wire.body()), _schedule)
        return wire.answer(_told(*ledger.schedules.add(wanted)), 201)

    @routes.get("/schedules")
    def list_schedules() -> Response:
        return wire.answer(ledger.schedules.page(wire.query(ScheduleFilter)))

    @routes.get("/schedules/<name>")
    def show_schedule(name: str) -> Response:
        wire.query(Nothing)
        return wire.answer(ledger.schedules.show(name))

    @routes.patch("/schedules/<name>")
    def change_schedule(name: str) -> Response:
        wire.query(Nothing)
        change = wire.decode(ledger.profiles.fill(wire.body()), _change)
        return wire.answer(_told(*ledger.schedules.change(name, change)))

    @routes.delete("/schedules/<name>")
    def remove(name: str) -> Response:
        wire.query(Nothing)
        return wire.answer(ledger.schedules.remove(name))

    @routes.get("/schedules/<name>/history")
    def history(name: str) -> Response:
        return wire.answer(ledger.schedules.history(name, wire.query(SlotFilter)))

    return routes


def _told(view: ScheduleView, warning: str | None) -> dict[str, Any]:
    return wire.warned(msgspec.to_builtins(view, builtin_types=(msgspec.Raw,)), warning)


def _add_steering(routes: Blueprint, ledger: Ledger) -> None:
    """The routes that take no body."""

    @routes.post("/schedules/<name>/pause")
    def pause(name: str) -> Response:
        wire.nothing()
        return wire.answer(ledger.schedules.pause(name, True))

    @routes.post("/schedules/<name>/resume")
    def resume(name: str) -> Response:
        wire.nothing()
        return wire.answer(ledger.schedules.pause(name, False))

    @routes.post("/schedules/<name>/run")
    def run(name: str) -> Response:
        wire.nothing()
        return wire.answer(ledger.schedules.fire_now(name), 201)
