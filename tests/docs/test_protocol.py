"""The documents with transcripts against the dispatcher: every call, every error."""

from __future__ import annotations

import pytest

from shared import errors
from shared.settings import ROOT
from tests.docs.transcripts import TRANSCRIBED, Stage, read, values
from tests.support.dispatcher import Dispatcher

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # what people try first; a server tells more
@pytest.mark.parametrize("name", TRANSCRIBED)
def test_every_transcript_is_what_the_dispatcher_answers(dispatcher: Dispatcher, name: str) -> None:
    stage = Stage(dispatcher)
    differences: list[str] = []

    for call in read((ROOT / "docs" / name).read_text()):
        status, answered = stage.run(call)
        found = stage.differences(values(call.answer), answered)
        found += [] if status == call.status else [f"documented HTTP {call.status}, real HTTP {status}"]
        differences += [f"{call}: {difference}" for difference in found]

    assert not differences, f"docs/{name} differs:\n" + "\n".join(differences)


def test_every_error_has_its_row() -> None:
    rows = [line for line in PROTOCOL.splitlines() if line.startswith("| ")]
    families = {"error", "refused", "unreachable"}  # the roots of the tree, and what only a client says
    lacking = [
        f"{kind.http_status} {code}"
        for code, kind in errors.BY_CODE.items()
        if code not in families and not any(str(kind.http_status) in row and f"`{code}`" in row for row in rows)
    ]
    assert not lacking
