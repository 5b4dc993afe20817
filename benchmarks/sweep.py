"""PSNR against MACs and seconds over all budgets, for ClassSR's router and for others in its place.

    python benchmarks/sweep.py --pairs PAIRS --out sweep.md --json sweep.json --figure docs/images/sweep.png

The routers differ in their predictions only; planner and costs are the same. `ours` is the model's Class-Module;
`high-pass` knows one statistic, fitted to the training pairs; `oracle` knows the true errors; `random` has the shares
of ours, with tiles shuffled, and is granted the cost of ours, although scattered tiles would cost more. PSNR of all is
put together from tiles of whole-picture runs, without halo or feather; of ours also that of the real result, with its
seconds against the hardest branch everywhere in turns. `argmax` is the paper's Class-Module over the same hardest
branch, in a model of its own.
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from classsr.costs import by_macs
from classsr.errors import UsageError
from classsr.metrics import psnr
from classsr.model import DEFAULT_MODEL
from classsr.plan import spent
from classsr.planner import Plan, Planner
from classsr.upscaler import Upscaler
from machine import describe, medians, take_turns
from routers import Floats, HighPassRouter, Runner, TileSquares, fit_high_pass
from subjects import DATA, SETS, Subject, subjects
from sweep_figure import Curve, draw
from tables import head, line

BUDGETS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOSSES = (0.01, 0.02, 0.05, 0.1)  # dB
OPTIONS = {"budget": "budget", "loss": "max_loss"}  # of `Upscaler.upscale`
SEEDS = 5  # of the random router
OURS, HIGH_PASS, ORACLE, RANDOM, ARGMAX = "ours", "high-pass", "oracle", "random", "argmax"
ROUTERS = (ORACLE, OURS, HIGH_PASS, RANDOM)
NUMBERS = ("planned", "macs", "lost", "predicted", "lost_really", "seconds")  # of a Point


@dataclass(frozen=True, slots=True)
class Point:
    """One plan for one picture. Shares are of what the hardest branch everywhere costs.

    Args:
        set: of pictures.
        picture: its name.
        router: what made the predictions.
        goal: "budget" or "loss", or the paper's "argmax".
        asked: the share of the cost or dB.
        planned: share of the cost as planned.
        macs: share of the MACs, halos and Class-Module included.
        lost: PSNR below the hardest branch everywhere in dB, from tiles of whole-picture runs.
        predicted: what the router predicts of that.
        lost_really: of the real result; None where it was not made.
        seconds: share of the seconds, measured.

    """

    set: str
    picture: str
    router: str
    goal: str
    asked: float
    planned: float
    macs: float
    lost: float
    predicted: float | None = None
    lost_really: float | None = None
    seconds: float | None = None


class Sweep:
    """Plans for one picture, by any router.

    Args:
        set_name: of pictures.
        subject: the picture.
        upscaler: the model.
        squares: what its tiles really lose.

    """

    def __init__(
        self, set_name: str, subject: Subject, upscaler: Upscaler, squares: TileSquares
    ) -> None:
        self._set, self._subject = set_name, subject
        self._upscaler, self._squares = upscaler, squares
        config = upscaler.model.config
        self._config, self._macs = config, by_macs(config)
        size = subject.lr.shape[:2]
        self._planner = Planner(*size, tile=config.tile, costs=upscaler.costs)
        self._shape = self._planner.grid.shape
        self._best = squares.psnr(self._planner.one_level(self._hardest, "").levels)

    @property
    def _hardest(self) -> int:
        return len(self._config.levels) - 1

    def plan_budget(self, errors: Floats, share: float) -> Plan:
        """Plan the best for a share of the cost, or the cheapest of all if that costs more."""
        try:
            return self._planner.for_budget(errors, share * self._planner.cost_hardest)
        except UsageError:
            return self._planner.at_levels(np.zeros(self._shape, np.int64))

    def plan_loss(self, errors: Floats, loss: float) -> Plan:
        """Plan the cheapest that loses so many dB."""
        return self._planner.for_loss(errors, loss)

    def point(self, plan: Plan, router: str, goal: str, asked: float) -> Point:
        """Look at what a plan costs and loses."""
        groups = list(chain.from_iterable(band.groups for band in plan.bands))
        macs = spent(groups, plan.grid, self._macs.levels) + plan.judged * self._macs.classifier
        hardest = self._subject.pixels * self._macs.levels[-1].per_pixel
        lost = self._best - self._squares.psnr(plan.levels)
        name = self._set, self._subject.name
        return Point(*name, router, goal, asked, plan.share, macs / hardest, lost, plan.loss)

    def shuffled(self, plan: Plan, like: Point) -> Point:
        """Return the mean over seeds of the same levels on other tiles, as if they cost the same."""
        levels = plan.levels.ravel()
        lost = []
        for seed in range(SEEDS):
            other = np.random.default_rng(seed).permutation(levels).reshape(self._shape)
            lost.append(self._best - self._squares.psnr(other))
        shares = like.planned, like.macs
        name = like.set, like.picture
        return Point(*name, RANDOM, like.goal, like.asked, *shares, statistics.fmean(lost))

    def measure(
        self, points: Sequence[Point], argmax: Upscaler | None, *, repeats: int
    ) -> Iterator[Point]:
        """Really enlarge the picture: return points of ours with what is measured, and the paper's argmax."""
        lr, hr, border = self._subject.lr, self._subject.hr, self._config.scale
        ways = {"hardest": partial(self._upscaler.upscale, lr, route="hardest")}
        for point in points:
            goal: dict[str, Any] = {OPTIONS[point.goal]: point.asked}
            ways[f"{point.goal} {point.asked}"] = partial(self._upscaler.upscale, lr, **goal)
        if argmax is not None:
            ways[ARGMAX] = partial(argmax.upscale, lr, route="argmax")
        quality, reports = {}, {}
        for name, way in ways.items():
            try:
                result = way()
            except UsageError:
                continue  # less than the cheapest plan costs
            quality[name] = psnr(result.image, hr, data_range=255, border=border)
            reports[name] = result.report
        seconds = medians(take_turns({name: ways[name] for name in quality}, repeats=repeats))
        shares = {name: each / seconds["hardest"] for name, each in seconds.items()}
        lost = {name: quality["hardest"] - each for name, each in quality.items()}
        for point in points:
            name = f"{point.goal} {point.asked}"
            yield replace(point, lost_really=lost.get(name), seconds=shares.get(name))
        if argmax is not None:
            macs = reports[ARGMAX].macs / reports["hardest"].macs_hardest
            own = self._set, self._subject.name, ARGMAX, ARGMAX, 0.0
            point = Point(*own, reports[ARGMAX].cost, macs, lost[ARGMAX])
            yield replace(point, lost_really=lost[ARGMAX], seconds=shares[ARGMAX])


def sweep_picture(
    sweep: Sweep, predictions: Mapping[str, Floats], argmax: Upscaler | None, *, repeats: int
) -> Iterator[Point]:
    """Plan for every budget and loss by every router, and measure ours."""
    ours = []
    for router, errors in predictions.items():
        for goal, plan_for, amounts in (
            ("budget", sweep.plan_budget, BUDGETS),
            ("loss", sweep.plan_loss, LOSSES),
        ):
            for asked in amounts:
                plan = plan_for(errors, asked)
                point = sweep.point(plan, router, goal, asked)
                if router != OURS:
                    yield point
                    continue
                ours.append(point)
                if goal == "budget":
                    yield sweep.shuffled(plan, point)
    yield from sweep.measure(ours, argmax, repeats=repeats)


def sweep_set(
    name: str,
    upscaler: Upscaler,
    runner: Runner,
    options: argparse.Namespace,
    *,
    high_pass: HighPassRouter | None,
    argmax: Upscaler | None,
) -> Iterator[Point]:
    """Sweep the first pictures of a set."""
    config = runner.config
    for subject in subjects(options.data, name, pictures=options.pictures, scale=config.scale):
        squares = runner.run_levels(subject.lr, subject.hr)
        predictions = {OURS: runner.judge(subject.lr), ORACLE: squares.errors}
        if high_pass is not None:
            predictions[HIGH_PASS] = high_pass.errors(subject.lr, config.tile)
        sweep = Sweep(name, subject, upscaler, squares)
        yield from sweep_picture(sweep, predictions, argmax, repeats=options.repeats)
        print(f"{name}, {subject.name}", file=sys.stderr)


def means(points: Sequence[Point], router: str, goal: str) -> dict[float, dict[str, float]]:
    """Return the mean over pictures of every number, by what was asked; of those that all pictures have."""
    found: dict[float, dict[str, float]] = {}
    mine = [point for point in points if (point.router, point.goal) == (router, goal)]
    for asked in sorted({point.asked for point in mine}):
        rows = [asdict(point) for point in mine if point.asked == asked]
        found[asked] = {
            name: statistics.fmean(row[name] for row in rows)
            for name in NUMBERS
            if all(row[name] is not None for row in rows)
        }
    return found


def loss_rows(name: str, points: Sequence[Point]) -> Iterator[str]:
    """Compare the losses that were asked for, predicted and obtained on a set."""
    for asked, mean in means(points, OURS, "loss").items():
        mine = [p for p in points if (p.router, p.goal, p.asked) == (OURS, "loss", asked)]
        worst = max(point.lost_really or 0.0 for point in mine)
        yield line(
            name,
            asked,
            f"{mean['predicted']:.3f}",
            f"{mean['lost']:+.3f}",
            f"{mean['lost_really']:+.3f}",
            f"{worst:+.3f}",
            *(f"{mean[part]:.2f}" for part in ("planned", "macs", "seconds")),
        )


def budget_rows(name: str, points: Sequence[Point]) -> Iterator[str]:
    """Compare the budgets that were given, planned and taken on a set."""
    for asked, mean in means(points, OURS, "budget").items():
        cells = [f"{mean[part]:.2f}" if part in mean else "" for part in ("macs", "seconds")]
        lost = f"{mean['lost_really']:+.3f}" if "lost_really" in mean else ""
        yield line(name, asked, f"{mean['planned']:.2f}", *cells, f"{mean['lost']:+.3f}", lost)


def router_rows(name: str, points: Sequence[Point]) -> Iterator[str]:
    """Say what each router needs, as a share of the cost, to lose no more than so many dB, between its budgets."""
    for router in ROUTERS:
        curve = list(means(points, router, "budget").values())
        if curve:
            lost = np.minimum.accumulate([mean["lost"] for mean in curve])
            cost = [mean["planned"] for mean in curve]
            needed = [float(np.interp(-loss, -lost, cost)) for loss in LOSSES]
            yield line(name, router, *(f"{share:.2f}" for share in needed))


def curves(points: Sequence[Point]) -> dict[str, list[Curve]]:
    """Return the lines of the figure, by set: x, shares of MACs or seconds, and dB lost."""
    found: dict[str, list[Curve]] = {}
    for name in dict.fromkeys(point.set for point in points):
        mine = [point for point in points if point.set == name]
        lines = []
        for router in ROUTERS:
            rows = list(means(mine, router, "budget").values())
            if rows:
                lost = [row["lost"] for row in rows]
                planned = [row["planned"] for row in rows]
                lines.append(Curve(router, [row["macs"] for row in rows], planned, lost))
        rows = [row for row in means(mine, OURS, "budget").values() if "seconds" in row]
        rows_argmax = list(means(mine, ARGMAX, ARGMAX).values())
        for label, these in ((f"{OURS}, measured", rows), (ARGMAX, rows_argmax)):
            if these:
                macs, seconds, lost = (
                    [row[part] for row in these] for part in ("macs", "seconds", "lost_really")
                )
                lines.append(Curve(label, macs, seconds, lost, is_measured=True))
        found[name] = lines
    return found


def tables(points: Sequence[Point]) -> Iterator[str]:
    """Sum everything up in Markdown."""
    by_set = {
        name: [p for p in points if p.set == name] for name in dict.fromkeys(p.set for p in points)
    }
    shares = "share of MACs", "share of seconds"
    yield "Losses in dB, means over pictures; `tiles` from whole-picture runs, `real` of the result:\n"
    real = "real", "worst picture"
    yield from head("set", "asked", "predicted", "tiles", *real, "share planned", *shares)
    for name, mine in by_set.items():
        yield from loss_rows(name, mine)
    yield "\nBudgets, shares of the hardest branch everywhere; losses in dB as above:\n"
    yield from head("set", "asked", "planned", *shares, "lost, tiles", "lost, real")
    for name, mine in by_set.items():
        yield from budget_rows(name, mine)
    yield "\nShare of the cost, as planned, at which a router loses no more than so many dB (tiles):\n"
    yield from head("set", "router", *(f"{loss} dB" for loss in LOSSES))
    for name, mine in by_set.items():
        yield from router_rows(name, mine)
    paper = [(name, means(mine, ARGMAX, ARGMAX)) for name, mine in by_set.items()]
    if any(found for _, found in paper):
        yield "\nThe paper's argmax:\n"
        yield from head("set", *shares, "lost, real")
        for name, found in paper:
            for mean in found.values():
                cells = [f"{mean[part]:.2f}" for part in ("macs", "seconds")]
                yield line(name, *cells, f"{mean['lost_really']:+.3f}")


def parse() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="all pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder; predicts errors")
    parser.add_argument(
        "--pairs", type=Path, help="packed training pairs, for the high-pass router"
    )
    parser.add_argument(
        "--argmax-model", help="name or folder of one with the paper's Class-Module"
    )
    large = [name for name in SETS if name.startswith("large/")]
    parser.add_argument("--sets", nargs="+", choices=SETS, default=large)
    parser.add_argument("--pictures", type=int, default=0, help="of each set; 0: all")
    parser.add_argument("--repeats", type=int, default=3, help="of what is measured")
    parser.add_argument("--threads", type=int, help="all cores by default")
    parser.add_argument("--precision", choices=("auto", "f32", "bf16"), default="auto")
    parser.add_argument("--out", type=Path, help="also write the tables into this file")
    parser.add_argument("--json", type=Path, help="write all numbers into this file")
    parser.add_argument("--figure", type=Path, help="draw them into this file")
    parser.add_argument(
        "--from-json", type=Path, help="measure nothing; take the numbers from this file"
    )
    return parser.parse_args()


def measure(options: argparse.Namespace) -> tuple[str, list[Point]]:
    """Measure everything: where it was measured, and the points."""
    setting = {"threads": options.threads, "precision": options.precision}
    upscaler = Upscaler(options.model, **setting)
    argmax = Upscaler(options.argmax_model, **setting) if options.argmax_model else None
    about = f"{upscaler.model.config.name}. {describe()}"
    if argmax and argmax.model.config.levels[-1].label != upscaler.model.config.levels[-1].label:
        raise SystemExit("Expected two models with the same hardest branch.")
    runner = Runner(upscaler.model, **setting)
    high_pass = fit_high_pass(runner, options.pairs) if options.pairs else None
    routers: dict[str, Any] = {"high_pass": high_pass, "argmax": argmax}
    points: list[Point] = []
    for name in options.sets:
        points += sweep_set(name, upscaler, runner, options, **routers)
    return about, points


def main() -> None:
    """Measure, print and draw."""
    options = parse()
    if options.from_json is not None:
        held = json.loads(options.from_json.read_text(encoding="utf-8"))
        about, points = held["about"], [Point(**point) for point in held["points"]]
    else:
        about, points = measure(options)
    if options.json is not None:
        content = {"about": about, "points": [asdict(point) for point in points]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    made_by = shlex.join(["python", "benchmarks/sweep.py", *sys.argv[1:]])
    text = "\n".join(["# Sweep\n", f"{about}\nMade by `{made_by}`.\n", *tables(points)])
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.figure is not None:
        draw(curves(points), options.figure)


if __name__ == "__main__":
    main()
