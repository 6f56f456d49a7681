"""The scale model from the command line: `python -m analysis.simulate --workers 100,1000,10000`.

Runs the real ledger on a real database under virtual time with simulated workers that die now and
then, and tells how dispatch delay, false deaths, lost work and load grow; its assumptions are printed
with the answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from analysis import console as screen
from analysis import results, simulation_outcome
from analysis.calibration import Costs, calibrate
from analysis.fleet import Conditions
from analysis.simulation import Simulation
from analysis.simulation_outcome import COLUMNS, Outcome, assumptions, reading

Command = Callable[..., None]
_COSTS = ("heartbeat", "checkpoint", "work", "commit")


class Scale(Struct):
    """The JSON file."""

    made_at: str
    conditions: Conditions
    costs: Costs
    machine: dict[str, Any]
    outcomes: list[Outcome]
    assumptions: list[str]
    reading: list[str]


def _seconds(name: str, default: float, help: str) -> Callable[[Command], Command]:
    kind = click.FloatRange(0, min_open=True)
    return click.option(f"--{name}", type=kind, default=default, metavar="SECONDS", help=help)


@click.command(context_settings=screen.SETTINGS)
@click.option("--workers", type=screen.Numbers(1), default="100,1000,10000", help="Sizes of the fleet.")
@_seconds("seconds", 10.0, "Virtual time to simulate, after five to swing in.")
@_seconds("task-seconds", 60.0, "Mean work in a task.")
@_seconds("lifetime", 600.0, "Mean time until a worker dies.")
@_seconds("heartbeat", 1.0, "How often a worker reports.")
@_seconds("timeout", 2.0, "Silence after which a worker is dead.")
@_seconds("checkpoint", 1.0, "How often a task's progress is saved.")
@click.option(
    "--costs",
    metavar="H,C,W,F",
    help="Microseconds for a heartbeat, one with a checkpoint, a result in and a task out, a commit; "
    "default: measured first.",
)
@click.option("--seed", type=int, default=1, help="Of the random numbers.")
@screen.out_option
def main(workers: list[int], seconds: float, costs: str | None, seed: int, out: Path, **times: float) -> None:
    """Simulate fleets of many workers on the real ledger and say what breaks first."""
    console = Console(highlight=False)
    conditions = Conditions(
        task_seconds=times["task_seconds"],
        lifetime_seconds=times["lifetime"],
        heartbeat_seconds=times["heartbeat"],
        timeout_seconds=times["timeout"],
        checkpoint_seconds=times["checkpoint"],
    )
    with screen.exit_codes():
        if costs is None:
            with console.status("measuring what messages cost here"):
                known = calibrate()
        else:
            known = _given(costs)
        outcomes = _simulate(workers, conditions, known, seconds, seed, console)
        said = assumptions(conditions, known), reading(outcomes, conditions, known)
        scale = Scale(results.now(), conditions, known, results.described_machine(), outcomes, *said)
        written = results.save(out / "scale.json", scale)
    _print(console, scale)
    screen.finish(console, scale.reading, [written], wrong=False)


def _given(text: str) -> Costs:
    parts = text.split(",")
    try:
        values = [float(part) / 1e6 for part in parts]
    except ValueError:
        values = []
    if len(values) != len(_COSTS) or min(values) < 0:
        raise click.BadParameter(
            f"{text!r}: expected {len(_COSTS)} numbers in microseconds: {', '.join(_COSTS)}", param_hint="--costs"
        )
    heartbeat, checkpoint, work, commit = values
    return Costs(heartbeat, checkpoint, work, commit, source="given")


def _simulate(
    workers: list[int], conditions: Conditions, costs: Costs, seconds: float, seed: int, console: Console
) -> list[Outcome]:
    outcomes = []
    with screen.progress_bar(console) as tell:
        for number, size in enumerate(sorted(workers)):

            def share(done: float, number: int = number, size: int = size) -> None:
                tell(f"{size:,} workers", (number + done) / len(workers))

            share(0.0)
            began = time.monotonic()
            outcomes.append(Simulation(size, conditions, costs, seed).run(seconds, share))
            console.print(f"{size:,} workers: {seconds:g} s simulated in {time.monotonic() - began:.1f} s")
    return outcomes


def _print(console: Console, scale: Scale) -> None:
    """The table stands on its side: a column for each size of the fleet."""
    rows = [simulation_outcome.row(outcome) for outcome in scale.outcomes]
    table = Table(box=None)
    for heading in ("", *(cells[0] for cells in rows)):
        table.add_column(heading, no_wrap=True)
    for index, name in enumerate(COLUMNS):
        if index:
            table.add_row(name, *(cells[index] for cells in rows))
    console.print(table)
    console.print("\nAssumptions:")
    for sentence in scale.assumptions:
        console.print(f"- {sentence}", soft_wrap=True)


if __name__ == "__main__":
    main()
