"""Past Flask: the two calls that come by the thousand.

A request to one of them that asks for nothing unusual (a JSON body of known length, no query, no
Idempotency-Key) goes from the server straight to the code of its route: the framework would be a
third of the interpreter's work for a submission. Everything else goes to Flask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from flask import Response

from dispatcher import wire
from dispatcher.idempotency import Answer
from shared import errors
from shared.protocol import REQUEST_BYTES_MAX

Environ = dict[str, Any]
_LINES = {status: f"{status} {HTTPStatus(status).phrase}" for status in (200, 201)}


class Shortcut:
    """A WSGI application around another one. `calls`: by path, what answers the body of a POST."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        calls: Mapping[str, Callable[[bytes], Answer]],
        unexpected: Callable[[Exception], Response],
    ) -> None:
        self._app = app
        self._calls = calls
        self._unexpected = unexpected

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or have it answered."""
        call = self._calls.get(environ["PATH_INFO"])
        if call is None or not _is_plain(environ):
            return self._app(environ, start_response)
        try:
            status, body, _ = call(wire.read(environ, int(environ["CONTENT_LENGTH"])))
        except errors.BatonError as error:
            return wire.refusal(error)(environ, start_response)
        except Exception as error:
            return self._unexpected(error)(environ, start_response)
        start_response(_LINES[status], [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def _is_plain(environ: Environ) -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    return bool(
        environ["REQUEST_METHOD"] == "POST"
        and environ.get("CONTENT_TYPE") == "application/json"
        and length.isdecimal()
        and int(length) <= REQUEST_BYTES_MAX
        and not environ.get("QUERY_STRING")
        and "HTTP_IDEMPOTENCY_KEY" not in environ
    )
