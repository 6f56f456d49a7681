"""What a payload may be: a JSON object within the limits. For the dispatcher, and for who reads one from a file.

Nothing is changed here: a payload travels as the bytes it came in.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared import errors
from shared.protocol import BODY_BYTES_MAX, DEPTH_MAX


def check_payload(raw: msgspec.Raw, field: str) -> bytes:
    """The payload's bytes, if it is an object within the limits; raises Invalid or TooLarge naming the field."""
    body = bytes(raw)
    if len(body) > BODY_BYTES_MAX:
        raise errors.TooLarge(f"{field} has {len(body)} bytes; the limit is {BODY_BYTES_MAX}", field=field)
    if not body.startswith(b"{"):
        raise errors.Invalid(f'{field} must be a JSON object, for example {{"limit": 1000}}', field=field)
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise errors.Invalid(f"{field} cannot be kept: {error}", field=field) from None
    except RecursionError:
        value = None
    if value is None or (body.count(b"{") + body.count(b"[") > DEPTH_MAX and _depth(value) > DEPTH_MAX):
        raise errors.Invalid(f"{field} is nested deeper than {DEPTH_MAX} levels", field=field)
    return body


def _depth(value: Any) -> int:
    """Levels of objects and arrays, counted without recursion."""
    depth, level = 0, [value]
    while level:
        containers = [item for item in level if isinstance(item, dict | list)]
        depth += bool(containers)
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return depth
