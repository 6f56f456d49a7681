"""Checkpoints and output: what is stored, in which order, and together."""

from __future__ import annotations

import pytest

from shared import errors
from shared.lifecycle import TaskStatus
from tests.support.builder import Builder
from tests.support.messages import body, checkpoint, completed, crashed, failed, raw, released


def _output(tasks: Builder, task_id: int) -> bytes:
    return b"".join(tasks.dispatcher.records.output(task_id))


def _saved(tasks: Builder, task_id: int) -> tuple[int, bytes]:
    view = tasks.dispatcher.records.checkpoint(task_id)
    return view["seq"], bytes(view["state"])


def test_only_a_greater_seq_is_stored(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.save(checkpoint(grant, 5, "five", output=("first",)))

    answers = [
        tasks.save(checkpoint(grant, 5, "a repeat", output=("twice",))),
        tasks.save(checkpoint(grant, 4, "too late", output=("late",))),
    ]

    assert [(answer.lost, answer.refused) for answer in answers] == [([], []), ([], [])]
    assert _saved(tasks, grant.task_id) == (5, b'"five"')
    assert _output(tasks, grant.task_id) == b'"first"\n'


def test_seq_grows_across_attempts(tasks: Builder) -> None:
    first = tasks.start()
    tasks.save(checkpoint(first, 5, "of the first"))
    tasks.report(released(first))
    second = tasks.claim_one()

    tasks.save(checkpoint(second, 1, "began at one again"))
    ignored = _saved(tasks, first.task_id)
    tasks.save(checkpoint(second, 6, "goes on"))

    assert (ignored[0], _saved(tasks, first.task_id)) == (5, (6, b'"goes on"'))


def test_chunks_of_output_are_stored_with_their_checkpoint_or_not_at_all(tasks: Builder) -> None:
    grant = tasks.start()
    huge = b'"' + b"x" * (1 << 20) + b'"'

    refused = tasks.save(checkpoint(grant, 1, "small", output=(1, 2, huge))).refused
    before = _output(tasks, grant.task_id)
    tasks.save(checkpoint(grant, 1, "small", output=([1, 2], {"three": 3})))

    assert [item.error["code"] for item in refused] == ["too_large"]
    assert (before, _output(tasks, grant.task_id)) == (b"", b'[1,2]\n{"three":3}\n')


def test_output_goes_on_where_the_last_attempt_was_saved(tasks: Builder) -> None:
    first = tasks.start()
    tasks.save(checkpoint(first, 1, output=("a", "b")))
    tasks.fall_silent()
    second = tasks.claim_one("w2")

    tasks.save(checkpoint(first, 2, output=("lost",)))
    tasks.report(completed(second, checkpoint=body(2, output=("c",))), worker="w2")

    assert _output(tasks, first.task_id) == b'"a"\n"b"\n"c"\n'


def test_a_chunk_with_line_breaks_stays_on_one_line(tasks: Builder) -> None:
    grant = tasks.start()

    tasks.save(checkpoint(grant, 1, output=(b'{"a":\r\n 1,\n"b": "x\\ny"}',)))

    assert _output(tasks, grant.task_id) == b'{"a":   1, "b": "x\\ny"}\n'


def test_long_output_is_read_in_order(tasks: Builder) -> None:
    grant = tasks.start()
    for seq in range(1, 6):
        tasks.save(checkpoint(grant, seq, output=tuple(range(seq * 10, seq * 10 + 10))))

    assert _output(tasks, grant.task_id).split() == [str(number).encode() for number in range(10, 60)]


@pytest.mark.parametrize("report", [failed, crashed, released])
def test_a_last_checkpoint_comes_with_the_report(tasks: Builder, report: object) -> None:
    grant = tasks.start()

    tasks.report(report(grant, checkpoint=body(3, {"at": 3})))  # type: ignore[operator]

    assert _saved(tasks, grant.task_id) == (3, b'{"at":3}')


def test_a_checkpoint_of_a_lost_grant_is_lost_and_leaves_the_stored_one(tasks: Builder) -> None:
    first = tasks.start()
    tasks.save(checkpoint(first, 1, "kept"))
    tasks.fall_silent()
    tasks.claim_one("w2")

    answer = tasks.save(checkpoint(first, 2, "stale"))

    assert [lost.attempt for lost in answer.lost] == [1]
    assert _saved(tasks, first.task_id) == (1, b'"kept"')


def test_a_checkpoint_is_dropped_when_the_task_completes(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.save(checkpoint(grant, 1, output=("kept",)))

    tasks.report(completed(grant))

    with pytest.raises(errors.NotFound):
        tasks.dispatcher.records.checkpoint(grant.task_id)
    assert _output(tasks, grant.task_id) == b'"kept"\n'


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_a_revived_task_goes_on_from_its_checkpoint(tasks: Builder, status: TaskStatus) -> None:
    task_id, _ = tasks.in_status(status)

    tasks.revive(task_id)
    grant = tasks.claim_one()

    assert (grant.task_id, grant.attempt) == (task_id, 2)
    assert grant.checkpoint is not None
    assert (grant.checkpoint.seq, grant.checkpoint.output_chunks) == (1, 2)
    assert tasks.counters(task_id) == (2, 0, 0, 0)


def test_a_task_revived_from_scratch_has_forgotten_everything(tasks: Builder) -> None:
    task_id, _ = tasks.in_status(TaskStatus.FAILED, payload={"limit": 1})

    tasks.revive(task_id, from_scratch=True, payload=raw({"limit": 2}))
    grant = tasks.claim_one()

    assert (grant.checkpoint, bytes(grant.payload)) == (None, b'{"limit":2}')
    assert (_output(tasks, task_id), tasks.view(task_id).progress) == (b"", None)
    assert tasks.save(checkpoint(grant, 1, "anew", output=("a",))).lost == []
    assert _saved(tasks, task_id) == (1, b'"anew"')


@pytest.mark.parametrize("wrong", [{"progress": 1.7}, {"progress": -0.1}, {"elapsed_seconds": -1.0}])
def test_a_senseless_checkpoint_is_refused(tasks: Builder, wrong: dict[str, float]) -> None:
    grant = tasks.start()

    answer = tasks.save(checkpoint(grant, 1, **wrong))

    assert [item.error["code"] for item in answer.refused] == ["invalid"]
    with pytest.raises(errors.NotFound):
        tasks.dispatcher.records.checkpoint(grant.task_id)
