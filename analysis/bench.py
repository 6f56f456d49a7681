"""Measures the speed and size of Baton and prints a table: `make bench`.

Every figure comes from real processes through HTTP, with every commit on disk (DURABILITY=full).
`python -m analysis.bench drain submit` measures those only.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from analysis import ledger_alone, machine
from analysis.bench_postgresql import postgresql, postgresql_growth
from analysis.bench_scale import fleet, flows, growth, latency, mixed
from analysis.cluster import Cluster
from analysis.console import end_politely
from analysis.figures import Figure, Limit, fresh_cluster, span, unix
from shared import errors
from shared.protocol import Submission
from shared.settings import ROOT

DRAINED = 50_000
PRIMES_LIMIT = 10**9
PRIMES_ROUNDS = 3
IDLE_SECONDS = 10.0


def start() -> Iterator[Figure]:
    """From the script to an answer of /ready, .venv present."""
    with tempfile.TemporaryDirectory() as folder:
        baton = Cluster(Path(folder))
        try:
            began = time.perf_counter()
            baton.start_dispatcher()
            yield Figure("dispatcher start to /ready", time.perf_counter() - began, "s", "≤ 1.5")
        finally:
            baton.stop()


def submit() -> Iterator[Figure]:
    """Submission of 10,000 tasks in one call, and of many in bulk."""
    with fresh_cluster() as baton:
        batch = [Submission("noop")] * 10_000
        began = time.perf_counter()
        baton.client.submit_many(batch)
        yield Figure("submit 10,000 in one call", time.perf_counter() - began, "s", "< 1")
        began = time.perf_counter()
        baton.client.submit_many(batch * 20)
        rate = 200_000 / (time.perf_counter() - began)
    alone = Limit("the ledger alone", ledger_alone.in_a_process().submitted)
    yield Figure("bulk submit of 200,000", rate, "tasks/s", "≥ 150,000", alone)


def drain() -> Iterator[Figure]:
    """50,000 queued noops, two workers; from the first claim to the last commit."""
    with fresh_cluster() as baton:
        baton.client.submit_many([Submission("noop")] * DRAINED)
        for name in ("worker-1", "worker-2"):
            baton.start_worker(name, wait=False)
        baton.wait(lambda: baton.client.stats()["tasks"]["completed"] == DRAINED, "the queue to drain", 120)
        first, last = span(baton.client, DRAINED)
        stored = baton.database.stat().st_size
    alone = Limit("the ledger alone", ledger_alone.in_a_process().drained)
    yield Figure(f"drain {DRAINED:,} noops, 2 workers", DRAINED / (last - first), "tasks/s", "≥ 60,000", alone)
    yield Figure("database per finished noop", stored / DRAINED, "bytes", "≤ 250")


def recovery() -> Iterator[Figure]:
    """From the loss of a worker or child to the next start of its task elsewhere."""
    for name, lose, aim in (
        ("kill -9 of a worker to resumption", signal.SIGKILL, "≤ 3"),
        ("SIGTERM of a worker to resumption", signal.SIGTERM, "≤ 0.5"),
    ):
        with fresh_cluster(START_GRACE_SECONDS="0.1") as baton:  # not a restart: the grace after one is over
            baton.start_worker("worker-1")
            task_id = _running_chain(baton)
            baton.start_worker("worker-2")
            lost_at = time.time()
            baton.workers["worker-1"].send_signal(lose)
            yield Figure(name, _second_start(baton, task_id) - lost_at, "s", aim)
            if lose == signal.SIGTERM:
                lost = sum(a["lost_seconds"] or 0.0 for a in baton.client.attempts(task_id))
                yield Figure("work lost to a SIGTERM", lost, "s", "0")
    with fresh_cluster() as baton:
        worker = baton.start_worker("worker-1")
        task_id = _running_chain(baton)
        child = next(p for p in machine.tree(worker.pid) if "worker.child" in _command(p))
        lost_at = time.time()
        subprocess.run(["kill", "-9", str(child)], check=True)
        yield Figure("kill -9 of a child to resumption", _second_start(baton, task_id) - lost_at, "s", "≤ 0.3")


def stop() -> Iterator[Figure]:
    """SIGTERM of the dispatcher with two parked workers."""
    with fresh_cluster() as baton:
        baton.start_worker("worker-1")
        baton.start_worker("worker-2")
        assert baton.dispatcher is not None
        began = time.perf_counter()
        baton.dispatcher.terminate()
        baton.dispatcher.wait(30)
        yield Figure("SIGTERM of the dispatcher to its end", time.perf_counter() - began, "s", "≤ 5")


def primes() -> Iterator[Figure]:
    """The bare sieve, and what it costs as a task with checkpoints every second."""
    bare: list[float] = []
    as_task: list[float] = []
    with fresh_cluster() as baton:
        baton.start_worker("worker-1")
        pids = machine.tree(baton.workers["worker-1"].pid)
        child = [p for p in pids if "worker.child" in _command(p)]
        _prime_task(baton, 10**6)  # numpy is loaded
        for _ in range(PRIMES_ROUNDS):  # in turn, so that both meet the same machine
            cpu, seconds, peak = _bare_sieve()
            bare.append(cpu)
            before = machine.cpu_seconds(child)
            _prime_task(baton, PRIMES_LIMIT * 10)
            as_task.append(machine.cpu_seconds(child) - before)
    yield Figure("sieve below 10^9, bare", seconds, "s", "≤ 1.5, ≤ 6 ×", _primesieve())
    yield Figure("peak memory of that", peak / 1e6, "MB", "≤ 150")
    more = statistics.median(task / alone - 1 for task, alone in zip(as_task, bare, strict=True))
    yield Figure("CPU as a task against the bare function, 10^10", more * 100, "%", "≤ 2")


def idle() -> Iterator[Figure]:
    """Memory and CPU of a dispatcher and a worker with nothing to do."""
    with fresh_cluster() as baton:
        worker = baton.start_worker("worker-1")
        assert baton.dispatcher is not None
        trees = {"dispatcher": machine.tree(baton.dispatcher.pid), "worker": machine.tree(worker.pid)}
        time.sleep(1.0)
        before = {who: machine.cpu_seconds(pids) for who, pids in trees.items()}
        time.sleep(IDLE_SECONDS)
        for who, pids in trees.items():
            yield Figure(f"idle {who}, memory (PSS)", machine.proportional_bytes(pids) / 1e6, "MB", "< 80")
            used = (machine.cpu_seconds(pids) - before[who]) / IDLE_SECONDS * 100
            yield Figure(f"idle {who}, CPU", used, "%", "< 1")


MEASUREMENTS: dict[str, Callable[[], Iterator[Figure]]] = {
    measure.__name__: measure
    for measure in (
        start,
        submit,
        drain,
        latency,
        recovery,
        stop,
        primes,
        idle,
        fleet,
        mixed,
        flows,
        growth,
        postgresql,
        postgresql_growth,
    )
}
ELSEWHERE = ("postgresql", "postgresql_growth")  # make bench-postgresql
RESULTS = ROOT / "analysis" / "results"


def main(names: list[str]) -> None:
    """Run the named measurements, or all; print the table and keep it as JSON and Markdown."""
    unknown = set(names) - MEASUREMENTS.keys()
    if unknown:
        print(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
        sys.exit(2)
    end_politely()
    console = Console(highlight=False)
    figures: list[Figure] = []
    for name in names or [name for name in MEASUREMENTS if name not in ELSEWHERE]:
        with console.status(f"measuring: {name}"):
            for figure in MEASUREMENTS[name]():
                figures.append(figure)
                console.print(_line(figure), soft_wrap=True)
    facts = machine.describe()
    where = f"{facts['cores']} × {facts['processor']}, {facts['system']}, Python {facts['python']}"
    console.print(where)
    _keep(figures, facts, where)


def _line(figure: Figure) -> str:
    line = f"{figure.name:<52} {figure.shown:>12} {figure.unit:<8} {figure.aim:<10}"
    return f"{line} {figure.ratio} × {figure.limit_shown}" if figure.ratio else line.rstrip()


def _keep(figures: list[Figure], facts: dict[str, Any], where: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    measured = [{**figure._asdict(), "limit": figure.limit and figure.limit._asdict()} for figure in figures]
    (RESULTS / "bench.json").write_bytes(msgspec.json.encode({"machine": facts, "figures": measured}))
    rows = [
        f"| {figure.name} | {figure.shown} {figure.unit} | {figure.limit_shown} | {figure.ratio} | {figure.aim} |"
        for figure in figures
    ]
    columns = ["| figure | ours | peer or limit, in this run | ratio | aim |", "| --- | --- | --- | --- | --- |"]
    head = ["# What was measured", "", f"On {where}.", "", *columns]
    (RESULTS / "bench.md").write_text("\n".join([*head, *rows]) + "\n")


def _running_chain(baton: Cluster) -> int:
    """A long task that has stored its first checkpoint."""
    submission = Submission("hash_chain", payload=msgspec.Raw(b'{"rounds": 60000000, "seed": "bench"}'))
    task_id: int = baton.client.submit(submission)["task_id"]

    def saved() -> bool:
        try:
            return bool(baton.client.checkpoint(task_id))
        except errors.NotFound:
            return False

    baton.wait(saved, "a first checkpoint")
    return task_id


def _second_start(baton: Cluster, task_id: int) -> float:
    """When the second attempt began, Unix seconds by the dispatcher's clock."""
    baton.wait(lambda: baton.client.task(task_id)["attempt"] == 2, "the second attempt")
    return unix(baton.client.attempts(task_id)[1]["started_at"])


def _prime_task(baton: Cluster, limit: int) -> None:
    submission = Submission("prime", payload=msgspec.Raw(b'{"limit":%d}' % limit))
    task_id = baton.client.submit(submission)["task_id"]
    baton.wait(lambda: baton.client.task(task_id, wait_seconds=5)["finished_at"], "the primes", 120)


def _bare_sieve() -> tuple[float, float, float]:
    """CPU seconds for 10^10, seconds for 10^9, and the peak memory of 10^9 in bytes, in a fresh process."""
    code = (
        "import time, resource; from tasks.sieve import count_primes; count_primes(10**6);"
        f"t = time.perf_counter(); count_primes({PRIMES_LIMIT}); s = time.perf_counter() - t;"
        "m = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024;"
        f"c = time.process_time(); count_primes({PRIMES_LIMIT * 10}); print(time.process_time() - c, s, m)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    cpu, seconds, peak = map(float, answer.split())
    return cpu, seconds, peak


def _primesieve() -> Limit | None:
    """The C++ program on one core, if it is installed (Debian: primesieve-bin)."""
    if shutil.which("primesieve") is None:
        return None
    began = time.perf_counter()
    subprocess.run(["primesieve", str(PRIMES_LIMIT), "--threads=1", "--quiet"], check=True, capture_output=True)
    return Limit("primesieve", time.perf_counter() - began)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


if __name__ == "__main__":
    main(sys.argv[1:])
