"""A long list of submissions, cut into as few requests as the limits allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from shared.protocol import BATCH_MAX, Submission

_REQUEST_BYTES_AIM: Final = 8 * 1024 * 1024  # half of what one request may have, so a batch always fits


def in_batches(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    """Batches in order; nothing of a later one is read before it is asked for."""
    batch: list[Submission] = []
    size = 0
    for submission in submissions:
        weight = len(bytes(submission.payload)) + 200
        if batch and (len(batch) == BATCH_MAX or size + weight > _REQUEST_BYTES_AIM):
            yield batch
            batch, size = [], 0
        batch.append(submission)
        size += weight
    if batch:
        yield batch
