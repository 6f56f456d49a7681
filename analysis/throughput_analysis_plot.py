"""Draws the throughput experiment: time, throughput and speed-up against workers, and its HTML page.

`python -m analysis.throughput_analysis_plot` reads analysis/results/throughput.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from analysis import console as screen
from analysis import palette, report, results, usl
from analysis.palette import BLACK, BLUE, GREEN, GREY, ORANGE, RED
from analysis.report import Numbers, Picture
from analysis.throughput import Run, Throughput, reading
from shared.wording import counted


def draw(data: Throughput, folder: Path) -> list[Path]:
    """Write the pictures and the page into a folder; returns their paths."""
    pictures = [_time(data, folder), _throughput(data, folder), _speedup(data, folder)]
    title = f"Baton: throughput of {counted(data.plan.tasks, f'{data.plan.type} task')}"
    made_with = {
        "made at": data.made_at,
        "whole experiment, seconds": round(data.seconds, 1),
        "tasks": f"{data.plan.tasks} of type {data.plan.type}, size {data.plan.size:g}",
        "repeats": data.plan.repeats,
        **data.machine,
    }
    page = report.write(
        folder / "throughput.html", title, reading(data), pictures, [_table(data), *_law_table(data)], made_with
    )
    return [picture.path for picture in pictures] + [page]


def _time(data: Throughput, folder: Path) -> Picture:
    made, (panel,) = palette.figure()
    one = data.plan.tasks / data.one_worker
    grid = _grid(data)
    panel.plot(grid, one / grid, color=GREY, ls="--", label="ideal: time of one worker, divided")
    _cores_line(data, panel, lambda n: one / data.allowed(n))
    _measured(data, panel, lambda run: run.seconds)
    panel.set_ylim(bottom=0)
    palette.label(panel, "Execution time of the batch", "workers", "time (s)")
    palette.legend_below(made, [panel])
    caption = "Time from submission to the last result, against the number of workers. Less is better."
    return Picture(palette.save(made, folder / "throughput-time.png"), caption)


def _throughput(data: Throughput, folder: Path) -> Picture:
    made, (panel,) = palette.figure()
    grid = _grid(data)
    panel.plot(grid, grid * data.one_worker, color=GREY, ls="--", label="ideal: one worker, multiplied")
    _cores_line(data, panel, lambda n: data.allowed(n) * data.one_worker)
    _law(data, panel)
    _measured(data, panel, lambda run: run.throughput)
    _keep_in_view(data, panel, [run.throughput for run in data.runs], data.one_worker)
    palette.label(panel, "Throughput", "workers", "throughput (tasks/s)")
    palette.legend_below(made, [panel])
    fitted = ", with the law fitted to every repeat" if data.law() else ""
    caption = f"Tasks completed per second, against the number of workers{fitted}."
    return Picture(palette.save(made, folder / "throughput-rate.png"), caption)


def _law(data: Throughput, panel: Axes) -> None:
    law = data.law()
    if law is None:
        panel.plot([], [], " ", label="no scalability law: it takes three numbers of workers")
        return
    grid = _grid(data)
    fitted = f"scalability law: contention {law.contention:.1%}, coherency {law.coherency:.2%}"
    if len(data.counts) == usl.COUNTS_MIN:
        fitted += "\n(three numbers leave nothing to judge it by)"
    panel.plot(grid, [law.throughput(n) for n in grid], color=BLUE, ls=":", label=fitted)
    if (best := law.best_workers) is not None and best <= grid[-1]:
        panel.plot(best, law.throughput(best), "D", color=BLUE, mfc="white", label=f"its best: {best:.1f} workers")


def _speedup(data: Throughput, folder: Path) -> Picture:
    made, (panel,) = palette.figure()
    grid = _grid(data)
    panel.plot(grid, grid, color=GREY, ls="--", label="ideal: as many times as workers")
    _cores_line(data, panel, data.allowed)
    _measured(data, panel, lambda run: run.throughput / data.one_worker)
    panel.plot([], [], " ", label="%: of what is possible here")
    for count in data.counts:
        share = data.speedup(count) / data.allowed(count)
        at = (count, data.speedup(count))
        panel.annotate(f"{share:.0%}", at, (7, -13), textcoords="offset points", fontsize=9)
    _keep_in_view(data, panel, [run.throughput / data.one_worker for run in data.runs], 1.0)
    palette.label(panel, "Speed-up against one worker", "workers", "speed-up (times)")
    palette.legend_below(made, [panel])
    caption = "Speed-up, actual against ideal; the percentages compare it with what this machine allows."
    return Picture(palette.save(made, folder / "throughput-speedup.png"), caption)


def _grid(data: Throughput) -> np.ndarray:
    return np.linspace(min(1, data.counts[0]), data.counts[-1] * 1.05, 200)


def _cores_line(data: Throughput, panel: Axes, line: Callable[[float], float]) -> None:
    if data.cores is None or data.cores >= data.counts[-1]:
        return  # the machine sets no limit here: it would lie on the ideal line
    grid = _grid(data)
    label = f"the limit of this machine's {counted(data.cores, 'core')}"
    panel.plot(grid, [line(n) for n in grid], color=GREEN, ls="-.", label=label)


def _measured(data: Throughput, panel: Axes, of: Callable[[Run], float]) -> None:
    """Every repeat as a dot, their median as a line, their spread as a bar."""
    middle = [median(data.values(n, of)) for n in data.counts]
    low = [m - min(data.values(n, of)) for n, m in zip(data.counts, middle, strict=True)]
    high = [max(data.values(n, of)) - m for n, m in zip(data.counts, middle, strict=True)]
    each = [run.workers for run in data.runs], [of(run) for run in data.runs]
    panel.plot(*each, ".", color=ORANGE, ms=5, zorder=4)
    look: dict[str, Any] = {"color": RED, "marker": "o", "ecolor": BLACK, "elinewidth": 1, "capsize": 4}
    repeats = counted(data.plan.repeats, "repeat")
    label = f"measured: median and spread of {repeats}" if data.plan.repeats > 1 else f"measured: {repeats}"
    panel.errorbar(data.counts, middle, yerr=[low, high], label=label, **look)
    palette.count_axis(panel, data.counts)


def _keep_in_view(data: Throughput, panel: Axes, measured: list[float], one: float) -> None:
    """The ideal line may leave the picture when nothing comes near it."""
    highest = max(*measured, data.allowed(data.counts[-1]) * one)
    panel.set_ylim(0, min(highest * 1.9, data.counts[-1] * one * 1.1))


def _table(data: Throughput) -> Numbers:
    columns = ("workers", "median (s)", "spread (s)", "tasks/s", "speed-up", "of ideal", "of what is possible")
    rows = []
    for count in data.counts:
        seconds = data.values(count, lambda run: run.seconds)
        speedup = data.speedup(count)
        rate = median(data.values(count, lambda run: run.throughput))
        shares = [f"{speedup / count:.0%}", f"{speedup / data.allowed(count):.0%}"]
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        rows.append([str(count), f"{median(seconds):.2f}", spread, f"{rate:.2f}", f"{speedup:.2f}", *shares])
    return Numbers("Measured", columns, rows)


def _law_table(data: Throughput) -> list[Numbers]:
    """The fitted law; no table where none was fitted, which the reading says."""
    law = data.law()
    if law is None:
        return []
    best = "none" if law.best_workers is None else f"{law.best_workers:.1f}"
    limit = "none" if law.limit is None else f"{law.limit:.2f} tasks/s"
    judged = len(data.counts) > usl.COUNTS_MIN
    rows = [
        ("one worker", f"{law.rate:.2f} tasks/s"),
        ("contention", f"{law.contention:.2%}"),
        ("coherency", f"{law.coherency:.3%}"),
        ("workers with the most throughput", best),
        ("throughput never exceeds", limit),
        ("typical distance of a point", f"{law.error:.1%}" if judged else "three numbers leave none to judge by"),
    ]
    return [Numbers("Universal scalability law", ("quantity", "fitted"), rows)]


@click.command(context_settings=screen.SETTINGS)
@click.argument(
    "json_file", type=click.Path(exists=True, path_type=Path), default=results.FOLDER / "throughput.json"
)
@screen.out_option
def main(json_file: Path, out: Path) -> None:
    """Draw a throughput experiment again from its JSON_FILE."""
    with screen.exit_codes():
        data = results.load(json_file, Throughput)
        written = draw(data, out)
    wrong = any(run.wrong for run in data.runs)
    screen.finish(Console(highlight=False), reading(data), written, wrong)


if __name__ == "__main__":
    main()
