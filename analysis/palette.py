"""Colours, markers and page of every figure: readable in print, in grey and by colour-blind people.

The colours are those of Okabe and Ito, "Color Universal Design", 2008. No meaning rests on colour
alone: each series has a marker and a line style of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLACK: Final = "#000000"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
YELLOW: Final = "#F0E442"
BLUE: Final = "#0072B2"
RED: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
GREY: Final = "#6E6E6E"

WIDTH: Final = 7.2  # inches: the text width of an A4 page
DPI: Final = 150
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
}


def figure(rows: int = 1, columns: int = 1, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a page, `height` inches high, and its panels row by row."""
    plt.rcParams.update(_STYLE)
    made, panels = plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False)
    return made, [panel for row in panels for panel in row]


def label(panel: Axes, title: str, x: str, y: str) -> None:
    """Title and axes; a unit belongs into each axis's name."""
    panel.set_title(title)
    panel.set_xlabel(x)
    panel.set_ylabel(y)


def legend_below(made: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, under them, where it covers nothing."""
    handles: dict[str, Any] = {}
    for panel in panels:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    made.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=9)


def count_axis(panel: Axes, values: list[int]) -> None:
    """An x axis of counts: ticks where something was measured, or even ones if those are too many."""
    if len(values) <= 10:
        panel.set_xticks(values)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def from_zero(panel: Axes) -> None:
    """A y axis from zero to a little above the highest mark or line, so that neither touches the edge."""
    panel.set_ylim(0, max(panel.dataLim.y1, 0.1) * 1.1)


def save(made: Figure, path: Path) -> Path:
    """Write the picture and free its memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=DPI)
    plt.close(made)
    return path
