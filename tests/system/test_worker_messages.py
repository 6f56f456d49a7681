"""What a real worker process says: a fake dispatcher listens, and gives it what it is prepared to give."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from analysis.cluster import Cluster
from shared.protocol import AttemptLog, Exchange, ExchangeAnswer, Grant, Result, TaskAttempt
from tests.support.waiting import wait_until

ODD = str(Path(__file__).parent.parent / "support" / "odd_tasks.py")


class FakeDispatcher(ThreadingHTTPServer):
    """Answers every exchange at once. `tasks` go out with the next claim, `cancelled` with every answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.messages: list[Exchange] = []
        self.tasks: list[Grant] = []
        self.cancelled: list[TaskAttempt] = []
        self.directive = "run"

    def answer(self, message: Exchange) -> ExchangeAnswer:
        with self.lock:
            self.messages.append(message)
            given, self.tasks = (self.tasks[: message.want], self.tasks[message.want :])
            answer = ExchangeAnswer(given, cancel=self.cancelled, heartbeat_seconds=0.1, poll_after_seconds=0.05)
            answer.directive = self.directive  # type: ignore[assignment]
            return answer

    def logs(self) -> list[AttemptLog]:
        return [log for message in list(self.messages) for log in message.logs]

    def results(self) -> list[Result]:
        return [result for message in list(self.messages) for result in message.results]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeDispatcher

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = msgspec.json.encode(self.server.answer(msgspec.json.decode(body, type=Exchange)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def fake() -> Iterator[FakeDispatcher]:
    with FakeDispatcher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def workers(tmp_path: Path, fake: FakeDispatcher) -> Iterator[Cluster]:
    made = Cluster(tmp_path, TASK_MODULES=ODD)
    made.url = f"http://127.0.0.1:{fake.server_port}"
    yield made
    made.stop()


def grant(kind: str, payload: bytes = b"{}", task_id: int = 1) -> Grant:
    return Grant(task_id, 1, "lease", 100.0, kind, msgspec.Raw(payload))


def test_a_worker_announces_its_queues_and_threads(fake: FakeDispatcher, workers: Cluster) -> None:
    workers.start_worker("worker-1", "--queues", "fast,slow", "--threads", "4", wait=False)

    wait_until(lambda: fake.messages, seconds=20)

    assert (fake.messages[0].worker.queues, fake.messages[0].worker.threads) == (["fast", "slow"], 4)
    assert "command" not in (fake.messages[0].worker.types or ())


def test_without_options_it_serves_every_queue_with_one_thread(fake: FakeDispatcher, workers: Cluster) -> None:
    workers.start_worker("worker-1", wait=False)

    wait_until(lambda: fake.messages, seconds=20)

    assert (fake.messages[0].worker.queues, fake.messages[0].worker.threads) == (None, 1)


def test_without_a_name_it_takes_one_that_is_free_and_a_name_that_is_taken_is_told(
    fake: FakeDispatcher, workers: Cluster
) -> None:
    def called(name: str) -> list[str]:
        infos = [message.worker for message in list(fake.messages)]
        return sorted({info.worker_id for info in infos if info.name == name})

    workers.start_worker("worker-1", wait=False)
    wait_until(lambda: called("worker-1"), seconds=20)

    workers.workers["unnamed"] = workers._start("unnamed", ["-m", "worker", "--url", workers.url])
    workers.workers["second"] = workers._start("second", ["-m", "worker", "worker-1", "--url", workers.url])
    wait_until(lambda: called("worker-2") and len(called("worker-1")) == 2, seconds=20)

    assert "another worker here is called" not in workers.log("worker-1") + workers.log("unnamed")
    assert workers.log("second").count("another worker here is called worker-1, too") == 1


def test_lines_of_a_running_task_arrive_while_it_runs_and_the_rest_with_its_result(
    fake: FakeDispatcher, workers: Cluster
) -> None:
    fake.tasks.append(grant("odd.say_and_wait", b'{"words": "hello"}'))
    worker = workers.start_worker("worker-1", wait=False)
    wait_until(fake.logs, seconds=20)

    worker.terminate()
    wait_until(fake.results, seconds=20)

    assert [[line.message for line in log.lines] for log in fake.logs()] == [["hello"]]
    assert [(result.outcome, result.log) for result in fake.results()] == [("completed", [])]


def test_heartbeats_go_on_while_a_task_prints_without_end(fake: FakeDispatcher, workers: Cluster) -> None:
    fake.tasks.append(grant("odd.chatter", b'{"lines": 100000000}'))
    worker = workers.start_worker("worker-1", wait=False)
    wait_until(fake.logs, seconds=20)
    before = len([message for message in fake.messages if message.holding is not None])

    wait_until(lambda: len([m for m in list(fake.messages) if m.holding is not None]) > before + 10, seconds=20)

    assert max(len(log.lines) for log in fake.logs()) <= 1000
    worker.kill()  # asked politely it would let the task go on for a while


def test_a_cancelled_task_is_stopped_within_a_heartbeat(fake: FakeDispatcher, workers: Cluster) -> None:
    fake.tasks.append(grant("odd.deaf", b'{"seconds": 600}'))
    workers.start_worker("worker-1", wait=False)
    wait_until(lambda: any(m.holding and m.holding[0].running for m in list(fake.messages)), seconds=20)

    fake.cancelled.append(TaskAttempt(1, 1))
    fake.tasks.append(grant("noop", task_id=2))

    wait_until(fake.results, seconds=5)
    assert [result.task_id for result in fake.results()] == [2]


def test_a_paused_worker_finishes_its_task_and_claims_again_when_told_to_run(
    fake: FakeDispatcher, workers: Cluster
) -> None:
    fake.tasks.append(grant("odd.deaf", b'{"seconds": 1.0}'))
    workers.start_worker("worker-1", wait=False)
    wait_until(lambda: not fake.tasks, seconds=20)
    fake.directive = "pause"
    fake.tasks.append(grant("noop", task_id=2))

    wait_until(fake.results, seconds=20)
    beats = len(fake.messages)
    wait_until(lambda: len(fake.messages) > beats + 5, seconds=20)
    while_paused = [result.task_id for result in fake.results()]
    fake.directive = "run"
    wait_until(lambda: len(fake.results()) == 2, seconds=20)

    assert while_paused == [1]
    assert [(result.task_id, result.outcome) for result in fake.results()] == [(1, "completed"), (2, "completed")]


def test_a_worker_that_is_told_to_drain_leaves(fake: FakeDispatcher, workers: Cluster) -> None:
    worker = workers.start_worker("worker-1", wait=False)
    wait_until(lambda: fake.messages, seconds=20)

    fake.directive = "drain"

    assert worker.wait(20) == 0
    assert fake.messages[-1].worker.state == "stopped"
