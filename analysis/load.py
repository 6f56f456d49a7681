"""Many clients from one process: keep-alive HTTP over asyncio, so that the load costs little itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from shared.protocol import Exchange, ExchangeAnswer, Grant, Holding, Result, WorkerInfo

_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(ExchangeAnswer)


class Line:
    """One connection to the dispatcher; requests follow each other on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Line:
        """Connect to a dispatcher on this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, message: Any) -> bytes:
        """Send a message, return the answer's body; raises RuntimeError unless it is 200 or 201."""
        body = _encode(message)
        head = f"POST {path} HTTP/1.1\r\nHost: baton\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        content = await self._reader.readexactly(length)
        if answer[9:12] not in (b"200", b"201"):
            raise RuntimeError(f"{path} answered {answer[:40]!r}: {content[:200]!r}")
        return content

    async def exchange(self, message: Exchange) -> ExchangeAnswer:
        """A worker's message."""
        return _answer.decode(await self.post("/exchange", message))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Fleet:
    """`size` simulated workers: a heartbeat every second each, a task each every ten seconds."""

    def __init__(self, port: int, size: int, seconds: float) -> None:
        self.port = port
        self.size = size
        self.seconds = seconds
        self.heartbeats: list[float] = []  # seconds from sending to the answer
        self.taken = 0
        self.lost = 0

    async def run(self) -> None:
        """All of them, for `seconds`."""
        await asyncio.gather(*(self._worker(number) for number in range(self.size)))

    async def _worker(self, number: int) -> None:
        await asyncio.sleep(number / self.size)  # they did not all start at once
        line = await Line.open(self.port)
        info = WorkerInfo(f"simulated-{number}", name=f"simulated-{number}", types=["noop"])
        until = time.monotonic() + self.seconds
        beat_at, work_at = time.monotonic(), time.monotonic() + 10 * number / self.size
        held: list[Result] = []
        while time.monotonic() < until:
            await asyncio.sleep(max(0.0, min(beat_at, work_at) - time.monotonic()))
            if work_at <= time.monotonic():
                work_at += 10.0
                answer = await line.exchange(Exchange(info, results=held, want=1))
                self.lost += len(answer.lost)
                self.taken += len(answer.tasks)
                held = [_completed(grant) for grant in answer.tasks]
            if beat_at <= time.monotonic():
                beat_at += 1.0
                sent_at = time.monotonic()
                holding = [Holding(result.lease_id, result.task_id, result.attempt) for result in held]
                answer = await line.exchange(Exchange(info, holding=holding))
                self.heartbeats.append(time.monotonic() - sent_at)
                self.lost += len(answer.lost)
        await line.exchange(Exchange(msgspec.structs.replace(info, state="stopped"), results=held))
        line.close()


async def park(port: int, count: int, seconds: float) -> tuple[int, float]:
    """`count` long polls at once; returns how many were answered whole, and a heartbeat's seconds meanwhile."""
    lines = await asyncio.gather(*(Line.open(port) for _ in range(count)))
    infos = [WorkerInfo(f"parked-{n}", name=f"parked-{n}", types=["none"]) for n in range(count)]
    waiting = [
        asyncio.create_task(line.exchange(Exchange(info, want=1, wait_seconds=seconds)))
        for line, info in zip(lines, infos, strict=True)
    ]
    await asyncio.sleep(seconds / 2)
    still = sum(not call.done() for call in waiting)
    other = await Line.open(port)
    sent_at = time.monotonic()
    await other.exchange(Exchange(WorkerInfo("not-parked", name="not-parked", types=["none"])))
    took = time.monotonic() - sent_at
    answers = await asyncio.gather(*waiting)
    for line in (*lines, other):
        line.close()
    return min(still, len(answers)), took


async def drain(port: int, batch: int) -> None:
    """Two simulated workers that only claim and complete, until nothing is pending."""

    async def one(name: str) -> None:
        line = await Line.open(port)
        info = WorkerInfo(name, name=name, types=["noop"])
        results: list[Result] = []
        while True:
            answer = await line.exchange(Exchange(info, results=results, want=batch))
            results = [_completed(grant) for grant in answer.tasks]
            if not results:
                line.close()
                return

    await asyncio.gather(one("drain-1"), one("drain-2"))


async def serve(port: int, seconds: float) -> list[float]:
    """A simulated worker that claims and completes one task after the other; what each claim took."""
    line = await Line.open(port)
    info = WorkerInfo("one-by-one", name="one-by-one", types=["noop"])
    until = time.monotonic() + seconds
    times: list[float] = []
    results: list[Result] = []
    while time.monotonic() < until:
        sent_at = time.monotonic()
        answer = await line.exchange(Exchange(info, results=results, want=1))
        if answer.tasks:
            times.append(time.monotonic() - sent_at)
        else:
            await asyncio.sleep(0.002)
        results = [_completed(grant) for grant in answer.tasks]
    await line.exchange(Exchange(msgspec.structs.replace(info, state="stopped"), results=results))
    line.close()
    return times


def _completed(grant: Grant) -> Result:
    return Result(
        task_id=grant.task_id,
        attempt=grant.attempt,
        lease_id=grant.lease_id,
        outcome="completed",
        elapsed_seconds=1e-6,
    )
