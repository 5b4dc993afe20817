"""The upscaler: read a picture, judge its tiles, plan, run each level in blocks, put them together, band by band.

Knows no runtime (backends) and no file format (image).
"""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from classsr.alpha import enlarge
from classsr.backends import BACKENDS, Backend, Choice, Network, open_backend, stream
from classsr.backends.base import Floats
from classsr.canvas import AveragedCanvas, Canvas, PlacedCanvas, to_network
from classsr.costs import by_macs, costs_on_this_machine
from classsr.errors import InputError, UsageError
from classsr.guard import Guard
from classsr.image import (
    MAX_PIXELS,
    Color,
    Header,
    Picture,
    Policy,
    check_output,
    create_picture,
    open_picture,
    read,
    write,
)
from classsr.model import DEFAULT_MODEL, Model, find_model
from classsr.plan import Band, Costs, Group, single
from classsr.planner import Plan, Planner, cheapest_levels, explain
from classsr.report import Report, Seconds, peak_mib
from classsr.resize import REACH
from classsr.routing import AUTO, Goal, find_goal, likeliest, predicted_errors
from classsr.routing_map import Preview, draw_routing_map
from classsr.sizes import OWN_SCALE, Size
from classsr.source import InMemory, Opening, Source
from classsr.tiles import Blocks, TileGrid, batches, pad_edges, split

# LR pixels per batch: 64 tiles of 32 with a halo of 4; memory stays near 100 MiB.
BATCH_PIXELS = 64 * 40 * 40
PAPER_STEP = 28  # of tiles of 32

Tiling = Literal["halo", "paper"]
Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""
Planned = Callable[[Plan], None]
"""Called with the plan before it is run."""
Rows = Callable[[Picture], None]
"""Called with every strip of the enlarged picture, from top to bottom."""


@dataclass(frozen=True, slots=True)
class Upscaled:
    """An enlarged picture, the level of every tile (rows, columns), where the tiles lie, and the report."""

    picture: Picture
    levels: NDArray[np.int64]
    grid: TileGrid
    report: Report

    @property
    def image(self) -> NDArray[Any]:
        """The enlarged picture, (scale * H, scale * W, 3), in the input's dtype."""
        return self.picture.rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a picture is to be enlarged; the fields are the arguments of `Upscaler.upscale_file` of the same names."""

    route: str = AUTO
    budget: str | float | None = None
    max_loss: float | None = None
    size: Size = OWN_SCALE
    metadata: Policy = "all"
    color: Color = "keep"
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False

    def opening(self, source: Path) -> Opening:
        """Return what begins to read a picture."""
        return lambda: open_picture(
            source, metadata=self.metadata, color=self.color, max_pixels=self.max_pixels
        )

    def size_of(self, header: Header, *, most: int) -> Header:
        """Return the header of the result; raise UsageError where the size is out of reach."""
        width, height = self.size.of(header.width, header.height, most=most)
        return replace(header, width=width, height=height)


class Unfinished:
    """A picture that is computed and still being written; made by `Upscaler.begin_file`."""

    def __init__(self, being_written: ExitStack, complete: Callable[[], Report]) -> None:
        self._being_written, self._complete = being_written, complete

    def finish(self) -> Report:
        """Wait until the file has its name; raise OutputError where it cannot be written."""
        return self._complete()

    def abandon(self) -> None:
        """Give up, and leave nothing behind."""
        with suppress(_AbandonedError), self._being_written:
            raise _AbandonedError


class _AbandonedError(Exception):
    pass


class Upscaler:
    """Enlarges pictures with one released model; loads it once and serves any number of pictures.

    The same picture, model, precision and plan give the same values, alone or after other pictures, and the same bytes
    in a file. Other numbers of threads, sizes of batches or orders of windows change it by at most 1 of 255 in f32;
    in bf16 and f16 by as much as these lie off themselves, up to 8 on noise (on a processor none of it was seen to
    change anything). A plan goes by measured `costs`, remembered for each machine: another may plan otherwise.

    No result is taken unseen: what a branch cannot have meant is run again in f32 (`Report.recomputed`), and refused if
    it stays so.

    Args:
        model: name of a bundled model or a model's folder.
        backend: openvino, onnx or torch.
        precision: what the branches compute in; `auto` takes bf16 where the processor has it, f16 on a GPU without it.
        threads: processor threads; all by default.
        tiling: `halo` gives every tile real neighbours; `paper` averages tiles of 32 at step 28, as the paper does.
        costs: of the levels, by which plans are made; measured on this machine by default, once.

    Raises:
        ModelError: there is no such model or it is damaged.
        BackendError: the runtime is missing or cannot do what is asked.

    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        backend: str = next(iter(BACKENDS)),
        precision: Choice = "auto",
        threads: int | None = None,
        tiling: Tiling = "halo",
        costs: Costs | None = None,
    ) -> None:
        if tiling not in get_args(Tiling):
            raise UsageError(
                f"Expected a tiling among {', '.join(get_args(Tiling))} but got {tiling!r}."
            )
        self.model: Model = find_model(model)
        self.tiling: Tiling = tiling
        self._costs = costs
        self._open = partial(open_backend, backend, threads=threads)
        self._backend = self._open(precision=precision)
        self._classifier: Network | None = None
        self._branches: dict[int, Network] = {}
        self._precise_branches: dict[int, Network] = {}

    @property
    def runtime(self) -> str:
        """What the branches run in, for people."""
        backend = self._backend
        threads = "all threads" if backend.threads is None else f"{backend.threads} threads"
        return f"{backend.name} {backend.version}, {backend.precision}, {threads}"

    @property
    def costs(self) -> Costs:
        """What the levels cost."""
        if self._costs is None:
            self._costs = costs_on_this_machine(self._backend, self.model)
        return self._costs

    def upscale(
        self,
        source: str | os.PathLike[str] | Picture | NDArray[Any],
        *,
        route: str = AUTO,
        budget: str | float | None = None,
        max_loss: float | None = None,
        progress: Progress = lambda share: None,
        planned: Planned = lambda plan: None,
    ) -> Upscaled:
        """Enlarge one picture.

        Args:
            source: a file, a Picture, or an array (H, W) or (H, W, 3), uint8 or uint16 RGB.
            route: auto, argmax, easiest, hardest, or the number of the level for all tiles; see `find_goal`.
            budget: the most to spend, as a share of the hardest level's cost (0.5) or in seconds ("2s").
            max_loss: the most to lose against the hardest branch everywhere, in dB of PSNR, as predicted.
            progress: called with the share of the work done.
            planned: called with the plan before it is run.

        Raises:
            InputError: the file cannot be read, or the array is no picture.
            UsageError: there is no such route, or the budget is too small.
            BackendError: the runtime fails, or a branch gives what can be no picture, in f32 too.

        """
        goal = find_goal(self.model.config, route=route, budget=budget, max_loss=max_loss)
        started = time.perf_counter()
        path = None
        if isinstance(source, Picture | np.ndarray):
            picture = _as_picture(source)
        else:
            path = Path(source)
            picture = read(path)
        read_done = time.perf_counter()
        strips: list[Picture] = []
        with Source(lambda: nullcontext(InMemory(picture))) as opened:
            plan, report = self._run(opened, goal, strips.append, progress, planned)
        enlarged = Picture.stacked(strips)
        total = time.perf_counter() - started
        seconds = replace(report.seconds, read=read_done - started, total=total)
        report = replace(report, input=None if path is None else str(path), seconds=seconds)
        return Upscaled(enlarged, plan.levels, plan.grid, report)

    def explain(self, plan: Plan) -> str:
        """Say in a few lines what is planned and why."""
        return explain(plan, [level.label for level in self.model.config.levels])

    def upscale_file(
        self,
        source: Path,
        output: Path,
        *,
        route: str = AUTO,
        budget: str | float | None = None,
        max_loss: float | None = None,
        size: Size = OWN_SCALE,
        metadata: Policy = "all",
        color: Color = "keep",
        overwrite: bool = False,
        max_pixels: int = MAX_PIXELS,
        routing_map: Path | None = None,
        progress: Progress = lambda share: None,
        planned: Planned = lambda plan: None,
    ) -> Report:
        """Enlarge one picture from file to file, band by band; nobody ever sees half a result under its name.

        Args:
            source: the picture.
            output: the result; its suffix decides the format.
            route: as for `upscale`.
            budget: as for `upscale`.
            max_loss: as for `upscale`.
            size: of the result; the model's scale by default. The picture is enlarged by that scale and resampled.
            metadata: what is kept of EXIF, XMP and IPTC: `all`; `safe`, without position and serial numbers; `none`.
            color: `keep` the profile and the values, or convert to `srgb`.
            overwrite: whether files that exist are replaced.
            max_pixels: of `source`; a larger one is refused before it is decoded.
            routing_map: also draw the level of every tile into this file.
            progress: called with the share of the work done.
            planned: called with the plan before it is run.

        Raises:
            InputError: `source` cannot be read, or does not fit into memory.
            OutputError: the result cannot be written there; told before computing where possible.
            UsageError: there is no such route, the budget is too small, or the size is out of reach.
            BackendError: as for `upscale`; no file is written then.

        """
        wish = Wish(
            route=route,
            budget=budget,
            max_loss=max_loss,
            size=size,
            metadata=metadata,
            color=color,
            max_pixels=max_pixels,
            overwrite=overwrite,
        )
        unfinished = self.begin_file(
            source, output, wish, routing_map=routing_map, progress=progress, planned=planned
        )
        return unfinished.finish()

    def begin_file(
        self,
        source: Path,
        output: Path,
        wish: Wish,
        *,
        opening: Opening | None = None,
        routing_map: Path | None = None,
        progress: Progress = lambda share: None,
        planned: Planned = lambda plan: None,
    ) -> "Unfinished":
        """Do all of `upscale_file` but the last of the writing, which goes on meanwhile, and return that.

        Arguments and errors are those of `upscale_file`; `opening` reads the picture where that has begun already.
        """
        config = self.model.config
        goal = find_goal(config, route=wish.route, budget=wish.budget, max_loss=wish.max_loss)
        # Not `Path.resolve`, which raises RuntimeError for links that lead in a circle.
        if routing_map is not None and os.path.realpath(routing_map) == os.path.realpath(output):
            raise UsageError(
                f"{output} cannot be both the result and the routing map; name two files."
            )
        started = time.perf_counter()
        writing = _Stopwatch()
        with ExitStack() as stack:
            with _fitting(source), Source(opening or wish.opening(source)) as opened:
                enlarged = opened.header.scaled(config.scale)
                header = wish.size_of(opened.header, most=config.scale)
                check_output(
                    output,
                    height=header.height,
                    width=header.width,
                    has_alpha=header.has_alpha,
                    overwrite=wish.overwrite,
                )
                preview = None
                if routing_map is not None:
                    preview = Preview(enlarged.height, enlarged.width)
                    check_output(
                        routing_map, height=1, width=1, has_alpha=False, overwrite=wish.overwrite
                    )
                writer = stack.enter_context(
                    create_picture(
                        output,
                        header,
                        rows_of=enlarged,
                        is_alpha_hard=opened.alpha_kind == "hard",
                        overwrite=wish.overwrite,
                    )
                )

                def take(strip: Picture) -> None:
                    with writing:
                        writer.append(strip)
                        if preview is not None:
                            preview.add(strip.rgb)

                plan, report = self._run(opened, goal, take, progress, planned)
            computed = time.perf_counter() - started
            being_written = stack.pop_all()

        def complete() -> Report:
            resumed = time.perf_counter()
            being_written.close()
            if routing_map is not None and preview is not None:
                labels = tuple(level.label for level in config.levels)
                drawn = draw_routing_map(preview.image, plan.levels, plan.grid, labels)
                write(drawn, routing_map, overwrite=wish.overwrite)
            waited = time.perf_counter() - resumed
            seconds = replace(
                report.seconds, write=writing.seconds + waited, total=computed + waited
            )
            return replace(
                report,
                input=str(source),
                output=str(output),
                width=header.width,
                height=header.height,
                seconds=seconds,
                peak_mib=peak_mib(),
            )

        return Unfinished(being_written, complete)

    def _run(
        self, source: Source, goal: Goal, take: Rows, progress: Progress, planned: Planned
    ) -> tuple[Plan, Report]:
        """Judge, plan and run, and hand over the enlarged picture from top to bottom."""
        clock, read_before = _Clock(), source.seconds
        plan = self._plan(source, goal)
        planned(plan)
        route = clock.total - (source.seconds - read_before)

        header = source.header
        canvas = self._canvas(header, plan)
        guard = Guard(self.model.config.levels, self._backend.precision, self._precise_branch)
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
        errors = predicted_errors(judged, config).reshape(*planner.grid.shape, -1)
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
            errors = predicted_errors(self._judge(source, grid, [rows]), config)
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

    def _judge(self, source: Source, grid: TileGrid, bands: list[range]) -> NDArray[np.float32]:
        """Run the Class-Module on every tile: (tiles, outputs)."""
        if self._classifier is None:
            self._classifier = self._backend.classifier(self.model)
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
            self._branches[level] = self._backend.branch(self.model, level)
        return self._branches[level]

    @cached_property
    def _precise(self) -> Backend:
        return self._open(precision="f32")

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
            backend=self._backend.name,
            precision=self._backend.precision,
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


@contextmanager
def _fitting(source: Path) -> Iterator[None]:
    """Translate that there is too little memory for a picture, above all for a very wide one."""
    try:
        yield
    except MemoryError as exc:
        raise InputError(
            f"{source} does not fit into memory while it is enlarged; cut it into parts first."
        ) from exc


class _Stopwatch:
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
        self.networks, self.handing = _Stopwatch(), _Stopwatch()

    @property
    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begun


def _extent(grid: TileGrid, blocks: Blocks) -> tuple[int, int]:
    """Return the first LR row that the windows of these blocks cover, and the row after the last."""
    tops = [grid.origin(block)[0] for block in blocks]
    bottoms = [grid.cell(block).bottom for block in blocks]
    return min(tops), max(bottoms)


def _area(grid: TileGrid, blocks: Blocks, halo: int) -> int:
    """Return the LR pixels of the window of each of these blocks, halo included."""
    height, width = grid.window(*blocks[0, 2:].tolist())
    return (height + 2 * halo) * (width + 2 * halo)


def _as_picture(source: Any) -> Picture:  # noqa: ANN401 - checked here
    """Take a Picture as it is and wrap an array."""
    if isinstance(source, Picture):
        return source
    array = np.asarray(source)
    if array.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise InputError(f"Expected an array of uint8 or uint16 but got {array.dtype}.")
    is_grey = array.ndim == 2
    rgb = np.repeat(array[:, :, None], 3, axis=2) if is_grey else array
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise InputError(f"Expected an array of shape (H, W) or (H, W, 3) but got {array.shape}.")
    return Picture(rgb=rgb, alpha=None, is_grey=is_grey, profile=None)


def upscale(
    source: str | os.PathLike[str] | Picture | NDArray[Any],
    *,
    model: str = DEFAULT_MODEL,
    route: str = AUTO,
    budget: str | float | None = None,
    max_loss: float | None = None,
    backend: str = next(iter(BACKENDS)),
    precision: Choice = "auto",
    threads: int | None = None,
) -> Upscaled:
    """Enlarge one picture; to enlarge many, make one `Upscaler` and keep it.

    See `Upscaler` and `Upscaler.upscale` for the arguments and errors.
    """
    upscaler = Upscaler(model, backend=backend, precision=precision, threads=threads)
    return upscaler.upscale(source, route=route, budget=budget, max_loss=max_loss)
