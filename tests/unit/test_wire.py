"""What a client is told about a message that does not fit: the field, and what would be right there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dispatcher import wire
from shared import errors
from shared.flows import FlowSubmission
from shared.protocol import Nothing, Submission, TaskFilter


@pytest.mark.parametrize(
    ("message", "kind", "told"),
    [
        ({"type": "a", "priorty": 1}, Submission, "priorty: there is no such field; did you mean 'priority'?"),
        ({"owner": "me"}, TaskFilter, "owner: there is no such field; there are: status, type, tag, queue, "),
        ({"owner": "me"}, Nothing, "owner: there is no such field; none is taken here"),
        ({"status": "done"}, TaskFilter, "status: 'done' is none of blocked, cancelled, completed, failed, "),
        (
            {"tasks": [{"key": "a", "type": "b", "backoff": {"kind": "square"}}]},
            FlowSubmission,
            "tasks[0].backoff.kind: 'square' is none of exponential, fixed, linear",
        ),
        (
            {"tasks": [{"key": "a", "type": "b", "map": {"ovr": [1]}}]},
            FlowSubmission,
            "tasks[0].map.ovr: there is no such field; did you mean 'over'?",
        ),
    ],
)
def test_who_names_what_there_is_not_is_told_what_there_is(message: Any, kind: Any, told: str) -> None:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)

    with pytest.raises(errors.Invalid) as refused:
        wire.decode(msgspec.json.encode(message), decoder)

    assert str(refused.value).startswith(told)
    assert refused.value.details["field"] == told.split(":")[0]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'\xef\xbb\xbf{"type": "noop"}', "the body begins with a byte order mark; send it as UTF-8 without one"),
        ('{"type": "noop"}'.encode("utf-16-le"), "the body is not JSON: "),
    ],
)
def test_another_encoding_is_not_taken_for_a_value_that_cannot_be_kept(body: bytes, told: str) -> None:
    with pytest.raises(errors.Malformed, match=f"^{told}"):
        wire.decode(body, msgspec.json.Decoder(Submission))
