"""The workers of an experiment: started together, warmed up, watched, and stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from analysis import machine
from analysis.batch import Batch
from analysis.cluster import Cluster
from analysis.workload import Workload

_READY_SECONDS: Final = 60.0  # many workers starting at once on a loaded machine
_WARM_UP_ROUNDS: Final = 5
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Usage(Struct):
    """Processor time of a stretch of time, in seconds; `others_cores`: cores that strangers kept busy."""

    dispatcher_seconds: float
    workers_seconds: float
    others_cores: float


def add_workers(baton: Cluster, names: Sequence[str], urls: dict[str, str] | None = None) -> None:
    """Start workers at once and wait until all are alive. `urls`: where each finds the dispatcher."""
    for name in names:
        options = ("--url", urls[name]) if urls else ()
        baton.start_worker(name, *options, wait=False)

    def ready() -> bool:
        alive = {worker["name"] for worker in baton.client.workers() if worker["state"] == "alive"}
        dead = [name for name in names if baton.workers[name].poll() is not None]
        if dead:
            raise RuntimeError(f"worker {dead[0]} ended while starting:\n{baton.log(dead[0])}")
        return alive.issuperset(names)

    baton.wait(ready, f"{len(names)} workers to register", _READY_SECONDS)


def warm_up(baton: Cluster, kind: str, size: float, names: Sequence[str]) -> None:
    """Give each worker a task of the kind, so that none loads its libraries while it is measured."""
    cold = set(names)
    for _ in range(_WARM_UP_ROUNDS):
        batch = Batch(baton, Workload(kind, size, len(names)))
        run = batch.run(lambda _: None)
        cold -= {attempt.worker for task in run.tasks for attempt in task.attempts}
        if not cold:
            return


@contextlib.contextmanager
def measured(baton: Cluster) -> Iterator[Usage]:
    """The processor time that is used meanwhile: filled in at the end. On Linux only."""
    usage = Usage(0.0, 0.0, 0.0)
    assert baton.dispatcher is not None
    dispatcher = machine.tree(baton.dispatcher.pid)
    workers = [pid for worker in baton.workers.values() for pid in machine.tree(worker.pid)]
    before = machine.cpu_seconds(dispatcher), machine.cpu_seconds(workers), _busy_seconds(), _own_seconds()
    began = time.monotonic()
    yield usage
    usage.dispatcher_seconds = machine.cpu_seconds(dispatcher) - before[0]
    usage.workers_seconds = machine.cpu_seconds(workers) - before[1]
    ours = usage.dispatcher_seconds + usage.workers_seconds + _own_seconds() - before[3]
    strangers = _busy_seconds() - before[2] - ours
    usage.others_cores = max(0.0, strangers / (time.monotonic() - began))


def dismiss(baton: Cluster) -> None:
    """Thaw and stop all workers at the same time, so that `Cluster.stop` has nothing to wait for."""
    living = [worker for worker in baton.workers.values() if worker.poll() is None]
    for worker in living:
        for pid in machine.tree(worker.pid):
            send(pid, signal.SIGCONT)
        send(worker.pid, signal.SIGTERM)


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _busy_seconds() -> float:
    """Core-seconds that the whole machine has computed: all but idle and waiting for the disk."""
    times = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) / _TICKS


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system
