"""The limit of bulk work here: the ledger without network, worker and task, in one process.

What a submission, a claim and an end cost in the dispatcher, from the bytes of a request to those of its
answer, each commit on disk. Nothing that goes through HTTP can be faster for one writer.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from analysis.virtual import fail
from dispatcher.__main__ import collect_seldom
from dispatcher.database import Database
from dispatcher.ledger import Ledger
from dispatcher.routes import leases, tasks
from dispatcher.sqlite import SQLite
from shared.log import Log
from shared.protocol import BATCH_MAX, WANT_MAX, Batch, Exchange, ExchangeAnswer, Result, Submission, WorkerInfo
from shared.settings import ROOT, Settings

_BATCHES: Final = 5
_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(ExchangeAnswer)


class Rates(msgspec.Struct):
    """Tasks a second."""

    submitted: float
    drained: float  # claimed and completed, in messages of WANT_MAX


def in_a_process() -> Rates:
    """As `measure`, in a fresh process."""
    command = [sys.executable, "-m", "analysis.ledger_alone"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Rates)


def measure(batches: int = _BATCHES) -> Rates:
    """Submit some ten thousands of noops in bulk, then drain them; about a second."""
    batch = _encode(Batch([Submission("noop")] * BATCH_MAX))
    count = batches * BATCH_MAX
    with _ledger() as ledger:
        began = time.perf_counter()
        for _ in range(batches):
            tasks.submit(ledger, batch, None)
        submitted = time.perf_counter() - began
        drained = _drain(ledger, count)
        with ledger.database.read() as tx:
            completed = tx.count_tasks(status="completed", type=None, queue=None)
        if completed != count:
            raise RuntimeError(f"{completed} of {count} tasks were completed")
    return Rates(count / submitted, count / drained)


def _drain(ledger: Ledger, count: int) -> float:
    """Seconds in the ledger; what a worker would do is left out."""
    worker = WorkerInfo("alone", "alone", types=["noop"])
    results: list[Result] = []
    seconds = 0.0
    while count or results:
        message = _encode(Exchange(worker, want=WANT_MAX, results=results))
        began = time.perf_counter()
        body = leases.carry_out(ledger, message).body
        seconds += time.perf_counter() - began
        grants = _answer.decode(body).tasks
        count -= len(grants)
        results = [
            Result(task_id=g.task_id, attempt=g.attempt, lease_id=g.lease_id, outcome="completed") for g in grants
        ]
    return seconds


@contextmanager
def _ledger() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory(prefix="baton-bench-") as folder:
        log = Log("ledger", io.StringIO())
        database = Database(SQLite(Path(folder) / "baton.db"), log=log, on_fatal=fail)
        try:
            ledger = Ledger(database, Settings())
            ledger.leadership.holds()
            yield ledger
        finally:
            database.close()


if __name__ == "__main__":
    collect_seldom()
    sys.stdout.buffer.write(_encode(measure()))
