"""The recovery experiment: the same batch undisturbed and with workers taken out in its middle.

recovery_time_analysis.py runs it from the command line, recovery_analysis_plot.py draws it, and
recovery_reading.py says what it means. Times of a run are seconds since its batch was submitted.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from msgspec import Struct, field

from analysis import crew
from analysis.batch import Attempt, Batch, TaskRun
from analysis.cluster import Cluster, cluster
from analysis.cut_proxy import Line, lines
from analysis.harm import harm
from analysis.workload import Workload
from shared.settings import usable_cores
from shared.wording import counted

KINDS: Final = ("paced", "prime", "hash_chain", "sleep")
SPREAD: Final = 0.4  # tasks of 0.6 to 1.4 times the size, so that not all checkpoints fall together
_SHIFT_SECONDS: Final = 1.0  # the checkpoint interval
_GRACE_SECONDS: Final = 1.0  # this dispatcher was not restarted: nobody needs time to find it again
_GOLDEN: Final = 0.618034  # its multiples fill an interval evenly, however many there are
_BOUND: Final = ("reclaimed", "released", "crashed")  # how an attempt ends that its worker's end cut short


class Plan(Struct):
    """What is to be done. `when`: the share of the batch that is done when the workers go."""

    dead_workers: list[int]
    workers: int
    tasks: int
    size: float
    type: str
    kill: str
    when: float
    replace: bool
    repeats: int

    @property
    def replaced(self) -> dict[int, bool]:
        """For each number of dead workers: do others take their places? Somebody must be left."""
        return {dead: self.replace or dead >= self.workers for dead in self.dead_workers}


class Loss(Struct):
    """A task that lost its worker. Seconds since the harm; `redone_seconds`: work computed twice.

    `booked_seconds` is what the dispatcher counted as lost: it knows of work up to the last heartbeat.
    """

    task_id: int
    attempt: int
    worker: str
    detected_seconds: float
    resumed_seconds: float | None
    redone_seconds: float
    booked_seconds: float


class Run(Struct):
    """One batch. `at_best_seconds`: no queue could be faster with the workers that were left."""

    dead: int
    repeat: int
    seconds: float
    harmed_at: float | None
    share_done: float
    at_best_seconds: float
    workers: list[str]
    victims: list[str]
    tasks: list[TaskRun]
    wrong: list[str]
    losses: list[Loss] = field(default_factory=list)


class Recovery(Struct, kw_only=True):
    """The JSON file: every run with its whole history, the machine, the plan."""

    kind: str = "recovery"
    made_at: str
    seconds: float = 0.0
    plan: Plan
    machine: dict[str, Any]
    runs: list[Run] = []
    reading: list[str] = []

    @property
    def levels(self) -> list[int]:
        """The numbers of dead workers, ascending; 0 is the undisturbed batch."""
        return sorted({run.dead for run in self.runs})

    def of(self, dead: int) -> list[Run]:
        """The runs with so many dead workers."""
        return [run for run in self.runs if run.dead == dead]

    @property
    def baseline(self) -> float:
        """Median time of the undisturbed batch, in seconds."""
        return median(run.seconds for run in self.of(0))

    def losses(self, dead: int) -> list[Loss]:
        """What was lost in all runs with so many dead workers."""
        return [loss for run in self.of(dead) for loss in run.losses]


def measure(plan: Plan, on_progress: Callable[[str, float], object]) -> Iterator[Run]:
    """Carry out the plan, undisturbed runs included; each run has a dispatcher and workers of its own."""
    levels = sorted({0, *plan.dead_workers})
    total = len(levels) * plan.repeats
    done = 0
    for repeat in range(1, plan.repeats + 1):
        for dead in levels:
            what = "undisturbed" if dead == 0 else f"{dead} of {counted(plan.workers, 'worker')}, {plan.kill}"
            label = f"repeat {repeat} of {plan.repeats}: {what}"

            def tell(share: float, label: str = label, done: int = done) -> None:
                on_progress(label, (done + share) / total)

            tell(0.0)
            with tempfile.TemporaryDirectory(prefix="baton-recovery-") as folder:
                yield _run(plan, dead, repeat, done, Path(folder), tell)
            done += 1


def _run(plan: Plan, dead: int, repeat: int, number: int, folder: Path, tell: Callable[[float], object]) -> Run:
    names = [f"worker-{i}" for i in range(1, plan.workers + 1)]
    spares = [f"spare-{i}" for i in range(1, dead + 1)] if plan.replaced.get(dead) else []
    with contextlib.ExitStack() as stack:
        settings = {"TASK_MODULES": "analysis.paced_task", "START_GRACE_SECONDS": str(_GRACE_SECONDS)}
        baton = stack.enter_context(cluster(folder, **settings))
        stack.callback(crew.dismiss, baton)
        through: dict[str, Line] = {}
        if plan.kill == "cut":  # everybody goes through the proxy, undisturbed runs too
            through = stack.enter_context(lines(names, baton.port))
        crew.add_workers(baton, names, {name: line.url for name, line in through.items()})
        if plan.type == "prime":  # loads numpy; the others need nothing, and their workers learn no pace
            crew.warm_up(baton, plan.type, plan.size, names)
        batch = Batch(baton, Workload(plan.type, plan.size, plan.tasks, SPREAD), sampling=True)
        scene = _Scene(plan, baton, batch, dead, number, spares, through)
        for _ in batch.looks():
            scene.after_look()
            tell(batch.share_done)
        if dead and scene.harmed_at is None:
            raise RuntimeError(
                f"the batch ended before {counted(dead, 'worker')} could be taken out; raise --tasks or --size"
            )
        return _told(plan, scene, names + spares, repeat)


class _Scene:
    """A run under way: takes the workers out when it is time, and brings in their replacements.

    `number` counts the runs.
    """

    def __init__(
        self,
        plan: Plan,
        baton: Cluster,
        batch: Batch,
        dead: int,
        number: int,
        spares: list[str],
        through: dict[str, Line],
    ) -> None:
        self.batch = batch
        self.dead = dead
        self.spares = spares
        self.victims: list[str] = []
        self.harmed_at: float | None = None
        self.share_done = 0.0
        self._number = number
        self._due_at: float | None = None
        self._plan = plan
        self._baton = baton
        self._through = through

    def after_look(self) -> None:
        """Do the harm as soon as the batch is far enough."""
        if self.dead == 0 or self.harmed_at is not None or not self._is_time():
            return
        self.victims = self._choose()
        self.share_done = self.batch.share_done
        now = time.time()
        harm(self._baton, self._plan.kill, self.victims, self._through)
        self.harmed_at = self.batch.since_start(now)
        for name in self.spares:
            self._baton.start_worker(name, wait=False)

    def _is_time(self) -> bool:
        """Is the share done, give or take half a second?

        Workers that start together also save together. So that checkpoints are not always met at the
        same age, the harm comes up to half a second early or late, evenly spread over the runs.
        """
        now = self.batch.since_start(time.time())
        share = self.batch.share_done
        if self._due_at is None and share + _SHIFT_SECONDS / 2 * share / max(now, 0.1) >= self._plan.when:
            self._due_at = now + _SHIFT_SECONDS * (self._number * _GOLDEN % 1)
        return self._due_at is not None and now >= self._due_at

    def _choose(self) -> list[str]:
        """Workers in the middle of a task first, those with a checkpoint behind them before the others."""
        running = sorted(
            self.batch.running(),
            key=lambda view: (self.batch.has_checkpoint(view["task_id"]), view["progress"] or 0.0),
            reverse=True,
        )
        busy = [view["worker"] for view in running if view["worker"] in self._baton.workers]
        return list(dict.fromkeys([*busy, *self._baton.workers]))[: self.dead]


def _told(plan: Plan, scene: _Scene, names: list[str], repeat: int) -> Run:
    outcome = scene.batch.outcome()
    run = Run(
        scene.dead,
        repeat,
        outcome.seconds,
        scene.harmed_at,
        scene.share_done,
        0.0,
        names,
        scene.victims,
        outcome.tasks,
        outcome.wrong,
    )
    run.at_best_seconds = _at_best(plan, run)
    if scene.harmed_at is not None:
        run.losses = [loss for task in run.tasks for loss in _losses(task, scene.victims, scene.harmed_at)]
    return run


def _at_best(plan: Plan, run: Run) -> float:
    """What is left when the workers go, shared evenly among those that stay, on top of the time so far.

    For tasks that compute, more workers than cores count as many as there are cores.
    """
    left = plan.workers if run.dead == 0 or plan.replaced.get(run.dead) else plan.workers - run.dead
    if plan.type in ("prime", "hash_chain"):
        left = min(left, usable_cores())
    if run.harmed_at is None:
        return run.seconds
    if plan.type in ("paced", "sleep"):
        work_left = plan.size * plan.tasks - _worked(run, run.harmed_at)
    else:  # as fast as until then
        before = run.harmed_at * min(plan.workers, usable_cores())
        work_left = before / run.share_done * (1 - run.share_done)
    return min(run.seconds, run.harmed_at + max(0.0, work_left) / left)


def _worked(run: Run, until: float) -> float:
    """Seconds that all workers together have worked by then, for tasks that do not share cores."""
    attempts = [attempt for task in run.tasks for attempt in task.attempts if attempt.started_at < until]
    return sum(min(until, attempt.finished_at or until) - attempt.started_at for attempt in attempts)


def _losses(task: TaskRun, victims: list[str], harmed_at: float) -> Iterator[Loss]:
    followers = [*task.attempts[1:], None]
    for lost, following in zip(task.attempts, followers, strict=True):
        if lost.worker not in victims or lost.outcome not in _BOUND or lost.finished_at is None:
            continue
        yield Loss(
            task.task_id,
            lost.attempt,
            lost.worker,
            max(0.0, lost.finished_at - harmed_at),
            following.started_at - harmed_at if following else None,
            _redone(task, lost, following, harmed_at),
            lost.lost_seconds or 0.0,
        )


def _redone(task: TaskRun, lost: Attempt, following: Attempt | None, harmed_at: float) -> float:
    """Work of a lost attempt that no checkpoint held: up to the harm, or to its polite end."""
    if lost.outcome == "released":
        return lost.lost_seconds or 0.0
    behind = {0: 0.0} | {save.seq: save.elapsed_seconds for save in task.saves}
    began_with = behind.get(lost.resumed_seq or 0)
    resumed_with = behind.get(following.resumed_seq or 0) if following else 0.0
    if began_with is None or resumed_with is None:  # a checkpoint that the samples missed
        return lost.lost_seconds or 0.0
    saved = max(0.0, resumed_with - began_with)
    return max(0.0, harmed_at - lost.started_at - saved)


def size_for(kind: str, size: float | None) -> float:
    """The default size: two seconds of one worker, so that there are checkpoints (one a second)."""
    sizes = {"paced": 2.0, "sleep": 2.0, "prime": 2e9, "hash_chain": 2_000_000.0}
    return sizes[kind] if size is None else size
