"""Measures how throughput grows with workers: `python -m analysis.task_throughput_analysis`.

Starts a dispatcher and workers of its own, runs the same batch with each number of workers, checks
every answer, and leaves JSON, PNG and an HTML page under analysis/results/. Exits 1 if an answer is
wrong.
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
from analysis.throughput import KINDS, Plan, Throughput, measure, reading
from analysis.throughput_analysis_plot import draw
from analysis.workload import SIZES
from shared.wording import counted


@click.command(context_settings=screen.SETTINGS)
@click.option("--workers", type=screen.Numbers(1), default="1,2,4,8", help="Numbers of workers to compare.")
@click.option("--tasks", type=click.IntRange(1, 10_000), default=24, help="Tasks in the batch.")
@click.option(
    "--size",
    type=click.FloatRange(0, 1e12, min_open=True),
    metavar="LIMIT",
    show_default="about 0.2 seconds of work",
    help="Of each task: primes up to, seconds, or rounds.",
)
@click.option("--type", "kind", type=click.Choice(KINDS), default="prime", help="What the tasks do.")
@click.option("--repeats", type=click.IntRange(1, 100), default=3, help="Measurements of each number of workers.")
@screen.out_option
def main(workers: list[int], tasks: int, size: float | None, kind: str, repeats: int, out: Path) -> None:
    """Measure time, throughput and speed-up of a batch of tasks with different numbers of workers."""
    console = Console(highlight=False)
    plan = Plan(workers, tasks, SIZES[kind] if size is None else size, kind, repeats)
    data = Throughput(made_at=results.now(), plan=plan, machine=results.described_machine())
    began = time.monotonic()
    with screen.exit_codes():
        with screen.progress_bar(console) as tell:
            for run in measure(plan, tell):
                data.runs.append(run)
                console.print(
                    f"repeat {run.repeat}: {counted(run.workers, 'worker')} {run.seconds:6.2f} s, "
                    f"{run.throughput:6.2f} tasks/s"
                )
        data.seconds = time.monotonic() - began
        data.reading = reading(data)
        written = [results.save(out / "throughput.json", data), *draw(data, out)]
    screen.finish(console, data.reading, written, any(run.wrong for run in data.runs))


if __name__ == "__main__":
    main()
