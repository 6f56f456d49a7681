"""How many submissions travel in one request: as many as the limits of a request allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from shared.protocol import BATCH_MAX, REQUEST_BYTES_MAX, Submission

_BYTES_AIM: Final = REQUEST_BYTES_MAX // 2  # so a batch always fits, whatever stands around the payloads
_AROUND_BYTES: Final = 200  # what a submission takes besides its payload, as a rule


def batches(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    """The submissions in order, a request's worth at a time."""
    batch: list[Submission] = []
    size = 0
    for submission in submissions:
        weight = len(bytes(submission.payload)) + _AROUND_BYTES
        if batch and (len(batch) == BATCH_MAX or size + weight > _BYTES_AIM):
            yield batch
            batch, size = [], 0
        batch.append(submission)
        size += weight
    if batch:
        yield batch
