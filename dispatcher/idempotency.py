"""Requests that may come again: one with the same Idempotency-Key gets the answer of the first.

The answer is stored in the very transaction that stores the tasks, so there is never one without the
other. While the first is under way a second waits for the writer, and then finds the answer: the
conflict that other systems report in between cannot be observed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from dispatcher.transaction import Transaction
from shared import errors
from shared.idempotency import check_key


class Repeatable(NamedTuple):
    """A request's key and what stands for its body, as it came: the dispatcher's profiles may change meanwhile."""

    key: str
    body_hash: str


class Answer(NamedTuple):
    """An answer as it goes out."""

    status: int
    body: bytes
    replayed: bool = False


def repeatable(key: str, body: bytes) -> Repeatable:
    """The request as it is remembered; raises Invalid for a key that cannot be."""
    check_key(key)
    return Repeatable(key, hashlib.sha256(body).hexdigest())


def kept(tx: Transaction, request: Repeatable) -> Answer | None:
    """What was answered when the request came before. Invalid: with another body."""
    row = tx.answer_of_key(key=request.key)
    if row is None:
        return None
    body_hash, status, body = row
    if body_hash != request.body_hash:
        raise errors.Invalid(
            f"Idempotency-Key {request.key!r} came with another body before; take a new key for a new request",
            field="Idempotency-Key",
        )
    return Answer(status, bytes(body), True)


def once(tx: Transaction, request: Repeatable, run: Callable[[], Answer]) -> Answer:
    """Carry out `run` and keep its answer, or give the one that was kept. Invalid: another body."""
    key, body_hash = request
    if tx.reserve_key(key=key, body_hash=body_hash, answer=b"", now=tx.now) is None:
        before = kept(tx, request)
        assert before is not None, "whoever has reserved the key has committed"
        return before
    answer = run()
    tx.keep_answer(key=key, status=answer.status, answer=answer.body)
    return answer
