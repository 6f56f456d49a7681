"""Measures what lost workers cost: `python -m analysis.recovery_time_analysis`.

Runs the same batch undisturbed and with workers taken out in its middle, on a dispatcher and workers
of its own, checks every answer, and leaves JSON, PNG and an HTML page under analysis/results/. Exits
1 if an answer is wrong.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from analysis import console as screen
from analysis import results
from analysis.harm import WAYS
from analysis.recovery import KINDS, Plan, Recovery, measure, size_for
from analysis.recovery_analysis_plot import draw
from analysis.recovery_reading import reading
from shared.wording import counted


@click.command(context_settings=screen.SETTINGS)
@click.option(
    "--dead-workers", type=screen.Numbers(0), default="0,2,4,6,8", help="How many workers to take out; 0: none."
)
@click.option("--workers", type=click.IntRange(1, 500), default=10, help="Workers at the start.")
@click.option("--kill", type=click.Choice(list(WAYS)), default="kill", help="How they are taken out.")
@click.option(
    "--when",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.4,
    help="Share of the work to be done by then; up to half a second off, so that not every checkpoint is as old.",
)
@click.option("--replace", is_flag=True, help="Start another worker for each dead one (always, if none is left).")
@click.option("--tasks", type=click.IntRange(1, 10_000), default=20, help="Tasks in the batch.")
@click.option(
    "--size",
    type=click.FloatRange(0, 1e12, min_open=True),
    metavar="LIMIT",
    show_default="two seconds of work",
    help="Of a task on average: primes up to, seconds, or rounds.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(KINDS),
    default="paced",
    help="What the tasks do; paced: compute a little, so that each worker can stand for a machine.",
)
@click.option("--repeats", type=click.IntRange(1, 100), default=2, help="Runs of each kind.")
@screen.out_option
def main(
    dead_workers: list[int],
    workers: int,
    kill: str,
    when: float,
    replace: bool,
    tasks: int,
    size: float | None,
    kind: str,
    repeats: int,
    out: Path,
) -> None:
    """Measure what it costs when workers die in the middle of a batch, and how Baton recovers."""
    if max(dead_workers) > workers:
        raise click.BadParameter(
            f"{max(dead_workers)} of {counted(workers, 'worker')} cannot die", param_hint="--dead-workers"
        )
    console = Console(highlight=False)
    plan = Plan(dead_workers, workers, tasks, size_for(kind, size), kind, kill, when, replace, repeats)
    data = Recovery(made_at=results.now(), plan=plan, machine=results.described_machine())
    began = time.monotonic()
    with screen.exit_codes():
        with screen.progress_bar(console) as tell:
            for run in measure(plan, tell):
                data.runs.append(run)
                console.print(
                    f"repeat {run.repeat}: {run.dead} of {workers} dead, {run.seconds:6.2f} s, "
                    f"{counted(len(run.losses), 'task')} handed over"
                )
        data.seconds = time.monotonic() - began
        data.reading = reading(data)
        written = [results.save(out / "recovery.json", data), *draw(data, out)]
    screen.finish(console, data.reading, written, any(run.wrong for run in data.runs))


if __name__ == "__main__":
    main()
