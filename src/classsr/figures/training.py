"""How training went: PSNR of the branches; then PSNR, cost and the shares of the levels over stages 2 and 3."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from classsr.errors import InputError
from classsr.figures.sheet import LEVEL_COLOURS, ROW, name_runs, run_looks, sheet

BRANCH, PSNR, COST, SHARES = 1.5, 1.8, 1.4, 1.2  # inches, heights of the panels
ABREAST = 4  # levels at most
LEGEND, HANDLE = 100, 8  # characters in a line of the legend, and for the dashes before a name
LEAST_SPAN = 0.1  # dB from bottom to top, so that noise does not look like progress
FEW = 40  # validations, of which each is marked

Scores = dict[str, float]
"""What one validation measured, by name, with its iteration."""
Look = dict[str, Any]
"""Colour and dashes of a run's lines."""


@dataclass(frozen=True, slots=True)
class Course:
    """How the stages of a run went: the validations of each branch, and of stages 2 and 3 one after the other.

    `joint_from` is the iteration at which stage 3 begins, counted from the start of stage 2; None without both.
    """

    name: str
    branches: dict[int, list[Scores]]
    together: list[Scores]
    joint_from: float | None

    @property
    def levels(self) -> int:
        """How many levels share the patches in stages 2 and 3."""
        return len({name for line in self.together for name in line if name.startswith("share_")})


def read_courses(runs: Sequence[Path]) -> list[Course]:
    """Read what the stages of every run have measured so far.

    Raises:
        InputError: a run has measured nothing, or a file is damaged.

    """
    return [_read_course(run, name) for run, name in zip(runs, name_runs(runs), strict=True)]


def _read_course(run: Path, name: str) -> Course:
    scores = {path.parent.name: _read_scores(path) for path in run.glob("*/metrics.jsonl")}
    classifier, joint = scores.get("classifier", []), scores.get("joint", [])
    branches = {
        int(stage.removeprefix("branch-")): lines
        for stage, lines in scores.items()
        if stage.removeprefix("branch-").isdecimal() and lines
    }
    if not (branches or classifier or joint):
        raise InputError(
            f"{run} holds no validation of any stage; train one with `classsr train`, or wait for its first."
        )
    start = classifier[-1]["iteration"] if classifier else 0
    later = [{**line, "iteration": start + line["iteration"]} for line in joint]
    return Course(name, branches, classifier + later, start if classifier and joint else None)


def _read_scores(path: Path) -> list[Scores]:
    """Read the validations of a stage, without half a line that is being written at the end."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [
            {name: float(value) for name, value in line.items()}
            for line in lines
            if {"iteration", "psnr"} <= set(line)
        ]
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise InputError(f"{path} is damaged ({exc}); run the stage again.") from exc


def draw_training(courses: Sequence[Course], path: Path, *, overwrite: bool = False) -> None:
    """Draw the courses of runs on top of each other; panels for which nothing was measured are left out.

    Raises:
        OutputError: the figure cannot be written there.

    """
    runs = list(zip(courses, run_looks(len(courses)), strict=True))
    levels = sorted({level for course in courses for level in course.branches})
    panels = _panels([run for run in runs if run[0].together], are_named=len(runs) > 1)
    heights = [height for height, _ in panels]
    if levels:
        down = -(-len(levels) // ABREAST)
        heights.insert(0, down * BRANCH + (down - 1) * ROW)
    with sheet(path, rows=heights, overwrite=overwrite) as (figure, rows):
        if levels:
            _draw_branches(figure, rows[0], runs, levels)
        axes = None
        for n, (_, draw) in enumerate(panels, start=len(heights) - len(panels)):
            axes = figure.add_subplot(rows[n], sharex=axes)
            draw(axes)
            _scale_iterations(axes, most=8)
            axes.set_xlabel("iterations of stages 2 and 3")
            axes.label_outer()
        if len(runs) > 1:
            handles = [Line2D([], [], label=course.name, **look) for course, look in runs]
            longest = max(len(course.name) for course in courses)
            ncols = max(1, LEGEND // (longest + HANDLE))
            figure.legend(handles=handles, loc="outside upper left", ncols=ncols)


def _panels(
    runs: Sequence[tuple[Course, Look]], *, are_named: bool
) -> list[tuple[float, Callable[[Axes], None]]]:
    """List the panels of stages 2 and 3: the height of each and what draws it."""
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    if runs:
        panels.append((PSNR, partial(_draw_psnr, runs=runs)))
    if any(np.isfinite(_column(course.together, "cost")).any() for course, _ in runs):
        panels.append((COST, partial(_draw_cost, runs=runs)))
    for course, _ in runs:
        if course.levels:
            title = "patches per level, %" + f": {course.name}" * are_named
            panels.append((SHARES, partial(_draw_shares, course=course, title=title)))
    return panels


def _draw_branches(
    figure: Figure,
    place: SubplotSpec,
    runs: Sequence[tuple[Course, Look]],
    levels: Sequence[int],
) -> None:
    """Draw the PSNR of every level's branch in stage 1, each on a scale of its own."""
    across = min(len(levels), ABREAST)
    grid = place.subgridspec(-(-len(levels) // across), across)
    for n, level in enumerate(levels):
        axes = figure.add_subplot(grid[n // across, n % across])
        axes.set_title("stage 1: PSNR, dB, " * (n == 0) + f"level {level}")
        for course, look in runs:
            _draw_line(axes, course.branches.get(level, []), "psnr", look)
        _scale_iterations(axes, most=10 // across)
        axes.set_xlabel("iterations")


def _draw_psnr(axes: Axes, *, runs: Sequence[tuple[Course, Look]]) -> None:
    axes.set_title("PSNR of the validation patches, dB")
    for course, look in runs:
        _draw_line(axes, course.together, "psnr", look)
        _draw_border(axes, course, look["color"])
    borders = {course.joint_from for course, _ in runs if course.joint_from}
    if len(borders) == 1:
        (border,) = borders
        up = axes.get_xaxis_transform()
        axes.text(border, 0.03, "stage 2  ", transform=up, ha="right")
        axes.text(border, 0.03, "  stage 3", transform=up, ha="left")
    low, high = axes.get_ylim()
    spare = max(LEAST_SPAN - (high - low), 0) / 2
    axes.set_ylim(low - spare, high + spare)


def _draw_cost(axes: Axes, *, runs: Sequence[tuple[Course, Look]]) -> None:
    axes.set_title("cost, % of the hardest branch everywhere")
    for course, look in runs:
        _draw_line(axes, course.together, "cost", look, factor=100)
        _draw_border(axes, course, look["color"])


def _draw_shares(axes: Axes, *, course: Course, title: str) -> None:
    """Fill the share of every level with its colour, the easiest lowest."""
    axes.set_title(title)
    names = [f"level {level}" for level in range(course.levels)]
    shares = [100 * _column(course.together, f"share_{level}") for level in range(course.levels)]
    iterations = _column(course.together, "iteration")
    axes.stackplot(iterations, shares, labels=names, colors=LEVEL_COLOURS, edgecolor="white")
    _draw_border(axes, course, "0.2")
    axes.set_ylim(0, 100)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=-(-course.levels // ABREAST),
        reverse=True,
        handlelength=1,
    )


def _draw_line(
    axes: Axes, lines: Sequence[Scores], name: str, look: Look, *, factor: float = 1
) -> None:
    """Draw a score where it was measured, with a dot at every validation where they are few."""
    x, y = _column(lines, "iteration"), factor * _column(lines, name)
    measured = np.isfinite(y)
    marker = "o" if measured.sum() <= FEW else ""
    if measured.any():  # an empty line would have a place in the layout
        axes.plot(x[measured], y[measured], marker=marker, markersize=3, clip_on=False, **look)


def _draw_border(axes: Axes, course: Course, colour: str) -> None:
    """Draw where stage 3 begins."""
    if course.joint_from is not None:
        axes.axvline(course.joint_from, color=colour, linewidth=0.8)


def _scale_iterations(axes: Axes, *, most: int) -> None:
    """Begin at 0, end with the last validation, and write iterations as 20,000, about so many of them."""
    axes.margins(x=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(most, steps=(1, 2, 2.5, 5, 10)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _column(lines: Sequence[Scores], name: str) -> NDArray[np.float64]:
    """Return one score of all validations, not a number where it was not measured."""
    return np.array([line.get(name, np.nan) for line in lines])
