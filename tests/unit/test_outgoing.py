"""The hand and what goes out of it: nothing lost, nothing twice, everything in order."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from shared.protocol import LOG_LINES_MAX, Grant, Holding, LogLine
from tests.support.messages import checkpoint, completed
from worker.hand import Hand
from worker.outgoing import BEAT_BYTES, FREIGHT_BYTES
from worker.strand import Running
from worker.tail import Said


def grants(*task_ids: int, lease_id: str = "lease") -> list[Grant]:
    return [Grant(task_id, 1, lease_id, 100.0, "noop") for task_id in task_ids]


def ids(items: list[Any]) -> list[int]:
    return [item.task_id for item in items]


@pytest.fixture
def hand() -> Hand:
    held = Hand()
    held.add(grants(1, 2, 3))
    return held


def test_tasks_are_handed_out_in_their_order(hand: Hand) -> None:
    first = hand.next_batch(2, 1.0, lambda _: 0.1)
    hand.put_back(first[1:])

    assert ids(first) == [1, 2]
    assert ids(hand.empty_queue()) == [2, 3]


def test_a_batch_is_sized_in_seconds_but_never_empty(hand: Hand) -> None:
    assert ids(hand.next_batch(9, 0.25, lambda _: 0.1)) == [1, 2]
    assert ids(hand.next_batch(9, 0.25, lambda _: float("inf"))) == [3]
    assert hand.next_batch(9, 0.25, lambda _: 0.1) == []


def test_a_dropped_task_is_neither_run_nor_reported(hand: Hand) -> None:
    dropped = hand.drop([(2, 1), (9, 1)])

    assert dropped == [(2, 1)]
    assert ids(hand.empty_queue()) == [1, 3]
    assert hand.end([completed(grant) for grant in grants(2)]) == []
    assert hand.outgoing.is_empty


def test_a_result_is_held_until_it_is_answered_for(hand: Hand) -> None:
    hand.end([completed(grant) for grant in grants(1, 2, 3)])
    parcel = hand.outgoing.pack()

    on_its_way = hand.is_empty
    hand.outgoing.delivered(parcel)

    assert ids(parcel.results) == [1, 2, 3]
    assert not on_its_way
    assert hand.is_empty


def test_what_did_not_get_through_goes_again_in_order(hand: Hand) -> None:
    hand.save(checkpoint(grants(3)[0], seq=1))
    hand.end([completed(grant) for grant in grants(1, 2)])
    parcel = hand.outgoing.pack()
    hand.end([completed(grant) for grant in grants(3)])

    hand.outgoing.returned(parcel)

    again = hand.outgoing.pack()
    assert ids(again.results) == [1, 2, 3]
    assert [c.seq for c in again.checkpoints] == [1]


def test_only_the_newest_checkpoint_goes(hand: Hand) -> None:
    for seq in (1, 2, 3):
        hand.save(checkpoint(grants(1)[0], seq=seq))

    assert [c.seq for c in hand.outgoing.pack().checkpoints] == [3]


def test_checkpoints_with_output_all_go_in_order(hand: Hand) -> None:
    for seq, output in ((1, [Raw(b"1")]), (2, []), (3, [Raw(b"3")]), (4, [])):
        hand.save(checkpoint(grants(1)[0], seq=seq, output=output))

    assert [c.seq for c in hand.outgoing.pack().checkpoints] == [1, 3, 4]


def test_nothing_overtakes_a_checkpoint_on_its_way(hand: Hand) -> None:
    hand.save(checkpoint(grants(1)[0], seq=1))
    heartbeat = hand.outgoing.pack()
    hand.save(checkpoint(grants(1)[0], seq=2))
    hand.end([completed(grant) for grant in grants(1, 2)])

    work = hand.outgoing.pack()
    ready = hand.outgoing.has_results, hand.outgoing.has_light(results=True)
    hand.outgoing.delivered(heartbeat)
    after = hand.outgoing.pack()

    assert (ids(work.results), work.checkpoints, ready) == ([2], [], (False, False))
    assert (ids(after.results), [c.seq for c in after.checkpoints]) == ([1], [2])


def test_a_returned_checkpoint_does_not_replace_a_newer_one(hand: Hand) -> None:
    hand.save(checkpoint(grants(1)[0], seq=1))
    parcel = hand.outgoing.pack()
    hand.save(checkpoint(grants(1)[0], seq=2))

    hand.outgoing.returned(parcel)

    assert [c.seq for c in hand.outgoing.pack().checkpoints] == [2]


def test_a_message_stays_below_its_limit(hand: Hand) -> None:
    big = Raw(b'"' + b"x" * 900_000 + b'"')
    hand.add(grants(*range(4, 21)))
    for grant in grants(*range(1, 21)):
        result = completed(grant)
        result.result = big
        hand.end([result])

    parcels = []
    while parcel := hand.outgoing.pack():
        parcels.append(ids(parcel.results))

    assert [len(parcel) for parcel in parcels] == [10, 10]
    assert [task_id for parcel in parcels for task_id in parcel] == list(range(1, 21))


def test_a_heartbeat_leaves_what_would_make_it_late(hand: Hand) -> None:
    large = Raw(b'"' + b"x" * BEAT_BYTES + b'"')
    hand.save(checkpoint(grants(1)[0], seq=1, state=bytes(large)))
    hand.end([completed(grants(2)[0], bytes(large)), completed(grants(3)[0])])

    beat = hand.outgoing.pack(limit=BEAT_BYTES)
    left = hand.outgoing.has_light(results=True), hand.outgoing.has_heavy(results=False)
    freight = hand.outgoing.pack(limit=FREIGHT_BYTES)

    assert (beat.checkpoints, ids(beat.results)) == ([], [3])
    assert left == (False, True)
    assert (ids(freight.checkpoints), ids(freight.results)) == ([1], [2])
    assert not hand.outgoing.has_heavy(results=True)


def test_what_goes_with_a_heartbeat_follows_what_the_line_bears(hand: Hand) -> None:
    outgoing = hand.outgoing
    sizes = []
    for seconds, size in ((0.01, 100), (0.01, BEAT_BYTES), (0.01, BEAT_BYTES), (0.01, BEAT_BYTES), (3.0, 100)):
        outgoing.beat_took(seconds, size)
        sizes.append(outgoing.beat_bytes)
    for _ in range(20):
        outgoing.beat_took(3.0, 0)
    hand.end([completed(grants(1)[0], b'"' + b"x" * outgoing.beat_bytes + b'"')])

    assert [BEAT_BYTES // size for size in sizes] == [4, 2, 1, 1, 2]
    assert 0 < outgoing.beat_bytes < BEAT_BYTES // 16
    assert (outgoing.has_heavy(results=True), outgoing.has_light(results=True)) == (True, False)


def test_a_large_result_that_came_back_is_freight_again(hand: Hand) -> None:
    hand.end([completed(grants(1)[0], b'"' + b"x" * BEAT_BYTES + b'"')])

    for _ in range(2):
        assert (hand.outgoing.has_heavy(results=True), hand.outgoing.has_light(results=True)) == (True, False)
        parcel = hand.outgoing.pack(limit=FREIGHT_BYTES)
        assert not hand.outgoing.has_heavy(results=True)
        hand.outgoing.returned(parcel)


def test_small_things_make_no_more_than_a_heartbeat_together(hand: Hand) -> None:
    third = b'"' + b"x" * (BEAT_BYTES // 3) + b'"'
    hand.add(grants(4, 5))
    hand.end([completed(grant, third) for grant in grants(1, 2, 3, 4, 5)])

    sizes = [len(hand.outgoing.pack(limit=BEAT_BYTES)) for _ in range(3)]

    assert sizes == [2, 2, 1]


def test_of_a_large_message_that_did_not_get_through_half_goes_next(hand: Hand) -> None:
    big = b'"' + b"x" * 900_000 + b'"'
    hand.add(grants(4))
    hand.end([completed(grant, big) for grant in grants(1, 2, 3, 4)])
    whole = hand.outgoing.pack()

    hand.outgoing.returned(whole)
    half = hand.outgoing.pack()
    hand.outgoing.delivered(half)

    assert [len(whole), len(half)] == [4, 2]
    assert ids(hand.outgoing.pack().results) == [3, 4]


def test_a_result_does_not_go_before_the_last_of_its_output(hand: Hand) -> None:
    big = [Raw(b'"' + b"x" * 900_000 + b'"')] * 5
    for seq in range(1, 4):
        hand.save(checkpoint(grants(1)[0], seq=seq, output=big))
    hand.end([completed(grant) for grant in grants(1)])

    first = hand.outgoing.pack()
    nothing = hand.outgoing.pack()
    hand.outgoing.delivered(first)
    last = hand.outgoing.pack()

    assert ([c.seq for c in first.checkpoints], first.results) == ([1, 2], [])
    assert not nothing
    assert ([c.seq for c in last.checkpoints], ids(last.results)) == ([3], [1])


def test_too_much_unsent_output_makes_tasks_wait(hand: Hand) -> None:
    big = [Raw(b'"' + b"x" * 900_000 + b'"')] * 10
    before = hand.outgoing.is_flooded

    for seq in range(4):
        hand.save(checkpoint(grants(1)[0], seq=seq + 1, output=big))

    assert not before
    assert hand.outgoing.is_flooded


def test_everything_is_packed_for_the_disk_at_the_end(hand: Hand) -> None:
    hand.end([completed(grant) for grant in grants(1, 2)])
    hand.outgoing.pack()
    hand.end([completed(grant) for grant in grants(3)])

    kept = [ids(parcel.results) for parcel in hand.outgoing.pack_all()]

    assert kept == [[1, 2], [3]]


def test_the_list_names_everything_held_once(hand: Hand) -> None:
    hand.add(grants(4, 5, lease_id="other"))
    hand.end([completed(grant) for grant in grants(1)])
    running = [
        Running(grants(2)[0], None, None),
        Running(grants(4, lease_id="other")[0], 0.5, "half"),
        Running(grants(9)[0], 0.1, None),
    ]

    listed = hand.holding(running)

    assert listed == [
        Holding("other", 4, 1, running=True, progress=0.5, message="half"),
        Holding("lease", task_ids=[2, 3, 1], running=[2]),
        Holding("other", task_ids=[5], running=[]),
    ]


def said(*texts: str) -> list[Said]:
    return [(0.0, "info", text) for text in texts]


def messages(lines: list[LogLine]) -> list[str]:
    return [line.message for line in lines]


def test_log_lines_of_a_running_task_go_with_a_heartbeat_only(hand: Hand) -> None:
    (grant,) = grants(1)
    hand.say(grant, said("a", "b"))

    work = hand.outgoing.pack()
    heartbeat = hand.outgoing.pack(logs=True)

    assert not work
    assert [messages(lines.message(0.0).lines) for lines in heartbeat.logs] == [["a", "b"]]


def test_the_rest_of_a_log_goes_with_the_result(hand: Hand) -> None:
    (grant,) = grants(1)
    hand.say(grant, said("a"))
    hand.outgoing.delivered(hand.outgoing.pack(logs=True))
    hand.say(grant, said("b"))
    hand.end([completed(grant)])

    parcel = hand.outgoing.pack(logs=True)

    assert parcel.logs == []
    assert [messages(result.log) for result in parcel.results] == [["b"]]


def test_a_result_waits_for_the_log_before_it(hand: Hand) -> None:
    (grant,) = grants(1)
    hand.say(grant, said("a"))
    heartbeat = hand.outgoing.pack(logs=True)
    hand.end([completed(grant)])

    early = hand.outgoing.pack()
    hand.outgoing.returned(heartbeat)
    late = hand.outgoing.pack()

    assert not early
    assert [messages(result.log) for result in late.results] == [["a"]]


def test_log_lines_that_could_not_be_sent_go_again_in_order_and_without_growing(hand: Hand) -> None:
    (grant,) = grants(1)
    for number in range(5):
        hand.say(grant, said(*(f"{number}.{line}" for line in range(LOG_LINES_MAX // 2))))
        hand.outgoing.returned(hand.outgoing.pack(logs=True))

    (lines,) = hand.outgoing.pack(logs=True).logs

    texts = messages(lines.message(0.0).lines)
    assert len(texts) == LOG_LINES_MAX
    assert (texts[0], texts[-1]) == ("3.0", f"4.{LOG_LINES_MAX // 2 - 1}")


def test_a_result_that_could_not_be_sent_keeps_its_log(hand: Hand) -> None:
    (grant,) = grants(1)
    hand.say(grant, said("a"))
    hand.end([completed(grant)])

    for _ in range(3):
        parcel = hand.outgoing.pack()
        hand.outgoing.returned(parcel)
    parcel = hand.outgoing.pack()

    assert [messages(result.log) for result in parcel.results] == [["a"]]


def test_nothing_is_kept_of_the_log_of_a_dropped_task(hand: Hand) -> None:
    one, two = grants(1, 2)
    hand.say(one, said("a"))
    hand.say(two, said("b"))
    parcel = hand.outgoing.pack(logs=True)
    hand.drop([(1, 1), (2, 1), (3, 1)])
    hand.outgoing.returned(parcel)
    hand.say(one, said("c"))

    assert not hand.outgoing.pack(logs=True)
    assert hand.is_empty


def test_a_deadline_is_kept_until_its_task_has_ended(hand: Hand) -> None:
    (late,) = grants(7)
    late.start_within_seconds = 5.0
    hand.add([late])

    kept = list(hand.start_by())
    hand.end([completed(late)])

    assert (kept, hand.start_by()) == ([(7, 1)], {})


def test_tasks_that_wait_have_a_queue_of_their_own() -> None:
    hand = Hand()
    hand.waiting_types = frozenset({"sleep"})
    computing, waiting = grants(1, 2)
    waiting.type = "sleep"
    hand.add([computing, waiting])
    hand.put_back(hand.next_batch(9, 1.0, lambda _: 0.1, waits=True))

    assert (hand.queued(), hand.queued(waits=True), hand.waiting()) == (1, 1, 1)
    assert ids(hand.empty_queue(waits=True)) == [2]
    assert ids(hand.empty_queue()) == [1]
