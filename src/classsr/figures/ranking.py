"""How hard the patches of data sets are: PSNR over rank, the classes, and patches of each as examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from classsr.data.pairs import RGB8, Pairs, open_pairs
from classsr.data.patches import read_patches
from classsr.data.ranking import Ranking, load_ranking
from classsr.figures.sheet import LEVEL_COLOURS, PAD, WIDTH, name_runs, run_looks, sheet

CURVE, TITLE = 3.2, 0.4  # inches, heights of the panel and of an example's title
POINTS = 1001  # of a curve
OUTLIERS = 0.002  # share of the patches at each end that the PSNR axis need not show
EXAMPLES = 9  # side by side at least, over all levels
EXAMPLE_ROWS = 2
GAP = 4  # pixels between examples


@dataclass(frozen=True, slots=True)
class Ranked:
    """A ranking, the pairs whose patches it orders, and a name for people."""

    name: str
    ranking: Ranking
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class Smoothness:
    """The share of a data set's patches that reach a PSNR of `border` dB."""

    name: str
    patches: int
    border: float
    share: float

    def line(self) -> str:
        """Say it in one line."""
        share = f"{100 * self.share:.1f} % of {self.patches:,} patches"
        return f"{self.name}: {share} are smooth (at least {self.border:.2f} dB)"


def open_ranked(runs: Sequence[Path], pairs: Sequence[Path]) -> list[Ranked]:
    """Read the ranking of every run and open its pairs.

    Raises:
        InputError: a ranking or the pairs are missing or damaged, or do not belong together.

    """
    opened = [open_pairs(folder) for folder in pairs]
    return [
        Ranked(name, load_ranking(run / "ranking.npz", its_pairs), its_pairs)
        for name, run, its_pairs in zip(name_runs(runs), runs, opened, strict=True)
    ]


def draw_ranking(
    sets: Sequence[Ranked], path: Path, *, smooth: float | None = None, overwrite: bool = False
) -> list[Smoothness]:
    """Draw PSNR over rank, easiest patch first, one curve per data set, and examples of every level of the first.

    Args:
        sets: the data sets; the classes are those of the first.
        path: the figure; its suffix decides the format.
        smooth: PSNR in dB from which a patch counts as smooth; the first class border by default.
        overwrite: whether a file that exists is replaced.

    Returns:
        The share of smooth patches of each data set.

    Raises:
        OutputError: the figure cannot be written there.

    """
    borders = sets[0].ranking.borders
    border = borders[0] if smooth is None else smooth
    smoothness = [_smoothness(each, border) for each in sets]
    levels = len(borders) + 1
    across = -(-EXAMPLES // levels)
    examples = (WIDTH / levels - 2 * PAD) * EXAMPLE_ROWS / across
    with sheet(path, rows=(CURVE, examples + TITLE), overwrite=overwrite) as (figure, rows):
        axes = figure.add_subplot(rows[0])
        _shade_levels(axes, sets)
        for each, part, look in zip(sets, smoothness, run_looks(len(sets)), strict=True):
            _draw_curve(axes, each.ranking, part, look)
        axes.legend(loc="upper right", title=f"smooth: at least {border:.2f} dB", alignment="left")
        columns = rows[1].subgridspec(1, levels)
        for level in range(levels):
            _draw_examples(figure.add_subplot(columns[level]), sets[0], level, across=across)
    return smoothness


def _smoothness(ranked: Ranked, border: float) -> Smoothness:
    psnr = ranked.ranking.psnr.astype(np.float64)
    return Smoothness(ranked.name, len(psnr), border, float(np.mean(psnr >= border)))


def _shade_levels(axes: Axes, sets: Sequence[Ranked]) -> None:
    """Set the axes up, and fill the PSNR of every level of the first data set with its colour."""
    borders = sets[0].ranking.borders
    ends = [np.quantile(each.ranking.psnr, (OUTLIERS, 1 - OUTLIERS)) for each in sets]
    low = np.floor(min(borders[-1] - 2, *(end[0] for end in ends)))
    high = np.ceil(max(borders[0] + 2, *(end[1] for end in ends)))
    axes.set(xlim=(0, 100), ylim=(low, high))
    axes.set_xlabel("share of the patches, easiest first, %")
    axes.set_title("PSNR of the patches over their rank, dB")
    across = axes.get_yaxis_transform()
    for level, (top, bottom) in enumerate(pairwise([high, *borders, low])):
        axes.axhspan(bottom, top, color=LEVEL_COLOURS[level], alpha=0.18, linewidth=0)
        axes.text(1.01, (top + bottom) / 2, f"level {level}", transform=across, va="center")
    for border in borders:
        axes.axhline(border, color="0.3", linewidth=0.8)
        axes.text(0.005, border, f"{border:.1f} dB", transform=across, va="bottom")


def _draw_curve(axes: Axes, ranking: Ranking, part: Smoothness, look: dict[str, Any]) -> None:
    """Draw one data set's curve and how far its smooth patches reach."""
    rank = np.linspace(0, 1, POINTS)
    label = f"{part.name}: {100 * part.share:.0f} % smooth"
    axes.plot(100 * rank, np.quantile(ranking.psnr, 1 - rank), label=label, **look)
    x, y, low = 100 * part.share, part.border, axes.get_ylim()[0]
    axes.plot([0, x, x], [y, y, low], color=look["color"], linewidth=1, linestyle=":")
    axes.plot(x, y, "o", color=look["color"], markersize=5)


def _draw_examples(axes: Axes, ranked: Ranked, level: int, *, across: int) -> None:
    """Show patches of one level, evenly from its easiest to its hardest, in a frame of its colour."""
    ranking = ranked.ranking
    mine = np.flatnonzero(ranking.levels == level)
    mine = mine[np.argsort(-ranking.psnr[mine], kind="stable")]
    share = 100 * len(mine) / len(ranking.psnr)
    axes.set_title(f"level {level}: {share:.0f} %\n{_span(ranking.borders, level)}")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set(visible=True, color=LEVEL_COLOURS[level], linewidth=3)
    count = min(across * EXAMPLE_ROWS, len(mine))
    chosen = ((np.arange(count) + 0.5) / max(count, 1) * len(mine)).astype(np.int64)
    _, hr = read_patches(ranked.pairs, ranking.patches.select(mine[chosen]))
    axes.imshow(montage(hr, across=across, down=EXAMPLE_ROWS))


def _span(borders: Sequence[float], level: int) -> str:
    """Name the PSNR that the patches of a level have."""
    if level == 0:
        return f"from {borders[0]:.1f} dB"
    if level == len(borders):
        return f"below {borders[-1]:.1f} dB"
    return f"{borders[level]:.1f}–{borders[level - 1]:.1f} dB"


def montage(patches: RGB8, *, across: int, down: int) -> RGB8:
    """Put square patches (N, H, H, 3) side by side on white, row after row; what is left over stays white."""
    side = patches.shape[1]
    step = side + GAP
    out = np.full((down * step + GAP, across * step + GAP, 3), 255, np.uint8)
    for n, patch in enumerate(patches):
        y, x = GAP + n // across * step, GAP + n % across * step
        out[y : y + side, x : x + side] = patch
    return out
