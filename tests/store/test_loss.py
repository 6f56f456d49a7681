"""Workers that go silent and processes that die: what is taken back, what it costs, how it goes on."""

from __future__ import annotations

from shared.lifecycle import TaskStatus
from shared.protocol import Grant
from tests.support.builder import Builder
from tests.support.messages import body, checkpoint, completed, crashed, failed, holding, released


def test_a_reclaimed_task_resumes_from_its_last_checkpoint(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.save(checkpoint(grant, 3, {"at": 30}, output=("x", "y"), progress=0.3, elapsed_seconds=12.5))
    tasks.fall_silent()

    again = tasks.claim_one("w2")

    assert (again.task_id, again.attempt) == (grant.task_id, 2)
    assert again.checkpoint is not None
    assert (again.checkpoint.seq, bytes(again.checkpoint.state)) == (3, b'{"at":30}')
    assert (again.checkpoint.progress, again.checkpoint.elapsed_seconds) == (0.3, 12.5)
    assert again.checkpoint.output_chunks == 2


def test_the_progress_of_a_reclaimed_task_is_that_of_its_checkpoint(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.save(checkpoint(grant, 1, progress=0.3))
    tasks.hold(holding(grant, running=True, progress=0.9))

    tasks.fall_silent()

    assert tasks.view(grant.task_id).progress == 0.3


def test_a_silent_worker_is_dead_and_its_running_task_counts_a_crash(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.hold(holding(grant, running=True))

    tasks.fall_silent()

    assert tasks.dispatcher.records.worker("w1").state == "dead"
    assert (tasks.status(grant.task_id), tasks.counters(grant.task_id)) == ("pending", (1, 0, 1, 0))


def test_a_silent_workers_waiting_neighbours_count_nothing(tasks: Builder) -> None:
    tasks.submit_many(3)
    waiting, running, last = tasks.claim(want=3)
    tasks.hold(holding(waiting), holding(running, running=True), holding(last))

    tasks.fall_silent()

    assert [tasks.counters(grant.task_id)[2] for grant in (waiting, running, last)] == [0, 1, 0]


def test_the_first_crash_goes_back_at_once_and_later_ones_after_the_backoff(tasks: Builder) -> None:
    grant = tasks.start()
    tasks.report(crashed(grant))
    first = tasks.status(grant.task_id)

    tasks.report(crashed(tasks.claim_one()))
    second = tasks.view(grant.task_id)

    assert (first, second.status, second.crashes) == ("pending", "scheduled", 2)
    assert second.run_at == "2027-01-15T08:00:10.000Z"


def test_crash_limit_ends_a_task(tasks: Builder) -> None:
    grant = tasks.start(crash_limit=2)
    tasks.report(crashed(grant))

    tasks.report(crashed(tasks.claim_one()))

    view = tasks.view(grant.task_id)
    assert (view.status, view.crashes, tasks.outcomes(grant.task_id)) == ("failed", 2, ["crashed", "crashed"])
    assert b"Killed" in bytes(view.error)


def test_a_task_that_takes_its_workers_down_ends_as_lost(tasks: Builder) -> None:
    grant = tasks.start("w0", crash_limit=2)
    tasks.fall_silent()

    tasks.claim("w1")
    tasks.fall_silent()

    view = tasks.view(grant.task_id)
    assert (view.status, tasks.outcomes(grant.task_id)) == ("failed", ["reclaimed", "reclaimed"])
    assert b"WorkerLost" in bytes(view.error)


def test_a_newer_checkpoint_forgives_crashes(tasks: Builder) -> None:
    tasks.report(crashed(tasks.start(crash_limit=2)))
    grant = tasks.claim_one()

    tasks.save(checkpoint(grant, 1))
    tasks.report(crashed(grant))

    assert (tasks.status(grant.task_id), tasks.counters(grant.task_id)[2]) == ("pending", 1)


def test_a_repeated_checkpoint_forgives_nothing(tasks: Builder) -> None:
    first = tasks.start(crash_limit=2)
    tasks.save(checkpoint(first, 1))
    tasks.report(crashed(first))
    second = tasks.claim_one()

    tasks.save(checkpoint(second, 1))
    tasks.report(crashed(second))

    assert tasks.status(first.task_id) == TaskStatus.FAILED


def test_a_task_that_crashed_travels_alone(tasks: Builder) -> None:
    tasks.report(crashed(tasks.start()))
    others = tasks.submit_many(3)

    first, second = tasks.claim(want=10), tasks.claim(want=10)

    assert [grant.task_id for grant in first] == [1]
    assert [grant.task_id for grant in second] == others


def test_a_task_that_travels_alone_is_not_added_to_a_batch(tasks: Builder) -> None:
    tasks.submit_many(3)
    before, suspect, after = tasks.claim(want=3)
    tasks.report(released(before), crashed(suspect), released(after))

    claims = [[grant.task_id for grant in tasks.claim(want=10)] for _ in range(3)]

    assert claims == [[1], [2], [3]]


def test_a_reclaimed_task_travels_alone_until_a_worker_has_reported_on_it(tasks: Builder) -> None:
    tasks.submit_many(2)
    tasks.claim("w1", want=2)
    tasks.fall_silent()
    suspect = tasks.claim_one("w2", want=10)
    tasks.report(failed(suspect, retry_after_seconds=0.0), worker="w2")
    tasks.report(completed(tasks.claim_one("w2")), worker="w2")
    tasks.dispatcher.ledger.promote()
    tasks.submit()

    batch = tasks.claim("w2", want=10)

    assert [grant.task_id for grant in batch] == [1, 3]


def test_a_task_that_travels_alone_does_so_again_if_its_worker_never_began_it(tasks: Builder) -> None:
    tasks.report(crashed(tasks.start()))
    ids = [1, *tasks.submit_many(2)]
    tasks.report(released(tasks.claim_one(want=10), elapsed_seconds=0.0))

    again = tasks.claim(want=10)
    tasks.report(released(again[0], elapsed_seconds=0.5))
    begun = tasks.claim(want=10)

    assert [grant.task_id for grant in again] == ids[:1]
    assert [grant.task_id for grant in begun] == ids


def test_a_task_that_was_granted_alone_by_chance_travels_with_others(tasks: Builder) -> None:
    ids = tasks.submit_many(2)
    tasks.report(released(tasks.claim_one(want=1), elapsed_seconds=0.0))

    batch = tasks.claim(want=10)

    assert [grant.task_id for grant in batch] == ids


def test_a_deadly_task_among_many_costs_its_neighbours_nothing(tasks: Builder) -> None:
    ids = tasks.submit_many(50, crash_limit=2)
    deadly = ids[25]
    _work_off(tasks, deadly)

    assert tasks.status(deadly) == TaskStatus.FAILED
    assert {tasks.status(i) for i in ids if i != deadly} == {"completed"}
    assert {tasks.counters(i)[2] for i in ids if i != deadly} == {0}


def _work_off(tasks: Builder, deadly: int) -> None:
    """Workers take ten at a time, run them in order, and die when the deadly one begins."""
    for number in range(200):
        worker = f"w{number}"
        batch = tasks.claim(worker, want=10)
        for position, grant in enumerate(batch):
            waiting = [holding(other, running=other is grant) for other in batch[position:]]
            tasks.hold(*waiting, worker=worker)
            if grant.task_id == deadly:
                break
            tasks.report(completed(grant), worker=worker)
        tasks.fall_silent()
        tasks.advance(10)
        tasks.dispatcher.ledger.promote()


def test_a_readopted_grant_goes_on_as_if_nothing_had_been(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.hold(holding(grant, running=True))
    tasks.fall_silent()

    answer = tasks.hold(holding(grant, running=True))

    assert (answer.lost, tasks.status(grant.task_id)) == ([], "in-progress")
    assert (tasks.counters(grant.task_id), tasks.outcomes(grant.task_id)) == ((1, 0, 0, 0), [None])
    assert tasks.report(completed(grant)).lost == []


def test_a_grant_is_readopted_out_of_its_pause_too(tasks: Builder) -> None:
    tasks.report(crashed(tasks.start("w1")))
    grant = tasks.claim_one("w1")
    tasks.fall_silent()

    paused = tasks.status(grant.task_id)
    tasks.hold(holding(grant))

    assert (paused, tasks.status(grant.task_id)) == ("scheduled", "in-progress")
    assert tasks.counters(grant.task_id) == (2, 0, 1, 0)


def test_a_grant_is_not_readopted_after_somebody_else_has_claimed(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.fall_silent()
    successor = tasks.claim_one("w2")
    tasks.report(released(successor), worker="w2")

    answer = tasks.hold(holding(grant), worker="w1")

    assert [lost.attempt for lost in answer.lost] == [1]
    assert (tasks.status(grant.task_id), tasks.outcomes(grant.task_id)) == ("pending", ["reclaimed", "released"])


def test_only_a_reclaimed_grant_can_be_readopted(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.report(released(grant))

    answer = tasks.hold(holding(grant))

    assert [lost.task_id for lost in answer.lost] == [grant.task_id]
    assert tasks.status(grant.task_id) == TaskStatus.PENDING


def test_a_cancelled_task_is_not_readopted(tasks: Builder) -> None:
    grant = _reclaimed_and_cancelled(tasks)

    answer = tasks.hold(holding(grant))

    assert [lost.task_id for lost in answer.lost] == [grant.task_id]
    assert tasks.status(grant.task_id) == TaskStatus.CANCELLED


def test_a_grant_is_readopted_by_its_own_lease_only(tasks: Builder) -> None:
    grant = tasks.start("w1")
    tasks.fall_silent()
    grant.lease_id = "made up"

    answer = tasks.hold(holding(grant))

    assert [lost.task_id for lost in answer.lost] == [grant.task_id]
    assert tasks.status(grant.task_id) == TaskStatus.PENDING


def test_readopted_waiting_neighbours_still_count_nothing(tasks: Builder) -> None:
    tasks.submit_many(3)
    grants = tasks.claim("w1", want=3)
    for _ in range(2):
        tasks.hold(*map(holding, grants))
        tasks.fall_silent()

    assert [tasks.counters(grant.task_id)[2] for grant in grants] == [0, 0, 0]


def test_a_running_task_readopted_and_lost_again_counts_one_crash(tasks: Builder) -> None:
    tasks.submit_many(2)
    running, waiting = tasks.claim("w1", want=2)
    for _ in range(2):
        tasks.hold(holding(running, running=True), holding(waiting))
        tasks.fall_silent()

    assert [tasks.counters(grant.task_id)[2] for grant in (running, waiting)] == [1, 0]


def test_a_grant_from_before_a_revival_from_scratch_is_not_readopted(tasks: Builder) -> None:
    grant = _reclaimed_and_cancelled(tasks)
    tasks.revive(grant.task_id, from_scratch=True)

    answer = tasks.hold(holding(grant))

    assert [lost.task_id for lost in answer.lost] == [grant.task_id]


def test_a_grant_from_before_a_revival_with_another_payload_is_not_readopted(tasks: Builder) -> None:
    grant = _reclaimed_and_cancelled(tasks)
    tasks.revive(grant.task_id, payload=body(1, {"limit": 2}).state)

    answer = tasks.hold(holding(grant))

    assert [lost.task_id for lost in answer.lost] == [grant.task_id]


def test_a_wall_clock_jump_brings_back_no_grant_from_before_a_revival(tasks: Builder) -> None:
    grant = _reclaimed_and_cancelled(tasks)
    tasks.dispatcher.clock.jump_wall(-3600)
    tasks.revive(grant.task_id, from_scratch=True)

    answer = tasks.hold(holding(grant))

    assert [lost.task_id for lost in answer.lost] == [grant.task_id]


def _reclaimed_and_cancelled(tasks: Builder) -> Grant:
    grant = tasks.start("w1", payload={"limit": 1})
    tasks.save(checkpoint(grant, 1, output=("first",)))
    tasks.fall_silent()
    tasks.cancel(grant.task_id)
    return grant


def test_a_worker_heard_since_the_suspicion_keeps_its_tasks(tasks: Builder) -> None:
    """The monitor decides again in its own transaction: the heartbeat came in between."""
    grant = tasks.start("w1")
    tasks.advance(3)
    ledger, database = tasks.dispatcher.ledger, tasks.dispatcher.database
    with database.read() as tx:
        suspects = tx.silent_workers(before=tx.lease_now - 2).fetchall()
    tasks.hold(holding(grant))

    taken = [database.write(lambda tx, suspect=suspect: ledger._lose(tx, suspect)) for suspect in suspects]

    assert taken == [0]
    assert tasks.status(grant.task_id) == TaskStatus.IN_PROGRESS
