"""Draws the recovery experiment: time, overhead, detection, lost work, a Gantt picture, and its page.

`python -m analysis.recovery_analysis_plot` reads analysis/results/recovery.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
from matplotlib.axes import Axes
from rich.console import Console

if not __package__:  # started as a file, not with -m
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from analysis import console as screen
from analysis import gantt, palette, report, results
from analysis.harm import WAYS
from analysis.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from analysis.recovery import Loss, Recovery, Run
from analysis.recovery_reading import overhead, overhead_at_best, reached, reading, table
from analysis.report import Picture
from shared.settings import Settings
from shared.wording import counted

SETTINGS = Settings()  # the defaults, which the experiment runs with


def draw(data: Recovery, folder: Path, shown: int | None = None) -> list[Path]:
    """Write the pictures and the page into a folder; returns their paths.

    `shown`: the number of dead workers whose first run becomes the Gantt picture; the default is the
    middle one, which has enough going on and is not crowded yet.
    """
    pictures = [_time(data, folder)]
    if any(data.levels):  # somebody died
        pictures += [_overhead(data, folder), _rate(data, folder)]
    if any(data.losses(dead) for dead in data.levels):
        pictures += [_recovery(data, folder), _redone(data, folder)]
    pictures.append(_gantt(data, folder, shown))
    plan = data.plan
    made_with = {
        "made at": data.made_at,
        "whole experiment, seconds": round(data.seconds, 1),
        "batch": f"{counted(plan.tasks, 'task')} of type {plan.type}, size {plan.size:g} ± 40 %",
        "workers": plan.workers,
        "harm": WAYS[plan.kill],
        "share of the batch done by then": f"asked for {plan.when:.0%}, reached {reached(data.runs)}",
        "replaced": plan.replace,
        "repeats": plan.repeats,
        **data.machine,
    }
    title = "Baton: recovery from lost workers"
    page = report.write(folder / "recovery.html", title, reading(data), pictures, [table(data)], made_with)
    return [picture.path for picture in pictures] + [page]


def _time(data: Recovery, folder: Path) -> Picture:
    made, (panel,) = palette.figure()
    panel.axhline(data.baseline, color=GREY, ls="--", label="undisturbed (baseline)")
    _at_best(data, panel, lambda run: max(run.at_best_seconds, data.baseline))
    _measured(data, panel, lambda run: run.seconds)
    panel.set_ylim(bottom=0)
    palette.label(panel, "Time of the batch", f"dead workers (of {data.plan.workers})", "time (s)")
    palette.legend_below(made, [panel])
    caption = "Execution time of the same batch, against how many workers were taken out in its middle."
    return Picture(palette.save(made, folder / "recovery-time.png"), caption)


def _overhead(data: Recovery, folder: Path) -> Picture:
    made, (seconds, percent) = palette.figure(1, 2, 3.6)
    for panel, unit, factor in ((seconds, "s", 1.0), (percent, "%", 100 / data.baseline)):

        def scaled(run: Run, factor: float = factor) -> float:
            return overhead(data, run) * factor

        def best(run: Run, factor: float = factor) -> float:
            return overhead_at_best(data, run) * factor

        panel.axhline(0, color=GREY, lw=1)
        _at_best(data, panel, best)
        _measured(data, panel, scaled)
        title = "Overhead in seconds" if unit == "s" else "Overhead in percent"
        palette.label(panel, title, f"dead workers (of {data.plan.workers})", f"overhead ({unit})")
    palette.legend_below(made, [seconds, percent])
    caption = "How much longer than undisturbed, and how much of that the missing workers explain by themselves."
    return Picture(palette.save(made, folder / "recovery-overhead.png"), caption)


def _recovery(data: Recovery, folder: Path) -> Picture:
    made, (panel,) = palette.figure()
    _each(data, panel, lambda loss: loss.detected_seconds, -0.2, BLUE, "s", "loss noticed")
    _each(data, panel, lambda loss: loss.resumed_seconds, 0.2, ORANGE, "^", "task goes on elsewhere")
    if data.plan.kill != "term":
        silence = SETTINGS.heartbeat_timeout_seconds
        panel.axhline(silence, color=GREY, ls="--", label=f"silence until a worker counts as dead ({silence:g} s)")
    palette.from_zero(panel)
    title = "From the loss to its detection and to resumption"
    palette.label(panel, title, f"dead workers (of {data.plan.workers})", "after the loss (s)")
    palette.legend_below(made, [panel])
    caption = (
        "Each mark is a task that lost its worker. Resumption waits for a free worker; "
        "silence counts from the last heartbeat, before the loss."
    )
    return Picture(palette.save(made, folder / "recovery-detection.png"), caption)


def _redone(data: Recovery, folder: Path) -> Picture:
    made, (each, total) = palette.figure(1, 2, 3.6)
    _each(data, each, lambda loss: loss.redone_seconds, 0.0, RED, "o", "a lost task")
    interval = SETTINGS.checkpoint_interval_seconds
    each.axhline(interval, color=GREY, ls="--", label=f"checkpoint interval ({interval:g} s)")
    palette.from_zero(each)
    x = f"dead workers (of {data.plan.workers})"
    palette.label(each, "Work redone, per lost task", x, "work done twice (s)")
    _measured(data, total, lambda run: sum(loss.redone_seconds for loss in run.losses))
    palette.label(total, "Work redone, whole batch", x, "work done twice (s)")
    palette.from_zero(total)
    palette.legend_below(made, [each, total])
    caption = "Work that had to be repeated because no checkpoint held it when its worker went."
    return Picture(palette.save(made, folder / "recovery-redone.png"), caption)


def _rate(data: Recovery, folder: Path) -> Picture:
    made, (panel,) = palette.figure()

    def share(dead: int) -> float:
        return 100 * dead / data.plan.workers

    def percent(run: Run) -> float:
        return 100 * overhead(data, run) / data.baseline

    def best(run: Run) -> float:
        return 100 * overhead_at_best(data, run) / data.baseline

    levels = data.levels
    middle = [median(percent(run) for run in data.of(dead)) for dead in levels]
    floor = [median(best(run) for run in data.of(dead)) for dead in levels]
    x = [share(dead) for dead in levels]
    panel.fill_between(x, floor, middle, color=PURPLE, alpha=0.25, lw=0, label="price of losing and finding work")
    panel.fill_between(x, 0, floor, color=GREY, alpha=0.18, lw=0, label="price of having fewer workers")
    panel.plot(x, floor, color=GREEN, ls="-.", marker="v", label="overhead at best, with the workers left")
    panel.plot(x, middle, color=RED, marker="o", label="overhead, median")
    panel.plot([share(r.dead) for r in data.runs], [percent(r) for r in data.runs], ".", color=BLACK, ms=5)
    palette.label(panel, "Impact of the failure rate", "workers that failed during the batch (%)", "overhead (%)")
    palette.legend_below(made, [panel])
    caption = "Overhead against the share of workers that failed, split into what it is made of."
    return Picture(palette.save(made, folder / "recovery-rate.png"), caption)


def _gantt(data: Recovery, folder: Path, shown: int | None) -> Picture:
    harmed = [dead for dead in data.levels if dead] or data.levels
    dead = shown if shown in data.levels else harmed[(len(harmed) - 1) // 2]
    run = data.of(dead)[0]
    made, (panel,) = palette.figure(height=1.6 + 0.32 * len(run.workers))
    gantt.draw(panel, run)
    title = (
        f"One run: {dead} of {counted(data.plan.workers, 'worker')} {WAYS[data.plan.kill]}"
        if dead
        else "One run, undisturbed"
    )
    palette.label(panel, title, "time since the batch was submitted (s)", "")
    caption = "A row for each worker, a bar for each attempt. A task goes on where its last checkpoint stood."
    return Picture(palette.save(made, folder / "recovery-gantt.png"), caption)


def _at_best(data: Recovery, panel: Axes, of: Callable[[Run], float]) -> None:
    middle = [median(of(run) for run in data.of(dead)) for dead in data.levels]
    panel.plot(data.levels, middle, color=GREEN, ls="-.", marker="v", label="at best, with the workers left")


def _measured(data: Recovery, panel: Axes, of: Callable[[Run], float]) -> None:
    """Every run as a dot, medians as a line, the spread as bars."""
    values = [[of(run) for run in data.of(dead)] for dead in data.levels]
    middle = [median(each) for each in values]
    spread = [
        [m - min(each) for m, each in zip(middle, values, strict=True)],
        [max(each) - m for m, each in zip(middle, values, strict=True)],
    ]
    look: dict[str, Any] = {"color": RED, "marker": "o", "ecolor": BLACK, "elinewidth": 1, "capsize": 4}
    panel.errorbar(
        data.levels, middle, yerr=spread, label=f"measured ({counted(data.plan.repeats, 'run')} each)", **look
    )
    palette.count_axis(panel, data.levels)


def _each(
    data: Recovery,
    panel: Axes,
    of: Callable[[Loss], float | None],
    shift: float,
    color: str,
    marker: str,
    label: str,
) -> None:
    """A mark for every loss, side by side, and behind several the median as a short bar."""
    levels = [dead for dead in data.levels if data.losses(dead)]
    step = min((b - a for a, b in pairwise(levels)), default=1)
    width = step * 0.26
    for dead in levels:
        values: Sequence[float] = [v for loss in data.losses(dead) if (v := of(loss)) is not None]
        if not values:
            continue
        middle = dead + shift * step
        steps = [((i + 0.5) / len(values) - 0.5) * width for i in range(len(values))]
        look: dict[str, Any] = {"color": color, "ms": 5, "alpha": 0.8, "mec": "none", "zorder": 4}
        panel.plot([middle + s for s in steps], values, marker, label=label, clip_on=False, **look)
        if len(values) > 1:
            ends = [middle - width * 0.6, middle + width * 0.6]
            panel.plot(ends, [median(values)] * 2, color=BLACK, lw=1.4, zorder=3, label="median")
        label = ""
    panel.set_xlim(levels[0] - step / 2, levels[-1] + step / 2)
    palette.count_axis(panel, levels)


@click.command(context_settings=screen.SETTINGS)
@click.argument(
    "json_file", type=click.Path(exists=True, path_type=Path), default=results.FOLDER / "recovery.json"
)
@click.option("--gantt", "shown", type=click.IntRange(min=0), help="Dead workers of the run to draw in detail.")
@screen.out_option
def main(json_file: Path, shown: int | None, out: Path) -> None:
    """Draw a recovery experiment again from its JSON_FILE."""
    with screen.exit_codes():
        data = results.load(json_file, Recovery)
        if shown is not None and shown not in data.levels:
            there_are = ", ".join(map(str, data.levels))
            raise click.BadParameter(
                f"no run had {shown} dead workers; there are {there_are}", param_hint="--gantt"
            )
        written = draw(data, out, shown)
    screen.finish(Console(highlight=False), reading(data), written, any(run.wrong for run in data.runs))


if __name__ == "__main__":
    main()
