"""Which Idempotency-Key a request may have: one rule for those who send it and for who keeps it."""

from __future__ import annotations

from shared import errors
from shared.protocol import KEY_CHARS_MAX


def check_key(key: str, room: int = 0) -> None:
    """Invalid for a key that cannot travel in a header, or be kept with `room` more characters."""
    most = KEY_CHARS_MAX - room
    if not (0 < len(key) <= most and key.isascii() and key.isprintable()):
        raise errors.Invalid(
            f"Idempotency-Key must have 1 to {most} printable ASCII characters", field="Idempotency-Key"
        )
