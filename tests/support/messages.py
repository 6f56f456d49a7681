"""A worker's messages about a grant, with as little to write as possible."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from shared.protocol import Checkpoint, CheckpointBody, Grant, Holding, Result


def raw(value: Any) -> Raw:
    """A value as the body it travels as; bytes are one already."""
    return Raw(value if isinstance(value, bytes) else msgspec.json.encode(value))


def fence(grant: Grant) -> dict[str, Any]:
    return {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}


def completed(grant: Grant, result: Any = 42, **fields: Any) -> Result:
    return Result(**fence(grant), outcome="completed", result=raw(result), **fields)


def failed(grant: Grant, message: str = "no luck", **fields: Any) -> Result:
    error = raw({"type": "ValueError", "message": message})
    return Result(**fence(grant), outcome="failed", error=error, **fields)


def crashed(grant: Grant, **fields: Any) -> Result:
    error = raw({"type": "Killed", "message": "signal 9"})
    return Result(**fence(grant), outcome="crashed", error=error, **fields)


def released(grant: Grant, **fields: Any) -> Result:
    return Result(**fence(grant), outcome="released", **fields)


def body(seq: int, state: Any = None, output: tuple[Any, ...] = (), **fields: Any) -> CheckpointBody:
    return CheckpointBody(seq=seq, state=raw(state), output=[raw(chunk) for chunk in output], **fields)


def checkpoint(
    grant: Grant, seq: int, state: Any = None, output: tuple[Any, ...] = (), **fields: Any
) -> Checkpoint:
    chunks = [raw(chunk) for chunk in output]
    return Checkpoint(**fence(grant), seq=seq, state=raw(state), output=chunks, **fields)


def holding(grant: Grant, running: bool = False, **fields: Any) -> Holding:
    return Holding(grant.lease_id, grant.task_id, grant.attempt, running=running, **fields)
