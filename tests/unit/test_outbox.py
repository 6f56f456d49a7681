"""Results kept on disk, and in memory for pure tasks."""

from __future__ import annotations

import io
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from shared.log import Log
from shared.protocol import Checkpoint, Grant, Result
from tests.support.messages import checkpoint, completed, failed
from worker.cache_manager import Memo, Outbox
from worker.outgoing import Parcel

OURS = ("http://127.0.0.1:5000",)


def grant(task_id: int = 1, payload: bytes = b"{}", kind: str = "pure") -> Grant:
    return Grant(task_id, 1, "lease", 100.0, kind, Raw(payload))


def parcel(*task_ids: int, seconds: float = 2.0, checkpoints: list[Checkpoint] | None = None) -> Parcel:
    results = [completed(grant(task_id), {"n": task_id}, elapsed_seconds=seconds) for task_id in task_ids]
    return Parcel(results, checkpoints or [])


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl"))


class Opened:
    """Outboxes of one folder; each `start` is another worker process's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = io.StringIO()
        self.open: list[Outbox] = []

    def start(self, name: str = "worker-1", urls: Sequence[str] = OURS) -> Outbox:
        self.open.append(Outbox(self.folder, name, urls, Log(name, self.log)))
        return self.open[-1]

    def events(self) -> list[str]:
        return [msgspec.json.decode(line)["event"] for line in self.log.getvalue().splitlines()]


@pytest.fixture
def outboxes(tmp_path: Path) -> Any:
    opened = Opened(tmp_path)
    yield opened
    for outbox in opened.open:
        outbox.close()


def test_kept_results_are_found_by_the_next_worker(outboxes: Opened) -> None:
    first = outboxes.start()
    first.keep(parcel(1, 2))
    first.close()

    (found,) = outboxes.start().load()

    assert [(r.task_id, bytes(r.result)) for r in found.results] == [(1, b'{"n":1}'), (2, b'{"n":2}')]


def test_a_result_is_kept_once(outboxes: Opened) -> None:
    outbox = outboxes.start()

    counts = [outbox.keep(parcel(1)), outbox.keep(parcel(1, 2)), outbox.keep(parcel(2))]

    assert counts == [1, 1, 0]
    assert len(files(outboxes.folder)) == 2


def test_only_precious_results_are_kept_beforehand(outboxes: Opened) -> None:
    outbox = outboxes.start()

    kept = outbox.keep(parcel(1, seconds=0.1), min_seconds=1.0)

    assert (kept, files(outboxes.folder)) == (0, [])


def test_a_file_goes_when_all_of_it_is_settled(outboxes: Opened) -> None:
    outbox = outboxes.start()
    outbox.keep(parcel(1, 2))

    outbox.settled([(1, 1), (7, 1)])
    half_settled = len(files(outboxes.folder))
    outbox.settled([(2, 1)])

    assert half_settled == 1
    assert files(outboxes.folder) == []


def test_output_that_belongs_before_a_result_is_kept_with_it(outboxes: Opened) -> None:
    outbox = outboxes.start()
    before = checkpoint(grant(1), seq=3, output=[Raw(b"[2,3]")])
    others = checkpoint(grant(9), seq=1)

    outbox.keep(parcel(1, checkpoints=[before, others]))
    outbox.close()

    (found,) = outboxes.start().load()
    assert [(c.task_id, c.seq, list(map(bytes, c.output))) for c in found.checkpoints] == [(1, 3, [b"[2,3]"])]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole.replace(b'"n":1', b'"n":7'),
        lambda whole: b"\0" * len(whole),
        lambda whole: whole.partition(b"\n")[2],
    ],
    ids=["empty", "torn", "flipped", "zeroed", "headless"],
)
def test_a_damaged_file_is_set_aside_and_the_others_are_found(outboxes: Opened, damage: Any) -> None:
    first = outboxes.start()
    first.keep(parcel(1))
    (path,) = files(outboxes.folder)
    first.keep(parcel(2))
    first.close()
    path.write_bytes(damage(path.read_bytes()))

    found = outboxes.start().load()

    assert [r.task_id for p in found for r in p.results] == [2]
    assert path.with_suffix(".damaged").exists()
    assert "outbox_damaged" in outboxes.log.getvalue()


def test_a_file_whose_writer_was_killed_is_removed(outboxes: Opened) -> None:
    outbox = outboxes.start()
    unfinished = outbox.folder / "x.writing"
    unfinished.write_text("half a li")

    found = outbox.load()

    assert found == []
    assert not unfinished.exists()


def test_two_workers_of_one_name_do_not_share_a_folder(outboxes: Opened) -> None:
    first, second, third = outboxes.start(), outboxes.start(), outboxes.start()

    assert [box.folder.name for box in (first, second, third)] == ["worker-1", "worker-1-2", "worker-1-3"]


def test_what_a_worker_left_that_never_came_back_is_found_by_another(outboxes: Opened) -> None:
    gone = outboxes.start("gone")
    gone.keep(parcel(1))
    gone.close()
    living = outboxes.start("living")
    living.keep(parcel(2))

    outbox = outboxes.start("worker-1")
    found = outbox.load()
    outbox.settled([(1, 1)])

    assert [r.task_id for p in found for r in p.results] == [1]
    assert [path.parent.name for path in files(outboxes.folder)] == ["living"]


@pytest.mark.parametrize("name", ["worker-1", "worker-2"])
def test_results_for_another_dispatcher_stay_until_a_worker_of_it_starts(outboxes: Opened, name: str) -> None:
    theirs = outboxes.start("worker-1", ["http://elsewhere:5000", "http://user:secret@127.0.0.1:6000"])
    theirs.keep(parcel(1))
    theirs.close()

    ours = outboxes.start(name)
    found = ours.load()
    told = outboxes.log.getvalue()
    ours.close()
    (found_later,) = outboxes.start("worker-3", ["http://elsewhere:5000"]).load()

    assert found == []
    assert outboxes.events() == ["results_left"]
    assert '"url":"http://elsewhere:5000,http://localhost:6000"' in told
    assert [r.task_id for r in found_later.results] == [1]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (["http://localhost:5000"], ["http://127.0.0.1:5000/"]),
        (["http://0.0.0.0:5000"], ["http://[::1]:5000"]),
        (["http://A:5000"], ["http://user:secret@a:5000"]),
        (["http://a:1", "http://b:2"], ["http://c:3", "http://a:1"]),
        (["http://old:5000"], ["http://old:5000", "http://new:5000"]),
    ],
)
def test_results_are_delivered_to_the_same_dispatcher_however_it_is_named(
    outboxes: Opened, then: list[str], now: list[str]
) -> None:
    first = outboxes.start(urls=then)
    first.keep(parcel(1))
    first.close()

    (found,) = outboxes.start(urls=now).load()

    assert [r.task_id for r in found.results] == [1]


def test_results_of_an_older_worker_that_wrote_no_address_are_found(outboxes: Opened) -> None:
    first = outboxes.start(urls=[])
    first.keep(parcel(1))
    first.close()

    (found,) = outboxes.start().load()

    assert [r.task_id for r in found.results] == [1]


def test_a_name_cannot_lead_out_of_the_folder(outboxes: Opened) -> None:
    outbox = outboxes.start("../../etc")

    assert outbox.folder.parent == outboxes.folder


def test_a_disk_that_cannot_be_written_is_no_end(outboxes: Opened) -> None:
    outbox = outboxes.start()
    (outbox.folder / "lock").unlink()
    outbox.folder.rmdir()

    kept = outbox.keep(parcel(1))

    assert kept == 0
    assert "outbox_failed" in outboxes.log.getvalue()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 64 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_disk")
def test_tries_on_a_full_disk_leave_nothing_there(outboxes: Opened) -> None:
    outbox = outboxes.start()

    kept = [outbox.keep(parcel(1)) for _ in range(3)]

    assert kept == [0, 0, 0]
    assert [path.name for path in outbox.folder.iterdir()] == ["lock"]
    assert outboxes.events() == ["outbox_failed"]


def make_undeletable(path: Path) -> None:
    """No unlink removes a folder, not even a superuser's."""
    path.unlink(missing_ok=True)
    path.mkdir()


def test_delivered_results_that_cannot_be_removed_are_logged_once_and_not_delivered_again(
    outboxes: Opened,
) -> None:
    outbox = outboxes.start()
    outbox.keep(parcel(1))
    outbox.keep(parcel(2))
    for path in files(outboxes.folder):
        make_undeletable(path)

    outbox.settled([(1, 1), (2, 1)])
    outbox.settled([(1, 1), (2, 1)])

    assert outboxes.events() == ["outbox_stuck"]


def test_an_unfinished_file_that_cannot_be_removed_is_no_end(outboxes: Opened) -> None:
    outbox = outboxes.start()
    outbox.keep(parcel(1))
    make_undeletable(outbox.folder / "x.writing")

    found = outbox.load()

    assert [r.task_id for p in found for r in p.results] == [1]


def test_results_that_cannot_be_moved_are_delivered_from_where_they_are(outboxes: Opened) -> None:
    gone = outboxes.start("gone")
    gone.keep(parcel(1))
    gone.close()
    outbox = outboxes.start("worker-1")
    (outbox.folder / "lock").unlink()
    outbox.folder.rmdir()

    found = outbox.load()
    outbox.settled([(1, 1)])

    assert [r.task_id for p in found for r in p.results] == [1]
    assert files(outboxes.folder) == []


def test_a_folder_that_cannot_be_locked_is_left_alone(outboxes: Opened) -> None:
    gone = outboxes.start("gone")
    gone.keep(parcel(1))
    gone.close()
    (gone.folder / "lock").unlink()
    (gone.folder / "lock").symlink_to(sys.executable)  # which nobody may write while it runs

    found = outboxes.start("worker-1").load()

    assert found == []
    assert [path.parent.name for path in files(outboxes.folder)] == ["gone"]


def test_what_was_refused_is_kept_with_the_reason(outboxes: Opened) -> None:
    outbox = outboxes.start()

    path = outbox.set_refused_aside(parcel(1).results[0], "1-1", "too_large: it is")

    assert b'"reason":"too_large: it is"' in path.read_bytes()
    assert b'{"n":1}' in path.read_bytes()
    assert outbox.load() == []


def remembering(entries: int = 2) -> Memo:
    memo = Memo(entries)
    memo.types = frozenset({"pure"})
    return memo


def test_a_pure_task_is_answered_from_memory() -> None:
    memo = remembering()
    memo.learn([(grant(1, b'{"x":1}'), completed(grant(1), "one"))])

    answer = memo.answer(grant(2, b'{"x":1}'))

    assert isinstance(answer, Result)
    assert (answer.task_id, bytes(answer.result), answer.cached, answer.elapsed_seconds) == (
        2,
        b'"one"',
        True,
        0.0,
    )


def test_other_payloads_types_and_failures_are_not_answered() -> None:
    memo = remembering()
    memo.learn(
        [
            (grant(1, b"1"), completed(grant(1))),
            (grant(2, b"2"), failed(grant(2))),
            (grant(3, b"3", "other"), completed(grant(3))),
        ]
    )

    answers = [memo.answer(g) for g in (grant(9, b"9"), grant(9, b"2"), grant(9, b"3", "other"))]

    assert answers == [None, None, None]


def test_the_least_recently_used_result_is_forgotten() -> None:
    memo = remembering(entries=2)
    memo.learn([(grant(n, b"%d" % n), completed(grant(n))) for n in (1, 2)])
    memo.answer(grant(9, b"1"))

    memo.learn([(grant(3, b"3"), completed(grant(3)))])

    assert [memo.answer(grant(9, b"%d" % n)) is not None for n in (1, 2, 3)] == [True, False, True]


def test_what_the_parents_told_belongs_to_the_question() -> None:
    memo = remembering()
    first, other = grant(), grant(2)
    first.parents, other.parents = Raw(b'{"a":{"result":1}}'), Raw(b'{"a":{"result":2}}')

    memo.learn([(first, completed(first))])

    assert memo.answer(first) is not None
    assert memo.answer(other) is None


def test_a_type_that_gives_output_is_not_answered_from_memory() -> None:
    memo = remembering()
    memo.learn([(grant(1), completed(grant(1)))])

    memo.saw_output("pure")

    assert memo.answer(grant(2)) is None
