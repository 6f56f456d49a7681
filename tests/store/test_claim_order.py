"""Who gets what: the best eligible first, whatever their types, within the size of an answer."""

from __future__ import annotations

import pytest

from shared.protocol import WANT_MAX
from tests.support.builder import Builder
from tests.support.messages import checkpoint, crashed, released


def _claimed(tasks: Builder, want: int = 100, **parts: object) -> list[int]:
    return [grant.task_id for grant in tasks.claim("w1", want, **parts)]


def test_priority_comes_first_then_age(tasks: Builder) -> None:
    for priority in (0, 5, -3, 5, 0, 32767, -32768):
        tasks.submit(priority=priority)

    assert _claimed(tasks) == [6, 2, 4, 1, 5, 3, 7]


def test_mixed_types_are_claimed_in_one_order(tasks: Builder) -> None:
    for type, priority in (("a", 0), ("b", 1), ("c", 0), ("a", 1), ("b", 0)):
        tasks.submit(type, priority=priority)

    assert _claimed(tasks) == [2, 4, 1, 3, 5]


def test_a_worker_gets_only_types_it_serves(tasks: Builder) -> None:
    for type in ("a", "b", "c", "a"):
        tasks.submit(type)

    assert _claimed(tasks, types=["a", "c"]) == [1, 3, 4]
    assert _claimed(tasks, types=[]) == []


def test_a_released_task_is_again_the_oldest(tasks: Builder) -> None:
    tasks.submit_many(3)
    (first,) = tasks.claim("w1")

    tasks.report(released(first))

    assert _claimed(tasks) == [1, 2, 3]


def test_a_task_of_high_priority_that_travels_alone_goes_before_a_batch(tasks: Builder) -> None:
    tasks.submit_many(2)
    tasks.report(crashed(tasks.start("w2", priority=9)), worker="w2")

    assert [_claimed(tasks), _claimed(tasks)] == [[3], [1, 2]]


def test_no_more_is_claimed_than_wanted(tasks: Builder) -> None:
    tasks.submit_many(10)

    assert [_claimed(tasks, 3), _claimed(tasks, 0), _claimed(tasks, 100)] == [[1, 2, 3], [], list(range(4, 11))]


def test_one_claim_has_a_limit_of_its_own(tasks: Builder) -> None:
    tasks.submit_many(WANT_MAX + 5)

    assert len(_claimed(tasks, 2**63 - 1)) == WANT_MAX


def test_a_claim_of_large_payloads_fits_into_one_answer(tasks: Builder) -> None:
    tasks.submit_many(20, payload={"large": "x" * 1_000_000})

    claims = [_claimed(tasks) for _ in range(3)]

    assert [len(ids) for ids in claims] == [9, 9, 2]
    assert [task_id for ids in claims for task_id in ids] == list(range(1, 21))


def test_a_claim_of_large_checkpoints_fits_into_one_answer(tasks: Builder) -> None:
    tasks.submit_many(12)
    grants = tasks.claim(want=12)
    tasks.save(*(checkpoint(grant, 1, "x" * 1_000_000) for grant in grants[:6]))
    tasks.save(*(checkpoint(grant, 1, "x" * 1_000_000) for grant in grants[6:]))
    tasks.report(*map(released, grants))

    sizes = [sum(len(bytes(grant.checkpoint.state)) for grant in tasks.claim(want=12)) for _ in range(2)]

    assert max(sizes) <= 10_000_000
    assert sum(sizes) == 12 * 1_000_002


def test_each_claim_has_a_lease_of_its_own_and_shares_it(tasks: Builder) -> None:
    tasks.submit_many(4)

    first, second = tasks.claim(want=2), tasks.claim(want=2)

    leases = [[grant.lease_id for grant in claim] for claim in (first, second)]
    assert [len(set(lease)) for lease in leases] == [1, 1]
    assert leases[0] != leases[1]


@pytest.mark.parametrize("types", [None, ["a", "b"]])
def test_a_worker_may_want_some_of_its_types_only(tasks: Builder, types: list[str] | None) -> None:
    older, wanted = tasks.submit("a"), tasks.submit("b")

    first = tasks.claim(want=5, types=types, want_types=["b", "c"])
    second = tasks.claim(want=5, types=types, want_types=[])
    third = tasks.claim(want=5, types=types)

    assert [[grant.task_id for grant in grants] for grants in (first, second, third)] == [[wanted], [], [older]]
