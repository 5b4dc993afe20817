"""The engine: judge the tiles of a picture, plan, run each level in blocks, put them together, band by band.

Knows no runtime (backends), and neither files nor their formats.
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from classsr.alpha import enlarge
from classsr.backends import Backend, Choice, Network, stream
from classsr.backends.base import Floats
from classsr.canvas import AveragedCanvas, Canvas, PlacedCanvas, to_network
from classsr.costs import by_macs, costs_on_this_machine
from classsr.errors import UsageError
from classsr.guard import Guard
from classsr.image import Header, Picture
from classsr.model import Model
from classsr.plan import Band, Costs, Group, single
from classsr.planner import Plan, Planner
from classsr.prices import cheapest_levels
from classsr.report import Report, Seconds, peak_mib
from classsr.resize import REACH
from classsr.routing import Goal, likeliest, predicted_errors
from classsr.source import Source
from classsr.tiles import Blocks, TileGrid, batches, pad_edges, split

# LR pixels per batch: 64 tiles of 32 with a halo of 4; memory stays near 100 MiB.
BATCH_PIXELS = 64 * 40 * 40
PAPER_STEP = 28  # of tiles of 32

Tiling = Literal["halo", "exact", "paper"]
Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""
Planned = Callable[[Plan], None]
"""Called with the plan before it is run."""
Rows = Callable[[Picture], None]
"""Called with every strip of the enlarged picture, from top to bottom."""


class Engine:
    """Runs one released model in one runtime, and loads what it needs of it once.

    Args:
        model: the model.
        open_backend: sets the runtime up, with `precision` for the branches.
        precision: of the branches.
        tiling: `halo` gives every window the neighbours that the model was measured to need; `exact` as many as its
            branches see, so that nothing differs from whole-picture runs; `paper` averages tiles of 32 at step 28, as
            the paper does.
        costs: of the levels; measured on this machine when they are first needed, if None.

    Raises:
        BackendError: the runtime is missing or cannot do what is asked.
        UsageError: there is no such tiling, or it is `exact` and a branch sees the whole picture.

    """

    def __init__(
        self,
        model: Model,
        open_backend: Callable[..., Backend],
        *,
        precision: Choice,
        tiling: Tiling,
        costs: Costs | None,
    ) -> None:
        if tiling not in get_args(Tiling):
            raise UsageError(
                f"Expected a tiling among {', '.join(get_args(Tiling))} but got {tiling!r}."
            )
        self.model = _with_all_they_see(model) if tiling == "exact" else model
        self.tiling = tiling
        self._costs = costs
        self._open_backend = open_backend
        self.backend = open_backend(precision=precision)
        self._classifier: Network | None = None
        self._branches: dict[int, Network] = {}
        self._precise_branches: dict[int, Network] = {}

    @property
    def costs(self) -> Costs:
        """What the levels cost."""
        if self._costs is None:
            self._costs = costs_on_this_machine(self.backend, self.model)
        return self._costs

    def run(
        self, source: Source, goal: Goal, take: Rows, progress: Progress, planned: Planned
    ) -> tuple[Plan, Report]:
        """Judge, plan and run, and hand over the enlarged picture from top to bottom.

        Args:
            source: the picture.
            goal: what the routing is to reach.
            take: called with every strip of the enlarged picture.
            progress: called with the share of the work done.
            planned: called with the plan before it is run.

        Raises:
            InputError: the picture cannot be read on.
            UsageError: the budget is too small, or asked for with the paper's tiling.
            BackendError: the runtime fails, or a branch gives what can be no picture, in f32 too.

        """
        clock, read_before = _Clock(), source.seconds
        plan = self._plan(source, goal)
        planned(plan)
        route = clock.total - (source.seconds - read_before)

        header = source.header
        canvas = self._canvas(header, plan)
        guard = Guard(self.model.config.levels, self.backend.precision, self._precise_branch)
        work, done, finished = self._macs(plan), 0, 0
        for band in plan.bands:
            canvas.begin(band.rows)
            with closing(self._run_band(source, plan, band, canvas, guard, clock)) as steps:
                for macs in steps:
                    done += macs
                    progress(done / work)
            finished += self._hand_over(source, canvas, finished, take, clock)
        total, read_seconds = clock.total, source.seconds - read_before
        networks, handing = clock.networks.seconds, clock.handing.seconds
        seconds = Seconds(
            read=read_seconds,
            route=route,
            networks=networks,
            assemble=total - read_seconds - route - networks - handing,
            write=0.0,
            total=total,
        )
        enlarged = header.scaled(self.model.config.scale)
        return plan, self._report(enlarged, plan, guard.close(), seconds)

    def _hand_over(
        self, source: Source, canvas: Canvas, top: int, take: Rows, clock: "_Clock"
    ) -> int:
        """Hand over the rows that are complete, `top` being the first; return how many."""
        header, rgb = source.header, canvas.finish()
        alpha = self._alpha(source, top, top + len(rgb)) if header.has_alpha else None
        with clock.handing:
            take(Picture(rgb, alpha, header.is_grey, header.profile, header.metadata))
        return len(rgb)

    def _run_band(
        self,
        source: Source,
        plan: Plan,
        band: Band,
        canvas: Canvas,
        guard: Guard,
        clock: "_Clock",
    ) -> Generator[int, None, None]:
        """Run the groups of a band in batches; yield the multiply-accumulates of each batch when it is done."""
        halos = self._halos()
        margin = max(halos[group.level] for group in band.groups)
        first, bottom = _extent(plan.grid, np.concatenate([group.blocks for group in band.groups]))
        padded = source.rgb(first, bottom, margin=margin)
        parts = [
            (group.level, part)
            for group in band.groups
            for part in batches(group.blocks, self._batch(plan.grid, group))
        ]
        begun: deque[Floats] = deque()  # windows whose results are not there yet

        def jobs() -> Generator[tuple[Network, Floats], None, None]:
            for level, part in parts:
                halo = halos[level]
                begun.append(
                    to_network(
                        split(padded, plan.grid, part, halo=halo, margin=margin, first=first)
                    )
                )
                yield self._branch(level), begun[-1]

        with closing(stream(jobs())) as outputs:
            for level, part in parts:
                with clock.networks:
                    sr = next(outputs)
                guard.check(sr, begun.popleft(), level=level, grid=plan.grid, blocks=part)
                canvas.add(sr, part, halos[level])
                area = len(part) * _area(plan.grid, part, halos[level])
                yield area * self.model.config.levels[level].macs_per_pixel

    def _batch(self, grid: TileGrid, group: Group) -> int:
        """Return how many blocks of a group are run at once."""
        return max(BATCH_PIXELS // _area(grid, group.blocks, self._halos()[group.level]), 1)

    def _plan(self, source: Source, goal: Goal) -> Plan:
        config, header = self.model.config, source.header
        if self.tiling == "paper":
            return self._paper_plan(source, goal)
        hardest = len(config.levels) - 1
        costs = by_macs(config) if goal.level is not None else self.costs
        planner = Planner(header.height, header.width, tile=config.tile, costs=costs)
        if goal.level is not None:
            return planner.one_level(goal.level, "This level was asked for.")
        gives_way = goal.loss is not None or (goal.likeliest and goal.share is not None)
        if gives_way and not planner.may_pay:
            return planner.one_level(hardest, "Routing can save nothing with these costs.")
        budget = goal.seconds
        if goal.share is not None:
            budget = goal.share * planner.cost_hardest
        if budget is not None and not goal.likeliest and budget >= planner.cost_hardest:
            return planner.one_level(hardest, "The budget allows the hardest level everywhere.")
        judged = self._judge(source, planner.grid, planner.rows)
        if goal.likeliest:
            plan = planner.at_levels(likeliest(judged).reshape(planner.grid.shape))
            return planner.if_it_pays(plan) if gives_way else plan
        errors = self._errors(judged, header).reshape(*planner.grid.shape, -1)
        if source.alpha_kind != "constant":
            errors[_unseen(source, planner.grid, planner.rows)] = 0  # nobody sees which level it is
        if goal.loss is not None:
            return planner.for_loss(errors, goal.loss)
        assert budget is not None
        return planner.for_budget(errors, budget)

    def _paper_plan(self, source: Source, goal: Goal) -> Plan:
        """Plan overlapping tiles, each alone, in one band; costs are multiply-accumulates."""
        config, header, costs = self.model.config, source.header, by_macs(self.model.config)
        step = min(PAPER_STEP, config.tile)
        grid = TileGrid(header.height, header.width, tile=config.tile, step=step)
        rows = range(grid.shape[0])
        each = [cost.per_pixel * _area(grid, grid.tiles, 0) for cost in costs.levels]
        judged = 0 if goal.level is not None else len(grid)
        if goal.level is not None:
            levels = np.full(grid.shape, goal.level, np.int64)
        elif goal.likeliest:
            levels = likeliest(self._judge(source, grid, [rows])).reshape(grid.shape)
        elif goal.loss is not None:
            errors = self._errors(self._judge(source, grid, [rows]), header)
            levels = cheapest_levels(errors.reshape(*grid.shape, -1), each, goal.loss)
        else:
            raise UsageError("Expected a route or a loss with the paper's tiling but got a budget.")
        return Plan(
            grid=grid,
            bands=(Band(rows, tuple(single(levels, grid))),),
            levels=levels,
            costs=costs,
            cost=judged * costs.classifier + float(np.array(each)[levels].sum()),
            cost_hardest=header.height * header.width * costs.levels[-1].per_pixel,
            loss=None,
            judged=judged,
            reason="Tiles of 32 at step 28, as in the paper.",
        )

    def _errors(self, judged: NDArray[np.float32], header: Header) -> NDArray[np.float64]:
        """Predict how much every level errs, the rounding to whole numbers included."""
        step = 1 / np.iinfo(header.dtype).max
        return predicted_errors(judged, self.model.config) + step**2 / 12

    def _judge(self, source: Source, grid: TileGrid, bands: list[range]) -> NDArray[np.float32]:
        """Run the Class-Module on every tile: (tiles, outputs)."""
        if self._classifier is None:
            self._classifier = self.backend.classifier(self.model)
        least = grid.tile
        whole = TileGrid(
            max(grid.height, least), max(grid.width, least), tile=grid.tile, step=grid.step
        )
        judged = []
        for rows in bands:
            tiles = grid.tiles[rows.start * grid.shape[1] : rows.stop * grid.shape[1]]
            first, bottom = _extent(grid, tiles)
            padded = pad_edges(source.rgb(first, bottom, margin=0), halo=0, least=least)
            for blocks in batches(tiles, max(BATCH_PIXELS // least**2, 1)):
                windows = split(padded, whole, blocks, halo=0, first=first)
                judged.append(self._classifier(to_network(windows)).copy())
        return np.concatenate(judged)

    def _canvas(self, header: Header, plan: Plan) -> Canvas:
        scale, grid = self.model.config.scale, plan.grid
        if grid.step < grid.tile:
            return AveragedCanvas(grid, header, scale=scale)
        return PlacedCanvas(grid, plan.levels, header, scale=scale)

    def _halos(self) -> list[int]:
        """Return the neighbours that the windows of each level get, in LR pixels."""
        levels = self.model.config.levels
        return [0 if self.tiling == "paper" else level.halo for level in levels]

    def _branch(self, level: int) -> Network:
        if level not in self._branches:
            self._branches[level] = self.backend.branch(self.model, level)
        return self._branches[level]

    @cached_property
    def _precise(self) -> Backend:
        return self._open_backend(precision="f32")

    def _precise_branch(self, level: int) -> Network:
        if level not in self._precise_branches:
            self._precise_branches[level] = self._precise.branch(self.model, level)
        return self._precise_branches[level]

    def _alpha(self, source: Source, top: int, bottom: int) -> NDArray[Any] | None:
        """Enlarge the rows of alpha that belong to these rows of the enlarged picture."""
        scale = self.model.config.scale
        alpha = source.alpha(top // scale, bottom // scale, margin=REACH)
        if alpha is None:
            return None
        return enlarge(alpha, scale, margin=REACH, kind=source.alpha_kind)

    def _macs(self, plan: Plan) -> int:
        """Count the multiply-accumulates of all branches, halos included."""
        halos, levels = self._halos(), self.model.config.levels
        return sum(
            len(group.blocks)
            * _area(plan.grid, group.blocks, halos[group.level])
            * levels[group.level].macs_per_pixel
            for band in plan.bands
            for group in band.groups
        )

    def _report(self, header: Header, plan: Plan, recomputed: int, seconds: Seconds) -> Report:
        config = self.model.config
        macs = self._macs(plan)
        if config.classifier is not None:
            macs += plan.judged * config.classifier.macs
        lr_pixels = header.height * header.width // config.scale**2
        return Report(
            input=None,
            output=None,
            input_width=header.width // config.scale,
            input_height=header.height // config.scale,
            width=header.width,
            height=header.height,
            model=config.name,
            scale=config.scale,
            backend=self.backend.name,
            precision=self.backend.precision,
            tiles=tuple(np.bincount(plan.levels.ravel(), minlength=len(config.levels)).tolist()),
            judged=plan.judged,
            macs=macs,
            macs_hardest=lr_pixels * config.levels[-1].macs_per_pixel,
            cost=plan.share,
            loss=plan.loss,
            plan=plan.reason,
            recomputed=recomputed,
            seconds=seconds,
            peak_mib=peak_mib(),
        )


def _with_all_they_see(model: Model) -> Model:
    """Return the model with halos as wide as the receptive radius of every branch."""
    levels = []
    for level in model.config.levels:
        if level.receptive_radius is None:
            raise UsageError(
                f"Expected another tiling than exact for {model.config.name}: {level.label} sees the whole picture."
            )
        levels.append(replace(level, halo=level.receptive_radius))
    return replace(model, config=replace(model.config, levels=tuple(levels)))


class Stopwatch:
    """Adds up the seconds of every `with` block."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begun


class _Clock:
    """What the time of one picture goes to."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self.networks, self.handing = Stopwatch(), Stopwatch()

    @property
    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begun


def _unseen(source: Source, grid: TileGrid, bands: list[range]) -> NDArray[np.bool_]:
    """Find the tiles that are fully transparent: (rows, columns)."""
    lefts = np.arange(0, grid.width, grid.tile)
    found = []
    for rows in bands:
        bottom = min(rows.stop * grid.tile, grid.height)
        alpha = source.alpha(rows.start * grid.tile, bottom, margin=0)
        assert alpha is not None
        highest = np.maximum.reduceat(alpha, np.arange(0, len(alpha), grid.tile), axis=0)
        found.append(np.maximum.reduceat(highest, lefts, axis=1) == 0)
    return np.concatenate(found)


def _extent(grid: TileGrid, blocks: Blocks) -> tuple[int, int]:
    """Return the first LR row that the windows of these blocks cover, and the row after the last."""
    heights = np.minimum(grid.tile + (blocks[:, 2] - 1) * grid.step, grid.height)
    tops = np.minimum(blocks[:, 0] * grid.step, grid.height - heights)
    return int(tops.min()), int((tops + heights).max())


def _area(grid: TileGrid, blocks: Blocks, halo: int) -> int:
    """Return the LR pixels of the window of each of these blocks, halo included."""
    height, width = grid.window(*blocks[0, 2:].tolist())
    return (height + 2 * halo) * (width + 2 * halo)
