"""The upscaler: from a picture or its file to the enlarged one. The engine does the work between.

Knows no runtime (backends) and no file format (image).
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classsr.backends import BACKENDS, Choice, open_backend
from classsr.engine import Engine, Planned, Progress, Stopwatch, Tiling
from classsr.errors import InputError, UsageError
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
from classsr.plan import Costs
from classsr.planner import Plan, explain
from classsr.report import Report, peak_mib
from classsr.routing import AUTO, find_goal
from classsr.routing_map import Preview, draw_routing_map
from classsr.sizes import OWN_SCALE, Size
from classsr.source import InMemory, Opening, Source
from classsr.tiles import TileGrid


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
    in bf16, f16 and 8-bit integers by as much as these lie off themselves, up to 8 on noise (with OpenVINO none of it
    was seen to change anything). A plan goes by measured `costs`, remembered for each machine: another may plan
    otherwise.

    No result is taken unseen: what a branch cannot have meant is run again in f32 (`Report.recomputed`), and refused if
    it stays so.

    Args:
        model: name of a bundled model or a model's folder.
        backend: openvino, onnx or torch.
        precision: what the branches compute in; `auto` takes bf16 where the processor has it, f16 on a GPU without it.
        threads: processor threads; all by default.
        tiling: `halo` gives every window the neighbours that the model was measured to need; `exact` as many as its
            branches see, so that nothing differs from whole-picture runs; `paper` averages tiles of 32 at step 28, as
            the paper does.
        costs: of the levels, by which plans are made; measured on this machine by default, once.

    Raises:
        ModelError: there is no such model or it is damaged.
        BackendError: the runtime is missing or cannot do what is asked.
        UsageError: there is no such tiling, or it is `exact` and a branch sees the whole picture.

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
        self.engine = Engine(
            find_model(model),
            partial(open_backend, backend, threads=threads),
            precision=precision,
            tiling=tiling,
            costs=costs,
        )

    @property
    def model(self) -> Model:
        """The model that it enlarges with."""
        return self.engine.model

    @property
    def tiling(self) -> Tiling:
        """How pictures are cut into tiles."""
        return self.engine.tiling

    @property
    def runtime(self) -> str:
        """What the branches run in, for people."""
        backend = self.engine.backend
        threads = "all threads" if backend.threads is None else f"{backend.threads} threads"
        return f"{backend.name} {backend.version}, {backend.precision}, {threads}"

    @property
    def costs(self) -> Costs:
        """What the levels cost."""
        return self.engine.costs

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
            plan, report = self.engine.run(opened, goal, strips.append, progress, planned)
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
        writing = Stopwatch()
        with ExitStack() as stack:
            with _fitting(source), Source(opening or wish.opening(source)) as opened:
                enlarged = opened.header.scaled(config.scale)
                try:
                    header = wish.size_of(opened.header, most=config.scale)
                except UsageError as exc:
                    raise UsageError(f"{source}: {exc}") from exc
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

                plan, report = self.engine.run(opened, goal, take, progress, planned)
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


@contextmanager
def _fitting(source: Path) -> Iterator[None]:
    """Translate that there is too little memory for a picture, above all for a very wide one."""
    try:
        yield
    except MemoryError as exc:
        raise InputError(
            f"{source} does not fit into memory while it is enlarged; cut it into parts first."
        ) from exc


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
