"""Quality over cost: PSNR over multiply-accumulates and over seconds, a point for every model."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import StrMethodFormatter

from classsr.figures.sheet import RUN_COLOURS, sheet
from classsr.scoreboard import Results

PANEL = 3.0  # inches
MARKERS = {"whole": "o", "paper": "s"}


def draw_quality(results: Sequence[Results], path: Path, *, overwrite: bool = False) -> None:
    """Draw the means of several models, PSNR on RGB in dB, over GMACs and over seconds a picture.

    Raises:
        OutputError: a figure cannot be written there.

    """
    names = list(dict.fromkeys(each.model for each in results))
    with sheet(path, rows=(PANEL,), overwrite=overwrite) as (figure, grid):
        inner = grid[0].subgridspec(1, 2)
        axes = [figure.add_subplot(inner[0, column]) for column in range(2)]
        for each in results:
            costs = each.mean.macs / 1e9, each.mean.seconds
            look = RUN_COLOURS[names.index(each.model) % len(RUN_COLOURS)]
            for panel, cost in zip(axes, costs, strict=True):
                panel.plot(cost, each.mean.psnr_rgb, MARKERS[each.protocol], color=look)
                panel.annotate(
                    f"{each.model}, {each.route}" + (", paper" if each.protocol == "paper" else ""),
                    (cost, each.mean.psnr_rgb),
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
        for panel, label in zip(axes, ("GMACs a picture", "seconds a picture"), strict=True):
            panel.set_xscale("log")
            panel.set_xlabel(label)
            panel.margins(0.25, 0.15)
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.set_ylabel("PSNR on RGB, dB")
