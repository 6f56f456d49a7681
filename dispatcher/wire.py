"""Bytes to messages and back: decoding with errors that name the field, encoding, queries."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from flask import Response, request

from dispatcher.expected import instead
from dispatcher.idempotency import Answer
from shared import errors
from shared.flows import FlowSubmission, ForeignFlow, from_foreign, is_foreign
from shared.protocol import REQUEST_BYTES_MAX, Nothing
from shared.wording import in_words

M = TypeVar("M")
_PATH = re.compile(r" - at `\$\.?(.*?)`$")
_FIELD = re.compile(r"field `(.+?)`")
_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_nothing = msgspec.json.Decoder(Nothing)
_flow = msgspec.json.Decoder(FlowSubmission)
_foreign_flow = msgspec.json.Decoder(ForeignFlow)


def body(optional: bool = False) -> bytes:
    """The request's body, as JSON text in UTF-8 within the size limit; `optional`: none means {}."""
    environ = request.environ  # what nearly all requests need of it, without the framework's own objects
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdecimal():
        if int(length) > REQUEST_BYTES_MAX:
            raise errors.TooLarge(f"a request may have {REQUEST_BYTES_MAX} bytes; send less at a time")
        data = read(environ, int(length))
    else:
        data = request.get_data(cache=False)
    if not data and optional:
        return b"{}"
    if environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        raise errors.UnsupportedMedia(
            f"the body is sent as {request.mimetype or 'nothing'}, not as JSON; "
            "add the header 'Content-Type: application/json'"
        )
    return data


def read(environ: Mapping[str, Any], length: int) -> bytes:
    """A request's body of known length; Malformed if less came."""
    data: bytes = environ["wsgi.input"].read(length)
    if len(data) < length:
        raise errors.Malformed(f"the body was cut short: {len(data)} of {length} bytes came")
    return data


def decode(data: bytes, decoder: msgspec.json.Decoder[M]) -> M:
    """The message in `data`. Malformed if it is not JSON, Invalid naming the field if it does not fit."""
    try:
        if not data.isascii():
            data.decode()  # fields kept as raw bytes are not looked into below
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise errors.Malformed(f"the body is not UTF-8: byte {error.start} is {data[error.start]:#x}") from None
    except msgspec.ValidationError as error:
        raise invalid(error, decoder.type) from None
    except msgspec.DecodeError as error:
        raise _unreadable(data, error) from None
    except RecursionError:
        raise errors.Invalid("the body is nested too deeply", field="") from None


def _unreadable(data: bytes, error: msgspec.DecodeError) -> errors.Refused:
    """Some texts are JSON to others but cannot be kept: NaN, Infinity, lone surrogates."""
    if data.startswith(codecs.BOM_UTF8):
        return errors.Malformed("the body begins with a byte order mark; send it as UTF-8 without one")
    try:
        json.loads(data.decode())  # as text: of bytes it would take other encodings, too
    except (ValueError, RecursionError):
        return errors.Malformed(f"the body is not JSON: {error}")
    return errors.Invalid(f"NaN, Infinity and lone surrogates cannot be kept: {error}", field="")


def invalid(error: msgspec.ValidationError, kind: Any) -> errors.Invalid:
    """msgspec's complaint about a message as ours: the field first, then what was expected."""
    text = str(error)
    path = _PATH.search(text)
    where = path.group(1) if path else ""
    what = _PATH.sub("", text)
    named = _FIELD.search(what)
    field = ".".join(part for part in (where, named.group(1) if named else "") if part)
    message = f"{field or 'the body'}: {instead(what, kind, where) or in_words(what)}"
    return errors.Invalid(message, field=field)


def query(kind: type[M]) -> M:
    """The request's query parameters as a message; unknown ones and wrong values are refused."""
    try:
        given = request.args.to_dict() if request.environ.get("QUERY_STRING") else {}
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error, kind) from None


def nothing() -> None:
    """A POST that needs nothing: no query, and no body or an empty object; anything else is refused."""
    query(Nothing)
    decode(body(optional=True), _nothing)


def answer(value: Any, status: int = 200) -> Response:
    """A value as the JSON answer."""
    return sent(Answer(status, text(value)))


def warned(told: dict[str, Any], warning: str | None) -> dict[str, Any]:
    """What is answered, with a warning if there is one."""
    return told if warning is None else {**told, "warning": warning}


def text(value: Any) -> bytes:
    """A value as it goes out."""
    return _encode(value) + b"\n"


def refusal(error: errors.BatonError) -> Response:
    """An error as the JSON answer, in the one shape."""
    response = answer(error.body(), error.http_status)
    if isinstance(error, errors.Unavailable):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def flow(data: bytes) -> tuple[FlowSubmission, Mapping[str, str]]:
    """A flow in either form, and in which fields the parents of its keys stood if not in `depends_on`."""
    if is_foreign(decode(data, _fields)):
        return from_foreign(decode(data, _foreign_flow))
    return decode(data, _flow), {}


def sent(answer: Answer) -> Response:
    """An answer; one that was kept for a request that came again says so."""
    response = Response(answer.body, answer.status, content_type="application/json")
    if answer.replayed:
        response.headers["Idempotent-Replay"] = "true"
    return response
