"""PSNR over seconds of every released model at all routes and budgets, and the upper hull of them all.

    python benchmarks/hull.py --out benchmarks/hull.md --figure docs/images/hull.png

Seconds from LR to SR in memory, medians of runs in which all ways take turns; means over pictures. A way on the hull is
better than anything that is as fast, and than any mixture of two others.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter

from classsr.errors import UsageError
from classsr.figures.sheet import LEVEL_COLOURS, sheet
from classsr.metrics import psnr
from classsr.model import bundled_models, find_model
from classsr.upscaler import Upscaler
from machine import describe, medians, take_turns
from quality import routes
from subjects import DATA, SETS, Subject, subjects
from tables import head, line

BUDGETS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
HEIGHT = 4.5  # inches
COLOURS = [LEVEL_COLOURS[index] for index in (6, 0, 2, 3, 4, 5, 7, 1)]
MARKS = {"auto": "D", "argmax": "s", "hardest": "^"}  # of routes; budgets are dots


@dataclass(frozen=True, slots=True)
class Way:
    """A model at a route, or at a budget: means over pictures of seconds and of PSNR on RGB in dB."""

    model: str
    route: str
    seconds: float
    psnr: float


def options_of(upscaler: Upscaler) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a model can be asked for: a name, and the arguments of `Upscaler.upscale`."""
    for route in routes(upscaler.model):
        yield route, {"route": route}
    if upscaler.model.config.classifier is not None:
        for budget in BUDGETS:
            yield f"budget {budget}", {"budget": budget}


def measure(
    subject: Subject, upscalers: Mapping[str, Upscaler], *, repeats: int
) -> Iterator[tuple[tuple[str, str], float, float]]:
    """Run every way on a picture: (model, route), seconds, PSNR."""
    jobs, found = {}, {}
    for name, upscaler in upscalers.items():
        for route, asked in options_of(upscaler):
            job = partial(upscaler.upscale, subject.lr, **asked)
            try:
                image = job().image
            except UsageError:
                continue  # the cheapest plan costs more than this budget
            border = upscaler.model.config.scale
            quality = psnr(image, subject.hr, data_range=255, border=border)
            jobs[f"{name}, {route}"] = job
            found[f"{name}, {route}"] = (name, route), quality
    for way, seconds in medians(take_turns(jobs, repeats=repeats)).items():
        key, quality = found[way]
        yield key, seconds, quality


def upper_hull(ways: Sequence[Way]) -> list[Way]:
    """Return the ways that nothing as fast, and no mixture of two others, surpasses; the fastest first."""
    hull: list[Way] = []
    for way in sorted(ways, key=lambda way: (way.seconds, -way.psnr)):
        if hull and way.psnr <= hull[-1].psnr:
            continue
        while len(hull) > 1 and _slope(hull[-2], way) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(way)
    return hull


def _slope(a: Way, b: Way) -> float:
    return (b.psnr - a.psnr) / max(b.seconds - a.seconds, 1e-9)


def draw(ways: Sequence[Way], path: Path, title: str) -> None:
    """Draw every model's ways, and the hull; a file that exists is replaced."""
    with sheet(path, rows=[HEIGHT], overwrite=True) as (figure, rows):
        axes = figure.add_subplot(rows[0])
        hull = upper_hull(ways)
        places = [way.seconds for way in hull], [way.psnr for way in hull]
        axes.plot(*places, color="0.6", linewidth=1, linestyle="--", label="upper hull")
        for model, colour in zip(dict.fromkeys(way.model for way in ways), COLOURS, strict=False):
            mine = [way for way in ways if way.model == model]
            budgets = [way for way in mine if way.route.startswith("budget")]
            places = [way.seconds for way in budgets], [way.psnr for way in budgets]
            axes.plot(*places, "o-", color=colour, markersize=4, linewidth=1, label=model)
            for way in mine:
                if way.route in MARKS:
                    axes.plot(way.seconds, way.psnr, MARKS[way.route], color=colour, markersize=8)
        for route, mark in MARKS.items():
            axes.plot([], [], mark, color="0.4", label=route)
        axes.set(xscale="log", title=title, xlabel="seconds a picture", ylabel="PSNR on RGB, dB")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend()


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="all pictures")
    fourfold = [name for name in bundled_models() if find_model(name).config.scale == 4]
    parser.add_argument("--models", nargs="+", default=fourfold, help="names or folders, at x4")
    parser.add_argument("--set", choices=SETS, default="large/4k")
    parser.add_argument("--pictures", type=int, default=0, help="of the set; 0: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    parser.add_argument("--figure", type=Path, help="draw into this file")
    options = parser.parse_args()
    about = describe()
    upscalers = {name: Upscaler(name) for name in options.models}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    count = 0
    for subject in subjects(options.data, options.set, pictures=options.pictures, scale=4):
        for key, seconds, quality in measure(subject, upscalers, repeats=options.repeats):
            found.setdefault(key, []).append((seconds, quality))
        count += 1
        print(f"{options.set}, {subject.name}", file=sys.stderr)
    ways = [
        Way(*key, *map(statistics.fmean, zip(*measured, strict=True)))
        for key, measured in found.items()
        if len(measured) == count  # a budget may be too small for one picture
    ]
    hull = upper_hull(ways)
    made_by = shlex.join(["python", "benchmarks/hull.py", *sys.argv[1:]])
    lines = [
        f"# PSNR over seconds, {options.set}\n",
        f"{about}\nMade by `{made_by}`; means over {count} pictures.\n",
        *head("model", "route", "s", "PSNR, dB", "on the upper hull"),
    ]
    for way in sorted(ways, key=lambda way: way.seconds):
        on_hull = "yes" if way in hull else ""
        lines.append(line(way.model, way.route, f"{way.seconds:.3f}", f"{way.psnr:.3f}", on_hull))
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.figure is not None:
        draw(ways, options.figure, f"{options.set}, means over {count} pictures")


if __name__ == "__main__":
    main()
