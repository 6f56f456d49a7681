"""What the recovery experiment says, in plain words and in a table."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean, median

from analysis.harm import WAYS
from analysis.recovery import Loss, Recovery, Run
from analysis.report import Numbers
from analysis.workload import verdict
from shared.wording import counted


def overhead(data: Recovery, run: Run) -> float:
    """Seconds that a run took longer than the undisturbed batch."""
    return run.seconds - data.baseline


def overhead_at_best(data: Recovery, run: Run) -> float:
    """The part of that which the missing workers explain: no queue could avoid it."""
    return max(0.0, run.at_best_seconds - data.baseline)


def reading(data: Recovery) -> list[str]:
    """The experiment in sentences."""
    plan = data.plan
    said = [
        f"The batch: {counted(plan.tasks, 'task')} ({plan.type}) on {counted(plan.workers, 'worker')}, "
        f"undisturbed {data.baseline:.1f} s."
    ]
    levels = [dead for dead in data.levels if dead]
    said += [_level(data, dead) for dead in levels]
    losses = [loss for dead in levels for loss in data.losses(dead)]
    if losses:
        said += _recovery(data, losses)
    elif levels:
        said.append("No task was running on the workers that were taken out, so none had to be resumed.")
    wrong = [finding for run in data.runs for finding in run.wrong]
    return [*said, verdict(plan.tasks * len(data.runs), wrong)]


def reached(runs: Iterable[Run]) -> str:
    """The share of the batch that was done when the workers went; "nothing" if none went.

    It is near the share that was asked for: the harm comes up to half a second early or late, on purpose
    (recovery.py), and with the next look at the batch.
    """
    shares = [run.share_done for run in runs if run.harmed_at is not None]
    if not shares:
        return "nothing"
    least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return least if least == most else f"{least} to {most}"


def _level(data: Recovery, dead: int) -> str:
    runs = data.of(dead)
    plan = data.plan
    more = median(overhead(data, run) for run in runs)
    unavoidable = median(overhead_at_best(data, run) for run in runs)
    replaced = "replaced" if plan.replaced.get(dead) else "not replaced"
    started = " (and starting new workers)" if plan.replaced.get(dead) else ""
    return (
        f"{dead} of {counted(plan.workers, 'worker')} {WAYS[plan.kill]} "
        f"in the middle of the work (asked for {plan.when:.0%}, reached {reached(runs)}), {replaced}: "
        f"{median(r.seconds for r in runs):.1f} s, {more:+.1f} s ({more / data.baseline:+.0%}). "
        f"Having fewer workers alone explains {unavoidable:.1f} s of that; "
        f"losing, finding and repeating work{started} {max(0.0, more - unavoidable):.1f} s."
    )


def _recovery(data: Recovery, losses: list[Loss]) -> list[str]:
    resumed = [loss.resumed_seconds for loss in losses if loss.resumed_seconds is not None]
    detected = [loss.detected_seconds for loss in losses]
    redone = [loss.redone_seconds for loss in losses]
    said = [
        f"{counted(len(losses), 'task')} lost {'its' if len(losses) == 1 else 'their'} worker. "
        f"It was noticed after {_spread(detected)} s, and work went on after {_spread(resumed)} s "
        "(median, and from least to most; the second includes waiting for a free worker).",
        f"Work done twice: {mean(redone):.2f} s per lost task, {max(redone):.2f} s at most; "
        f"the dispatcher booked {mean(loss.booked_seconds for loss in losses):.2f} s per task.",
    ]
    if data.plan.kill == "term":
        said.append(
            "A polite stop hands its task over at the next checkpoint, so that next to nothing is repeated."
        )
    else:
        said.append(
            "Baton promises at most one checkpoint interval (1 s) of repeated work and two seconds of silence "
            "before a worker is taken for dead; a heartbeat a second decides how exactly that is kept."
        )
    return said


def _spread(values: Iterable[float]) -> str:
    ordered = sorted(values)
    if not ordered:
        return "–"
    middle = f"{median(ordered):.2f}"
    return f"{middle} ({ordered[0]:.2f} to {ordered[-1]:.2f})" if len(ordered) > 1 else middle


def table(data: Recovery) -> Numbers:
    """A row for each number of dead workers."""
    columns = (
        "dead workers",
        "share of workers",
        "time (s)",
        "overhead (s)",
        "overhead (%)",
        "explained by missing workers (s)",
        "tasks lost",
        "detected after (s)",
        "resumed after (s)",
        "redone per lost task (s)",
    )
    return Numbers(
        "Measured (medians, and from least to most)", columns, [_row(data, dead) for dead in data.levels]
    )


def _row(data: Recovery, dead: int) -> list[str]:
    runs, losses = data.of(dead), data.losses(dead)
    more = median(overhead(data, run) for run in runs)
    return [
        str(dead),
        f"{dead / data.plan.workers:.0%}",
        _spread(run.seconds for run in runs),
        f"{more:.2f}",
        f"{more / data.baseline:.0%}",
        f"{median(overhead_at_best(data, run) for run in runs):.2f}",
        str(len(losses)),
        _spread(loss.detected_seconds for loss in losses),
        _spread(loss.resumed_seconds for loss in losses if loss.resumed_seconds is not None),
        _spread(loss.redone_seconds for loss in losses),
    ]
