"""Every error that crosses the wire, as one tree.

    BatonError
    ├── Refused                  the caller must change something
    │   ├── Malformed            400  not JSON
    │   ├── NotFound             404  no such task, worker or page
    │   ├── MethodNotAllowed     405
    │   ├── LeaseLost            409  the grant is no longer the task's
    │   ├── AlreadyEnded         409  the task has ended
    │   ├── Conflict             409  the state does not allow it
    │   ├── TooLarge             413  over a limit
    │   ├── UnsupportedMedia     415  not sent as JSON
    │   └── Invalid              422  a field is unknown, wrong or out of range
    ├── Unavailable              503  try again later
    │   ├── Busy                      too much waits already
    │   ├── DatabaseUnavailable       the database cannot be written now
    │   │   └── Unconfirmed           it may have been written all the same
    │   └── Unreachable               (client only) no dispatcher answers at the URL
    └── Internal                 500  our mistake

A class has a code, an HTTP status, and a docstring that is its default message. `body()` is the
one shape on the wire; `from_body()` turns it back into the same class at the client.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class BatonError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str | None = None, /, **details: Any) -> None:
        self.message = message or inspect.getdoc(type(self)) or self.code
        self.details = details
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The answer's body: `{"error": {"code", "message", "details"}}`."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


class Refused(BatonError):
    """The request cannot be carried out as it is."""

    code = "refused"
    http_status = 400


class Malformed(Refused):
    """The body is not JSON."""

    code = "malformed"


class NotFound(Refused):
    """There is no such thing."""

    code = "not_found"
    http_status = 404


class MethodNotAllowed(Refused):
    """This URL does not take that method."""

    code = "method_not_allowed"
    http_status = 405


class Conflict(Refused):
    """The present state does not allow it."""

    code = "conflict"
    http_status = 409


class LeaseLost(Conflict):
    """This grant is no longer the task's; drop the work."""

    code = "lease_lost"


class AlreadyEnded(Conflict):
    """The task has already ended."""

    code = "already_ended"


class TooLarge(Refused):
    """The body is over the limit."""

    code = "too_large"
    http_status = 413


class UnsupportedMedia(Refused):
    """The body must be JSON: send it with the header 'Content-Type: application/json'."""

    code = "unsupported_media_type"
    http_status = 415


class Invalid(Refused):
    """A field is unknown, wrong or out of range."""

    code = "invalid"
    http_status = 422


class Unavailable(BatonError):
    """It cannot be done now; try again later."""

    code = "unavailable"
    http_status = 503
    retry_after_seconds: ClassVar[int] = 1


class Busy(Unavailable):
    """Too many requests wait already; try again in a second."""

    code = "busy"


class DatabaseUnavailable(Unavailable):
    """The database cannot be written now; nothing was stored."""

    code = "database_unavailable"


class Unconfirmed(DatabaseUnavailable):
    """The line to the database broke during the commit; it may be stored or not. Look before you repeat it."""

    code = "unconfirmed"


class Unreachable(Unavailable):
    """No dispatcher answers at the URL."""

    code = "unreachable"


class Internal(BatonError):
    """The dispatcher made a mistake; its log has the details."""

    code = "internal"


def _tree(root: type[BatonError]) -> list[type[BatonError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


BY_CODE: dict[str, type[BatonError]] = {error.code: error for error in _tree(BatonError)}


def from_body(http_status: int, body: Any) -> BatonError:
    """The error that an answer carries; an answer of another shape becomes Refused or Unavailable."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        family = Refused if http_status < 500 else Unavailable
        return family(f"the server answered {http_status} in a shape that is not Baton's")
    details = error.get("details")
    kind = BY_CODE.get(str(error.get("code")), BatonError)
    return kind(error.get("message"), **(details if isinstance(details, dict) else {}))
