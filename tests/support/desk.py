"""A worker's side of the talk without processes: a dispatcher with prepared answers, nothing that runs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import msgspec

from shared.client import DispatcherClient
from shared.log import Log
from shared.protocol import Exchange, ExchangeAnswer, Grant, WorkerInfo
from tests.support.messages import completed
from worker.cache_manager import Memo, Outbox
from worker.executor import Executor
from worker.hand import Hand
from worker.link import Link


class Dispatcher:
    """Answers each message with the next of its answers; an error is raised."""

    def __init__(self) -> None:
        self.answers: list[ExchangeAnswer | Exception] = []
        self.messages: list[Exchange] = []
        self.urls = ["http://127.0.0.1:1"]
        self.preferred: list[str] = []
        self.is_receiving = False

    def prefer(self, url: str) -> None:
        if url:
            self.preferred.append(url)

    def exchange(self, message: Exchange) -> ExchangeAnswer:
        self.messages.append(message)
        answer = self.answers.pop(0) if self.answers else ExchangeAnswer()
        if isinstance(answer, Exception):
            raise answer
        return answer


class IdleExecutor:
    """Runs nothing; counts how often it is rung."""

    rung = 0
    slots = 1
    closed_slots = 0
    closed_threads = 0
    threads = 0

    def ring(self) -> None:
        self.rung += 1

    def supply(self) -> None:
        self.ring()

    def usable_strands(self, waits: bool = False) -> int:
        return self.slots * (self.threads if waits else 1)

    def closed_strands(self, waits: bool = False) -> int:
        return self.closed_threads if waits else self.closed_slots

    def running(self) -> list[Any]:
        return []


class Desk:
    """A link with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.log = io.StringIO()
        self.hand = Hand()
        self.memo = Memo(10)
        self.dispatcher = Dispatcher()
        self.executor = IdleExecutor()
        self.directives: list[str] = []
        log = Log("worker-1", self.log)
        self.outbox = Outbox(folder, "worker-1", ["http://127.0.0.1:1"], log)
        self.link = Link(
            WorkerInfo("worker-1-x", "worker-1"),
            self.hand,
            cast(Executor, self.executor),
            self.outbox,
            self.memo,
            log,
            self.directives.append,
        )

    def exchange(self, *answers: ExchangeAnswer | Exception, logs: bool = False, **options: Any) -> None:
        """Send what can go, as often as there are answers."""
        self.dispatcher.answers += answers
        for _ in answers or (None,):
            client = cast(DispatcherClient, self.dispatcher)
            self.link.exchange(client, self.hand.outgoing.pack(logs), **options)

    def finish(self, *task_ids: int, seconds: float = 0.1) -> None:
        grants = [Grant(task_id, 1, "lease", 100.0, "noop") for task_id in task_ids]
        self.hand.add(grants)
        self.hand.end([completed(grant, elapsed_seconds=seconds) for grant in grants])

    def events(self) -> list[str]:
        return [msgspec.json.decode(line)["event"] for line in self.log.getvalue().splitlines()]

    def kept(self) -> list[Path]:
        return list(self.outbox.folder.glob("*.jsonl"))
