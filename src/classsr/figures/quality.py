"""Quality over cost: PSNR over multiply-accumulates and over seconds, a point for every model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import StrMethodFormatter

from classsr.figures.sheet import RUN_COLOURS, sheet
from classsr.scoreboard import Results

PANEL = 3.0  # inches
MARKERS = "os^D"  # another for every five models


def draw_quality(results: Sequence[Results], path: Path, *, overwrite: bool = False) -> None:
    """Draw the means of several models, PSNR on RGB in dB, over GMACs and over seconds a picture.

    Raises:
        OutputError: a figure cannot be written there.

    """
    with sheet(path, rows=(PANEL,), overwrite=overwrite) as (figure, grid):
        inner = grid[0].subgridspec(1, 2)
        axes = [figure.add_subplot(inner[0, column]) for column in range(2)]
        points = [
            axes[0].plot(each.mean.macs / 1e9, each.mean.psnr_rgb, **look)[0]
            for each, look in zip(results, _looks(results), strict=True)
        ]
        for each, look in zip(results, _looks(results), strict=True):
            axes[1].plot(each.mean.seconds, each.mean.psnr_rgb, **look)
        for panel, label in zip(axes, ("GMACs a picture", "seconds a picture"), strict=True):
            panel.set_xscale("log")
            panel.set_xlabel(label)
            panel.margins(0.15)
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.set_ylabel("PSNR on RGB, dB")
        labels = [f"{each.model}, {each.route}, {each.protocol}" for each in results]
        figure.legend(points, labels, loc="outside lower center", ncols=3)


def _looks(results: Sequence[Results]) -> Iterator[dict[str, Any]]:
    """Yield how the point of each result looks: a colour for every model, filled where whole frames count."""
    names = list(dict.fromkeys(each.model for each in results))
    for each in results:
        place = names.index(each.model)
        color = RUN_COLOURS[place % len(RUN_COLOURS)]
        fill = color if each.protocol == "whole" else "none"
        marker = MARKERS[place // len(RUN_COLOURS) % len(MARKERS)]
        yield {
            "color": color,
            "markerfacecolor": fill,
            "marker": marker,
            "linestyle": "none",
            "markersize": 7,
        }
