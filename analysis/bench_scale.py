"""The benchmark's larger half: latency, many workers, growth to millions of tasks, mixed load, flows."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from analysis import load, machine
from analysis.bare_server import bare_server
from analysis.cluster import Cluster
from analysis.figures import Figure, Limit, fresh_cluster, unix
from shared.client import DispatcherClient
from shared.protocol import Exchange, Submission, WorkerInfo
from shared.wording import counted

LATENCY_SAMPLES = 300
FLEET = 1000
FLEET_SECONDS = 30.0
PARKED = 300
SMALL, LARGE = 10_000, int(os.environ.get("BENCH_LARGE", "10000000"))  # tasks for the figures on growth
CLAIMS = 300
LONG_TASKS, LONG_SECONDS, SHORT_TASKS = 100, 5.0, 100_000
SLOTS = 10  # of each of two workers in the mixed load
FLOW_TASKS, FLOW_ROUNDS = 10_000, 15
_TICK_SECONDS = 0.011  # the system counts CPU in hundredths


def latency() -> Iterator[Figure]:
    """From just before submit to the start of the function, worker idle; and submits one by one."""
    with fresh_cluster(TASK_MODULES="analysis/stamp_task.py") as baton:
        baton.start_worker("worker-1")
        waits = dispatch_waits(baton.client, baton.client, LATENCY_SAMPLES)
        yield Figure("dispatch latency, p50", percentile(waits, 0.5) * 1e3, "ms", "≤ 1.5")
        yield Figure("dispatch latency, p99", percentile(waits, 0.99) * 1e3, "ms", "≤ 5")
    with fresh_cluster() as baton, bare_server() as bare:
        for connections, aim in ((1, "≥ 2,000"), (4, "≥ 3,500")):
            rate = _submit_rate(baton.url, connections, 4000)
            bare_rate = Limit("a bare server that syncs a page", _submit_rate(bare, connections, 4000))
            yield Figure(
                f"submit one by one, {counted(connections, 'connection')}", rate, "tasks/s", aim, bare_rate
            )


def fleet() -> Iterator[Figure]:
    """A thousand workers that beat every second, and three hundred that wait."""
    with fresh_cluster(PARKED_REQUESTS_MAX="400") as baton:
        assert baton.dispatcher is not None
        baton.client.submit_many([Submission("noop")] * (FLEET * 10))
        workers = load.Fleet(baton.port, FLEET, FLEET_SECONDS)
        with machine.syncing(baton.folder) as syncs:
            asyncio.run(workers.run())
        silent = baton.log("dispatcher").count('"event":"worker_silent"')
        slowest = percentile(workers.heartbeats, 0.99) * 1e3
        sync = Limit("the longest sync meanwhile", max(syncs) * 1e3)
        yield Figure(f"{FLEET:,} workers: heartbeat p99", slowest, "ms", "< 100", sync)
        yield Figure(f"{FLEET:,} workers: wrongly taken for dead", silent + workers.lost, "", "0")
        memory = machine.proportional_bytes(machine.tree(baton.dispatcher.pid)) / 1e6
        yield Figure(f"{FLEET:,} workers: dispatcher memory (PSS)", memory, "MB", "< 250")
    with fresh_cluster(HEARTBEAT_TIMEOUT_SECONDS="60") as baton:
        answered, seconds = asyncio.run(load.park(baton.port, PARKED, 6.0))
        yield Figure("long polls parked at once", answered, "", f"{PARKED}")
        yield Figure("another worker's message meanwhile", seconds * 1e3, "ms", "")


def growth() -> Iterator[Figure]:
    """Claims and looks with ten million pending tasks, then with ten million finished ones."""
    with fresh_cluster(RETENTION_DAYS="0.5") as baton:
        fill(baton.client, SMALL)
        small = _claim_p99(baton.client)
        yield Figure(f"claim p99, {SMALL:,} pending", small * 1e3, "ms", "")
        began = time.perf_counter()
        fill(baton.client, LARGE)
        rate = LARGE / (time.perf_counter() - began)
        yield Figure(f"bulk submit of {LARGE:,}", rate, "tasks/s", "≥ 150,000")
        few = Limit(f"with {SMALL:,}", small * 1e3)
        yield Figure(f"claim p99, {LARGE:,} pending", _claim_p99(baton.client) * 1e3, "ms", "≤ 2 ×", few)
        began = time.perf_counter()
        asyncio.run(load.drain(baton.port, 1000))
        yield Figure(f"drain of {LARGE:,} by bare clients", LARGE / (time.perf_counter() - began), "tasks/s", "")
        fill(baton.client, SMALL)
        yield Figure(f"claim p99, {LARGE:,} finished", _claim_p99(baton.client) * 1e3, "ms", "≤ 2 ×", few)
        for name, look in (("/stats", baton.client.stats), ("first page of /tasks", baton.client.tasks)):
            yield Figure(f"{name} at {LARGE:,}", percentile(_times(look, 50), 0.5) * 1e3, "ms", "≤ 10")
        yield Figure("disk per finished noop", baton.database.stat().st_size / (LARGE + SMALL), "bytes", "≤ 250")


def mixed() -> Iterator[Figure]:
    """A hundred 5 s tasks among 100,000 noops: nobody waits behind prefetched small ones."""
    with fresh_cluster() as baton:
        sleep = Submission("sleep", payload=msgspec.Raw(b'{"seconds": %d}' % LONG_SECONDS))
        noops = [Submission("noop")] * (SHORT_TASKS // LONG_TASKS)
        ids: list[int] = baton.client.submit_many([s for _ in range(LONG_TASKS) for s in (sleep, *noops)])[
            "task_ids"
        ]
        long_ids = ids[:: len(noops) + 1]
        for name in ("worker-1", "worker-2"):
            baton.start_worker(name, "--slots", str(SLOTS), wait=False)
        total = LONG_TASKS + SHORT_TASKS
        baton.wait(lambda: baton.client.stats()["tasks"]["completed"] == total, "all to end", 180)
        tasks = [baton.client.task(task_id) for task_id in long_ids]
        first = min(unix(task["started_at"]) for task in tasks)
        waited = max(unix(task["finished_at"]) - unix(task["started_at"]) - LONG_SECONDS for task in tasks)
        whole = max(unix(task["finished_at"]) for task in tasks) - first
        yield Figure("longest wait of a 5 s task after its claim", waited, "s", "≤ 0.5")
        ideal = LONG_TASKS * LONG_SECONDS / (2 * SLOTS)
        yield Figure(f"100 of them and 100,000 noops on {2 * SLOTS} slots", whole, "s", f"near {ideal:g}")


def flows() -> Iterator[Figure]:
    """A flow 1 -> 9,998 -> 1, and what its tasks cost all processes in CPU more than plain ones."""
    keys = [str(number) for number in range(FLOW_TASKS)]
    tasks: list[dict[str, Any]] = [{"key": key, "type": "noop", "depends_on": keys[:1]} for key in keys]
    del tasks[0]["depends_on"]
    tasks[-1]["depends_on"] = keys[1:-1]
    flow: list[tuple[float, float, float]] = []
    plain: list[tuple[float, float, float]] = []
    with fresh_cluster() as baton:
        baton.start_worker("worker-1")
        for _ in range(FLOW_ROUNDS):  # in turn, so that both meet the same machine
            plain.append(_costs(baton, lambda: fill(baton.client, FLOW_TASKS)))
            flow.append(_costs(baton, lambda: baton.client.submit_flow({"tasks": tasks})))
    # Sums, not medians: the system counts CPU in steps of a hundredth of a second.
    seconds, submitted, drained = (sum(column) for column in zip(*flow, strict=True))
    _, plain_submitted, plain_drained = (sum(column) for column in zip(*plain, strict=True))
    plain_one = plain_drained / FLOW_ROUNDS / FLOW_TASKS
    more = drained / plain_drained - 1
    in_all = (submitted + drained) / (plain_submitted + plain_drained) - 1
    yield Figure(f"submit a flow of {FLOW_TASKS:,}", seconds / FLOW_ROUNDS, "s", "< 2")
    yield Figure("CPU to drain a plain noop, all processes", plain_one * 1e6, "µs", "")
    yield Figure("more of it for a task of a flow", more * 100, "%", "< 30")
    yield Figure("the same with their submission", in_all * 100, "%", "")


def _costs(baton: Cluster, submit: Callable[[], Any]) -> tuple[float, float, float]:
    """Seconds to submit FLOW_TASKS more tasks, and CPU seconds of all processes to take and to drain them."""
    assert baton.dispatcher is not None
    roots = [baton.dispatcher, *baton.workers.values()]
    pids = [pid for root in roots for pid in machine.tree(root.pid)]
    goal = baton.client.stats()["tasks"]["completed"] + FLOW_TASKS
    baton.client.pause("queue", "default")
    cpu, began = machine.cpu_seconds(pids), time.perf_counter()
    submit()
    seconds, submitted = time.perf_counter() - began, _settled_cpu_seconds(pids)
    baton.client.resume("queue", "default")
    baton.wait(lambda: baton.client.stats()["tasks"]["completed"] == goal, "the tasks to end", 120)
    return seconds, submitted - cpu, _settled_cpu_seconds(pids) - submitted


def _settled_cpu_seconds(pids: list[int]) -> float:
    """What the processes have used once they rest: the log is moved into the file a little later."""
    before, now = -1.0, machine.cpu_seconds(pids)
    while now - before > _TICK_SECONDS:
        time.sleep(0.1)
        before, now = now, machine.cpu_seconds(pids)
    return now


def dispatch_waits(near: DispatcherClient, far: DispatcherClient, count: int) -> list[float]:
    """Seconds from just before a submission to `near` to the start of its function, as `far` tells them."""
    waits = []
    for _ in range(count):
        before = time.time()
        task_id = near.submit(Submission("stamp"))["task_id"]
        time.sleep(0.02)  # nobody asks while it travels; and then the worker is idle and parked again
        waits.append(far.task(task_id, wait_seconds=5)["result"] - before)
    return waits


def percentile(values: list[float], share: float) -> float:
    """The value below which so large a share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _times(call: Callable[[], Any], count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _submit_rate(url: str, connections: int, count: int) -> float:
    def submit() -> None:
        client = DispatcherClient(url)
        for _ in range(count // connections):
            client.submit(Submission("noop"))
        client.close()

    threads = [threading.Thread(target=submit) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - began)


def fill(client: DispatcherClient, count: int) -> None:
    """Submit noops; encoding is the client's own work and part of the figure."""
    client.submit_many(Submission("noop") for _ in range(count))


def _claim_p99(client: DispatcherClient) -> float:
    return percentile(claim_times(client), 0.99)


def claim_times(client: DispatcherClient) -> list[float]:
    """Claims of one task each over one connection, released again afterwards by the goodbye."""
    info = WorkerInfo("claimer", name="claimer", types=["noop"])
    times = _times(lambda: client.exchange(Exchange(info, want=1)), CLAIMS)
    client.exchange(Exchange(msgspec.structs.replace(info, state="stopped")))
    return times
