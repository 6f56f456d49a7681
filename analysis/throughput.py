"""The throughput experiment: one batch, measured with different numbers of workers, and what it says.

task_throughput_analysis.py runs it from the command line, throughput_analysis_plot.py draws it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from msgspec import Struct

from analysis import crew, usl
from analysis.batch import Batch
from analysis.cluster import cluster
from analysis.workload import Workload, verdict
from shared.wording import counted

KINDS: Final = ("prime", "sleep", "hash_chain")
_SHORT_SECONDS: Final = 0.5  # of a whole batch
_BEYOND: Final = 1.1  # times what is possible: less may be chance
_SCATTER: Final = 0.15  # above this, single points decide what the law looks like


class Plan(Struct):
    """What is to be measured."""

    workers: list[int]
    tasks: int
    size: float
    type: str
    repeats: int


class Run(Struct):
    """One measured batch. `shares`: how many tasks each worker completed."""

    workers: int
    repeat: int
    seconds: float
    throughput: float
    usage: crew.Usage
    shares: list[int]
    wrong: list[str]


class Throughput(Struct, kw_only=True):
    """The JSON file: every repeat, the machine, the plan."""

    kind: str = "throughput"
    made_at: str
    seconds: float = 0.0
    plan: Plan
    machine: dict[str, Any]
    runs: list[Run] = []
    reading: list[str] = []

    @property
    def counts(self) -> list[int]:
        """The numbers of workers, ascending."""
        return sorted({run.workers for run in self.runs})

    def values(self, workers: int, of: Callable[[Run], float]) -> list[float]:
        """One figure of every repeat with so many workers."""
        return [of(run) for run in self.runs if run.workers == workers]

    @property
    def one_worker(self) -> float:
        """Throughput of one worker, or of the fewest measured, shared among them."""
        fewest = self.counts[0]
        return median(self.values(fewest, lambda run: run.throughput)) / fewest

    @property
    def cores(self) -> int | None:
        """The cores that limit the speed-up; None if the tasks do not compute."""
        return None if self.plan.type == "sleep" else int(self.machine["usable_cores"])

    def allowed(self, workers: float) -> float:
        """The speed-up that this machine allows at best."""
        return workers if self.cores is None else min(workers, self.cores)

    def speedup(self, workers: int) -> float:
        """The measured speed-up: median throughput against one worker's."""
        return median(self.values(workers, lambda run: run.throughput)) / self.one_worker

    def law(self) -> usl.Law | None:
        """The scalability law fitted to every repeat; None below three numbers of workers: it takes those."""
        if len(self.counts) < usl.COUNTS_MIN:
            return None
        return usl.fit([run.workers for run in self.runs], [run.throughput for run in self.runs])


def measure(plan: Plan, on_progress: Callable[[str, float], object]) -> Iterator[Run]:
    """Carry out the plan; tells what it does and which share of the whole is done.

    Each repeat has a dispatcher of its own and measures every number of workers, so that what else
    the machine does meanwhile falls on all of them alike.
    """
    counts = sorted(set(plan.workers))
    done = 0
    for repeat in range(1, plan.repeats + 1):
        with tempfile.TemporaryDirectory(prefix="baton-throughput-") as folder, cluster(Path(folder)) as baton:
            names: list[str] = []
            for count in counts:
                label = f"repeat {repeat} of {plan.repeats}, {counted(count, 'worker')}"
                on_progress(label, done / (len(counts) * plan.repeats))
                added = [f"worker-{i}" for i in range(len(names) + 1, count + 1)]
                names += added
                crew.add_workers(baton, added)
                crew.warm_up(baton, plan.type, plan.size, names)
                batch = Batch(baton, Workload(plan.type, plan.size, plan.tasks))

                def tell(share: float, label: str = label, done: int = done) -> None:
                    on_progress(label, (done + share) / (len(counts) * plan.repeats))

                with crew.measured(baton) as usage:
                    outcome = batch.run(tell)
                workers = [task.attempts[-1].worker for task in outcome.tasks]
                shares = [workers.count(name) for name in names]
                rate = plan.tasks / outcome.seconds
                done += 1
                yield Run(count, repeat, outcome.seconds, rate, usage, shares, outcome.wrong)
            crew.dismiss(baton)


def reading(data: Throughput) -> list[str]:
    """What the figures say, in plain words."""
    most = data.counts[-1]
    fewest = data.counts[0]
    plan = data.plan
    seconds = [median(data.values(n, lambda run: run.seconds)) for n in (fewest, most)]
    few = counted(fewest, "worker")
    said = [f"{counted(plan.tasks, 'task')} of type {plan.type} took {seconds[0]:.2f} s with {few}"]
    if most > fewest:
        times = data.speedup(most) / data.speedup(fewest)
        said[0] += f" and {seconds[1]:.2f} s with {most}: {times:.2f} times as fast"
        said += [_against_machine(data, most), _law_in_words(data)]
    said[0] += f" (medians of {counted(plan.repeats, 'repeat')})."
    said.append(_cost(data))
    if most == fewest:
        said.append("How that grows with workers, several numbers of them tell: --workers 1,2,4.")
    if max(seconds) < _SHORT_SECONDS:
        said.append("So short a batch measures how tasks start rather than their work: raise --tasks or --size.")
    others = mean(run.usage.others_cores for run in data.runs)
    if others > 0.1:
        said.append(
            f"Other programs kept {others:.1f} of {data.machine['usable_cores']} cores busy meanwhile, "
            "so the figures are lower and vary more than on a machine of one's own, "
            "and more workers also win a larger share of it."
        )
    wrong = [finding for run in data.runs for finding in run.wrong]
    return [*said, verdict(plan.tasks * len(data.runs), wrong)]


def _against_machine(data: Throughput, most: int) -> str:
    allowed = data.allowed(most)
    share = f"{data.speedup(most) / allowed:.0%} of what is possible"
    if data.speedup(most) > allowed * _BEYOND:
        few = counted(data.counts[0], "worker")
        share += (
            f", which cannot be: something held the runs with {few} up, so measure again when little else runs"
        )
    if data.cores is None:
        return f"The tasks only wait, so {most} workers could be {most} times as fast as one; measured: {share}."
    if most <= data.cores:
        return f"This machine has a core for each worker; measured: {share}."
    return (
        f"These tasks compute, and this machine has {counted(data.cores, 'core')} for them: no number of workers "
        f"here can be more than {allowed:g} times as fast as one. Measured with {most}: {share}. More machines, "
        f"not more workers on this one, would go on from there."
    )


def _law_in_words(data: Throughput) -> str:
    law = data.law()
    if law is None:
        return (
            f"A scalability law is not fitted to {counted(len(data.counts), 'number')} of workers: "
            "it takes three, and more to judge it, as with --workers 1,2,4,8."
        )
    fit = "three numbers of workers leave nothing to judge the fit by, so take it as a guess"
    if len(data.counts) > usl.COUNTS_MIN:
        fit = f"points lie {law.error:.0%} off on average"
    text = f"Universal scalability law: contention {law.contention:.1%}, coherency {law.coherency:.2%} ({fit}); "
    if law.error > _SCATTER:
        text += "that is too much scatter for a prediction, so take what follows as a guess; "
    best = law.best_workers
    if best is None:
        return text + "it sees no number of workers from which more would slow things down."
    best = max(1, round(best))
    text += f"it predicts the most throughput at {counted(best, 'worker')}"
    if best > 2 * data.counts[-1]:
        return text + f", far beyond the {data.counts[-1]} measured, so take it as a direction only."
    if data.cores is not None and data.counts[-1] > data.cores:
        return text + f"; the law is smooth and rounds off the sharp bend at {counted(data.cores, 'core')}."
    return text + "."


def _cost(data: Throughput) -> str:
    cost = median(run.usage.dispatcher_seconds / data.plan.tasks for run in data.runs) * 1000
    work = median(run.usage.workers_seconds / data.plan.tasks for run in data.runs) * 1000
    return (
        f"Per task, the dispatcher computed for {cost:.1f} ms (looking on by this program included) "
        f"and the workers for {work:.0f} ms."
    )
