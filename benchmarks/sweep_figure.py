"""The figure of `sweep.py`: PSNR lost over the share of MACs and of seconds, one row of panels for each set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from classsr.figures.sheet import LEVEL_COLOURS, sheet

LEGEND = 0.5  # inches
HEIGHT = 2.6  # inches of a row of panels
LOST = (
    -0.1,
    0,
    0.02,
    0.05,
    0.1,
    0.2,
    0.4,
    0.8,
)  # dB, ticks from the top down; small losses matter most
SPAN = (1.0, -0.12)  # dB, bottom and top
OURS, HIGH_PASS, ARGMAX = (LEVEL_COLOURS[index] for index in (0, 6, 2))  # told apart best
LOOKS: dict[str, dict[str, Any]] = {
    "oracle": {"color": "0.4", "linestyle": ":", "label": "oracle: the true errors"},
    "ours": {"color": OURS, "label": "ours: the Class-Module"},
    "high-pass": {"color": HIGH_PASS, "linestyle": "--", "label": "high-pass energy"},
    "random": {"color": "0.6", "linestyle": "-.", "label": "random, with the shares of ours"},
    "ours, measured": {"color": OURS, "marker": "o", "label": "ours, really run"},
    "argmax": {"color": ARGMAX, "marker": "D", "label": "the paper's argmax, really run"},
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A router: shares of the hardest branch's MACs and seconds, and dB lost; measured, or as planned from tiles."""

    router: str
    macs: Sequence[float]
    seconds: Sequence[float]
    lost: Sequence[float]
    is_measured: bool = False


def draw(curves: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Draw the curves of every set; a file that exists is replaced."""
    heights = [LEGEND, *[HEIGHT] * len(curves)]
    with sheet(path, rows=heights, overwrite=True) as (figure, rows):
        top = figure.add_subplot(rows[0])
        top.axis("off")
        for number, (name, lines) in enumerate(curves.items(), start=1):
            columns = rows[number].subgridspec(1, 2)
            for column, what in enumerate(("MACs", "seconds")):
                axes = figure.add_subplot(columns[column])
                _draw_panel(axes, lines, what)
                how = "" if what == "MACs" else "; lines as planned"
                axes.set_title(f"{name}, over {what}{how}")
                if number == len(curves):
                    axes.set_xlabel(f"{what}, share of the hardest branch everywhere")
                if column == 0:
                    axes.set_ylabel("PSNR lost, dB")
        top.legend(*axes.get_legend_handles_labels(), loc="center", ncols=3)


def _draw_panel(axes: Axes, lines: Sequence[Curve], what: str) -> None:
    axes.set_yscale("function", functions=(_root, _square))
    axes.set(xlim=(0, 1.05), ylim=SPAN)
    axes.set_yticks(LOST, [f"{lost:g}" for lost in LOST])
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.plot(1, 0, "s", color="0.2", markersize=5, label="the hardest branch everywhere")
    for line in lines:
        x = line.macs if what == "MACs" else line.seconds
        style: dict[str, Any] = {"linestyle": "", "markersize": 5} if line.is_measured else {}
        axes.plot(x, line.lost, **(style | LOOKS[line.router]))


def _root(lost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread small losses; the other way round `_square`."""
    return np.sign(lost) * np.sqrt(np.abs(lost))


def _square(root: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(root) * root**2
