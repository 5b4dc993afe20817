"""The sheet that every figure is drawn on, and how levels and runs look. Knows nothing of what is drawn.

Colours are those of the routing map, told apart under every common colour blindness: a filled area or a frame is a
level, a line is a run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine

from classsr.image import Picture, check_output, write
from classsr.routing_map import COLOURS

WIDTH = 8.0  # inches: 1,200 pixels
DPI = 150
PAD = 0.08  # inches around every panel
ROW = 0.6  # inches that a row takes beside its panel: title, ticks, padding
LEVEL_COLOURS = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLOURS]
RUN_COLOURS = [LEVEL_COLOURS[index] for index in (3, 6, 5, 4, 7)]  # not those of the first levels
LONGEST = 60  # characters of a run's name, so that it fits into a line
RUN_DASHES = ("-", "--", "-.", ":")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


@contextmanager
def sheet(
    path: Path, *, rows: Sequence[float], overwrite: bool
) -> Iterator[tuple[Figure, GridSpec]]:
    """Open a figure with rows of panels of these heights in inches and, at the end, write it to `path`.

    Raises:
        OutputError: a figure cannot be written there; told before drawing where possible.

    """
    height = round((sum(rows) + ROW * len(rows)) * DPI)
    width = round(WIDTH * DPI)
    check_output(path, height=height, width=width, has_alpha=False, overwrite=overwrite)
    with style.context(STYLE, after_reset=True):
        layout = ConstrainedLayoutEngine(h_pad=PAD, w_pad=PAD)
        figure = Figure(figsize=(WIDTH, height / DPI), dpi=DPI, layout=layout)
        canvas = FigureCanvasAgg(figure)  # never a display
        yield figure, figure.add_gridspec(len(rows), 1, height_ratios=rows)
        canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[:, :, :3]
    write(Picture(rgb=np.ascontiguousarray(rgb)), path, overwrite=overwrite)


def run_looks(count: int) -> list[dict[str, Any]]:
    """Return colour and dashes of the lines of each run; twenty runs differ."""
    return [
        {"color": RUN_COLOURS[n % len(RUN_COLOURS)], "linestyle": RUN_DASHES[n % len(RUN_DASHES)]}
        for n in range(count)
    ]


def name_runs(runs: Sequence[Path]) -> list[str]:
    """Return a name for every run: its folder's, or its path where two folders have the same name; the end if long."""
    folders = [run.resolve().name for run in runs]
    names = [f if folders.count(f) == 1 else str(run) for f, run in zip(folders, runs, strict=True)]
    return [name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}" for name in names]
