"""One run as a picture: a row per worker, a bar per attempt, lost work in red, hand-overs as arrows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.batch import Attempt, TaskRun
from analysis.palette import BLACK, GREY, PURPLE, RED, SKY, YELLOW
from analysis.recovery import Loss, Run

_BAR = 0.62  # of a row's height
_ROOM = 0.03  # of the picture's width: a shorter bar has no room for its number


def draw(panel: Axes, run: Run) -> None:
    """Draw a run into a panel; the time is seconds since the batch was submitted."""
    rows = {name: row for row, name in enumerate(run.workers)}
    losses = {(loss.task_id, loss.attempt): loss for loss in run.losses}
    for task in run.tasks:
        for index, attempt in enumerate(task.attempts):
            if attempt.worker not in rows:
                continue
            following = task.attempts[index + 1] if index + 1 < len(task.attempts) else None
            loss = losses.get((task.task_id, attempt.attempt))
            _bar(panel, run, rows[attempt.worker], task, attempt, loss)
            if loss is not None and following is not None and following.worker in rows:
                _arrow(panel, run, rows[attempt.worker], attempt, rows[following.worker], following)
    _end_of_victims(panel, run, rows)
    panel.set_yticks(range(len(rows)), labels=list(rows))
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(0, run.seconds * 1.01)
    panel.grid(axis="y", visible=False)
    panel.figure.legend(handles=_legend(run), loc="outside lower center", ncols=3, fontsize=9)


def _bar(panel: Axes, run: Run, row: int, task: TaskRun, attempt: Attempt, loss: Loss | None) -> None:
    end = attempt.finished_at if attempt.finished_at is not None else run.seconds
    stopped = end  # when the worker stopped computing it, as far as it counts
    if loss is not None and run.harmed_at is not None and attempt.outcome != "released":
        stopped = min(end, max(attempt.started_at, run.harmed_at))
    width = stopped - attempt.started_at
    resumed = attempt.resumed_seq is not None
    panel.barh(
        row,
        width,
        left=attempt.started_at,
        height=_BAR,
        color=SKY,
        edgecolor=BLACK,
        linewidth=0.6,
        hatch="///" if resumed else None,
    )
    if loss is not None:
        redone = min(loss.redone_seconds, width)
        panel.barh(row, redone, left=stopped - redone, height=_BAR, color=RED, edgecolor=BLACK, linewidth=0.6)
        panel.barh(row, end - stopped, left=stopped, height=0.08, color=GREY)
    for save in task.saves:
        if save.attempt == attempt.attempt and save.saved_at <= end:
            panel.plot([save.saved_at] * 2, [row - _BAR / 2, row + _BAR / 2], color=BLACK, lw=1.4)
    if width > run.seconds * _ROOM:
        _number(panel, task, attempt.started_at + width / 2, row, "center")
    elif resumed or loss is not None:  # what the picture is about has its number above it
        _number(panel, task, attempt.started_at + width / 2, row - _BAR / 2, "bottom")


def _number(panel: Axes, task: TaskRun, x: float, y: float, align: str) -> None:
    frame = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    panel.text(x, y, str(task.task_id), ha="center", va=align, fontsize=7, bbox=frame, zorder=7)


def _arrow(panel: Axes, run: Run, row: int, lost: Attempt, to_row: int, following: Attempt) -> None:
    """From the moment the loss was noticed to where the task went on."""
    start = lost.finished_at if lost.finished_at is not None else run.seconds
    panel.annotate(
        "",
        xy=(following.started_at, to_row),
        xytext=(start, row),
        arrowprops={"arrowstyle": "-|>", "color": PURPLE, "lw": 1.3, "shrinkA": 0, "shrinkB": 0},
        zorder=5,
    )


def _end_of_victims(panel: Axes, run: Run, rows: dict[str, int]) -> None:
    if run.harmed_at is None:
        return
    panel.axvline(run.harmed_at, color=BLACK, ls=":", lw=1)
    at = [rows[name] for name in run.victims]
    panel.plot([run.harmed_at] * len(at), at, "X", color=YELLOW, mec=BLACK, ms=9, zorder=6)


def _legend(run: Run) -> list[Patch | Line2D]:
    shown: list[Patch | Line2D] = [
        Patch(facecolor=SKY, edgecolor=BLACK, label="an attempt (number: its task)"),
        Line2D([], [], color=BLACK, marker="|", ls="none", ms=11, mew=1.4, label="checkpoint stored"),
    ]
    if run.harmed_at is not None:
        shown += [
            Patch(facecolor=SKY, edgecolor=BLACK, hatch="///", label="resumed from a checkpoint"),
            Patch(facecolor=RED, edgecolor=BLACK, label="work lost"),
            Line2D([], [], color=YELLOW, marker="X", mec=BLACK, ls="none", ms=9, label="worker taken out"),
            Line2D([], [], color=GREY, lw=2.5, label="not noticed yet"),
            Line2D([], [], color=PURPLE, marker=">", label="hand-over"),
        ]
    return shown
