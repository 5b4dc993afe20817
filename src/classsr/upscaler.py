"""The upscaler: split a picture into tiles, judge them, route them, run each level in blocks, put them together.

Knows no runtime (backends) and no file format (image).
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from classsr.backends import BACKENDS, Choice, Network, open_backend
from classsr.errors import BackendError, InputError, UsageError
from classsr.image import Picture, check_output, read, write
from classsr.model import DEFAULT_MODEL, Model, find_model
from classsr.plan import Cost, Group, levels_run, merge, single
from classsr.report import Report, Seconds, peak_mib
from classsr.resize import resize
from classsr.routing import AUTO, forced_level, likeliest
from classsr.routing_map import draw_routing_map
from classsr.tiles import Blocks, TileGrid, accumulate, batches, coverage, pad_edges, place, split

# LR pixels per batch: 64 tiles of 32 with a halo of 4; memory stays near 100 MiB.
BATCH_PIXELS = 64 * 40 * 40
# LR pixels; where one level serves all, larger tiles waste less on halos.
UNROUTED_TILES = range(96, 257, 8)
PAPER_STEP = 28  # of tiles of 32

Tiling = Literal["halo", "paper"]
Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""


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


class Upscaler:
    """Enlarges pictures with one released model; loads it once and serves any number of pictures.

    Args:
        model: name of a bundled model or a model's folder.
        backend: openvino, onnx or torch.
        precision: what the branches compute in; `auto` takes bf16 where the processor has it, f16 on a GPU without.
        threads: processor threads; all by default.
        tiling: `halo` gives every tile real neighbours; `paper` averages tiles of 32 at step 28, as the paper does.

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
    ) -> None:
        if tiling not in get_args(Tiling):
            raise UsageError(
                f"Expected a tiling among {', '.join(get_args(Tiling))} but got {tiling!r}."
            )
        self.model: Model = find_model(model)
        self.tiling: Tiling = tiling
        self._backend = open_backend(backend, precision=precision, threads=threads)
        self._classifier: Network | None = None
        self._branches: dict[int, Network] = {}

    def upscale(
        self,
        source: str | os.PathLike[str] | Picture | NDArray[Any],
        *,
        route: str = AUTO,
        progress: Progress = lambda share: None,
    ) -> Upscaled:
        """Enlarge one picture.

        Args:
            source: a file, a Picture, or an array (H, W) or (H, W, 3), uint8 or uint16 RGB.
            route: auto (the Class-Module decides), easiest, hardest, or the number of the level for all tiles.
            progress: called with the share of the work done.

        Raises:
            InputError: the file cannot be read, or the array is no picture.
            UsageError: there is no such route.

        """
        started = time.perf_counter()
        if isinstance(source, Picture | np.ndarray):
            path, picture = None, _as_picture(source)
        else:
            path, picture = Path(source), read(Path(source))
        return self._upscale(picture, path, started, route=route, progress=progress)

    def upscale_file(
        self,
        source: Path,
        output: Path,
        *,
        route: str = AUTO,
        overwrite: bool = False,
        routing_map: Path | None = None,
        progress: Progress = lambda share: None,
    ) -> Upscaled:
        """Enlarge one picture from file to file; nobody ever sees half a result under its name.

        Args:
            source: the picture.
            output: the result; its suffix decides the format.
            route: as for `upscale`.
            overwrite: whether files that exist are replaced.
            routing_map: also draw the level of every tile into this file.
            progress: called with the share of the work done.

        Raises:
            InputError: `source` cannot be read.
            OutputError: the result cannot be written there; told before computing where possible.
            UsageError: there is no such route.

        """
        started = time.perf_counter()
        if routing_map is not None and routing_map.resolve() == output.resolve():
            raise UsageError(
                f"{output} cannot be both the result and the routing map; name two files."
            )
        picture = read(source)
        scale = self.model.config.scale
        for path, has_alpha in ((output, picture.alpha is not None), (routing_map, False)):
            if path is not None:
                size = {"height": scale * picture.height, "width": scale * picture.width}
                check_output(path, **size, has_alpha=has_alpha, overwrite=overwrite)
        result = self._upscale(picture, source, started, route=route, progress=progress)
        computed = time.perf_counter()
        write(result.picture, output, overwrite=overwrite)
        if routing_map is not None:
            labels = tuple(level.label for level in self.model.config.levels)
            drawn = draw_routing_map(result.image, result.levels, result.grid, labels, scale=scale)
            write(drawn, routing_map, overwrite=overwrite)
        written = time.perf_counter()
        spent = replace(result.report.seconds, write=written - computed, total=written - started)
        report = replace(result.report, output=str(output), seconds=spent, peak_mib=peak_mib())
        return replace(result, report=report)

    def _upscale(
        self, picture: Picture, path: Path | None, started: float, *, route: str, progress: Progress
    ) -> Upscaled:
        forced = forced_level(route, len(self.model.config.levels))
        read_done = time.perf_counter()
        grid = self._grid(picture.height, picture.width, forced)
        levels = self._route(picture.rgb, grid, forced)
        route_done = time.perf_counter()

        groups = self._plan(levels, grid, forced)
        levels = levels_run(groups, grid.shape)
        rgb, pixels = self._run(picture, grid, groups, progress)
        alpha: NDArray[Any] | None = picture.alpha
        if alpha is not None:
            alpha = resize(alpha, self.model.config.scale)
        done = time.perf_counter()
        seconds = Seconds(
            read=read_done - started,
            route=route_done - read_done,
            networks=done - route_done,
            write=0.0,
            total=done - started,
        )
        enlarged = Picture(rgb=rgb, alpha=alpha, is_grey=picture.is_grey, profile=picture.profile)
        report = self._report(enlarged, levels, pixels, seconds, judged=forced is None, path=path)
        return Upscaled(enlarged, levels, grid, report)

    def _grid(self, height: int, width: int, forced: int | None) -> TileGrid:
        tile = self.model.config.tile
        if self.tiling == "paper":
            return TileGrid(height, width, tile=tile, step=min(PAPER_STEP, tile))
        if forced is not None:
            tile = unrouted_tile(height, width, halo=self._halos()[forced])
        return TileGrid(height, width, tile=tile, step=tile)

    def _route(self, rgb: NDArray[Any], grid: TileGrid, forced: int | None) -> NDArray[np.int64]:
        """Return the level of every tile, (rows, columns)."""
        if forced is not None:
            return np.full(grid.shape, forced, np.int64)
        if self._classifier is None:
            self._classifier = self._backend.classifier(self.model)
        padded = pad_edges(rgb, halo=0, least=grid.tile)
        whole = TileGrid(padded.shape[0], padded.shape[1], tile=grid.tile, step=grid.step)
        judged = []
        for blocks in batches(grid.tiles, max(BATCH_PIXELS // grid.tile**2, 1)):
            tiles = _to_network(split(padded, whole, blocks, halo=0))
            judged.append(likeliest(self._classifier(tiles)))
        return np.concatenate(judged).reshape(grid.shape)

    def _plan(self, levels: NDArray[np.int64], grid: TileGrid, forced: int | None) -> list[Group]:
        if forced is not None or self.tiling == "paper":
            return single(levels, grid)
        costs = [Cost(level.macs_per_pixel, level.halo) for level in self.model.config.levels]
        return merge(levels, grid, costs)

    def _halos(self) -> list[int]:
        """Return the neighbours that the windows of each level get, in LR pixels."""
        levels = self.model.config.levels
        return [0 if self.tiling == "paper" else level.halo for level in levels]

    def _run(
        self, picture: Picture, grid: TileGrid, groups: Sequence[Group], progress: Progress
    ) -> tuple[NDArray[Any], list[int]]:
        """Run every group in batches; return the enlarged picture and the LR pixels computed per level."""
        config, rgb = self.model.config, picture.rgb
        halos = self._halos()
        padded = {halo: pad_edges(rgb, halo=halo) for halo in set(halos)}
        pixels = [0] * len(config.levels)
        windows = [_area(grid, group.blocks, halos[group.level]) for group in groups]
        for group, window in zip(groups, windows, strict=True):
            pixels[group.level] += len(group.blocks) * window
        work = sum(n * level.macs_per_pixel for n, level in zip(pixels, config.levels, strict=True))
        done = 0
        sink = (
            _Averaged(rgb, grid, config.scale)
            if grid.step < grid.tile
            else _Placed(rgb, grid, config.scale)
        )
        for group, window in zip(groups, windows, strict=True):
            k, halo = group.level, halos[group.level]
            for blocks in batches(group.blocks, max(BATCH_PIXELS // window, 1)):
                sr = self._branch(k)(_to_network(split(padded[halo], grid, blocks, halo=halo)))
                if not np.isfinite(sr.sum()):
                    raise BackendError(
                        f"The branch of level {k} gave values that are no numbers; use --precision f32."
                    )
                if picture.is_grey:  # a network may tint what it is given as grey
                    sr = np.broadcast_to(sr.mean(axis=1, keepdims=True), sr.shape)
                sink.add(sr, blocks, halo)
                done += len(blocks) * window * config.levels[k].macs_per_pixel
                progress(done / work)
        return sink.result(), pixels

    def _branch(self, level: int) -> Network:
        if level not in self._branches:
            self._branches[level] = self._backend.branch(self.model, level)
        return self._branches[level]

    def _report(
        self,
        enlarged: Picture,
        levels: NDArray[np.int64],
        pixels: list[int],
        seconds: Seconds,
        *,
        judged: bool,
        path: Path | None,
    ) -> Report:
        config = self.model.config
        macs = sum(n * level.macs_per_pixel for n, level in zip(pixels, config.levels, strict=True))
        if judged:
            assert config.classifier is not None
            macs += levels.size * config.classifier.macs
        lr_pixels = enlarged.height * enlarged.width // config.scale**2
        return Report(
            input=None if path is None else str(path),
            output=None,
            width=enlarged.width,
            height=enlarged.height,
            model=config.name,
            scale=config.scale,
            backend=self._backend.name,
            precision=self._backend.precision,
            tiles=tuple(np.bincount(levels.ravel(), minlength=len(config.levels)).tolist()),
            macs=macs,
            macs_hardest=lr_pixels * config.levels[-1].macs_per_pixel,
            seconds=seconds,
            peak_mib=peak_mib(),
        )


class _Placed:
    """Collects windows of which no cells overlap."""

    def __init__(self, rgb: NDArray[Any], grid: TileGrid, scale: int) -> None:
        self._out = np.empty((rgb.shape[0] * scale, rgb.shape[1] * scale, 3), rgb.dtype)
        self._grid, self._scale = grid, scale

    def add(self, sr: NDArray[np.float32], blocks: Blocks, halo: int) -> None:
        windows = _to_pixels(sr.transpose(0, 2, 3, 1), self._out.dtype)
        place(self._out, windows, self._grid, blocks, halo=halo, scale=self._scale)

    def result(self) -> NDArray[Any]:
        return self._out


class _Averaged:
    """Averages windows that overlap, as the paper does; they have no halo."""

    def __init__(self, rgb: NDArray[Any], grid: TileGrid, scale: int) -> None:
        self._total = np.zeros((rgb.shape[0] * scale, rgb.shape[1] * scale, 3), np.float32)
        self._dtype, self._grid, self._scale = rgb.dtype, grid, scale

    def add(self, sr: NDArray[np.float32], blocks: Blocks, halo: int) -> None:
        assert halo == 0
        windows = sr.transpose(0, 2, 3, 1)
        accumulate(self._total, windows, self._grid, blocks, scale=self._scale)

    def result(self) -> NDArray[Any]:
        count = coverage(self._grid).repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        self._total /= count
        return _to_pixels(self._total, self._dtype)


def _area(grid: TileGrid, blocks: Blocks, halo: int) -> int:
    """Return the LR pixels of the window of each of these blocks, halo included."""
    height, width = grid.window(*blocks[0, 2:].tolist())
    return (height + 2 * halo) * (width + 2 * halo)


def unrouted_tile(height: int, width: int, *, halo: int) -> int:
    """Return the side of the tiles that cover a picture with the fewest pixels computed."""

    def computed(tile: int) -> int:
        grid = TileGrid(height, width, tile=tile, step=tile)
        return len(grid) * _area(grid, grid.tiles, halo)

    return min(UNROUTED_TILES, key=computed)


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


def _to_network(windows: NDArray[Any]) -> NDArray[np.float32]:
    """Turn integer windows (N, h, w, 3) into float32 (N, 3, h, w) in [0, 1]."""
    limit = np.float32(np.iinfo(windows.dtype).max)
    return np.ascontiguousarray(windows.transpose(0, 3, 1, 2), np.float32) / limit


def _to_pixels(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round values in [0, 1] to the whole range of an integer dtype."""
    limit = np.iinfo(dtype).max
    scaled = values * np.float32(limit) + np.float32(0.5)
    return np.clip(scaled, 0, limit, out=scaled).astype(dtype)


def upscale(
    source: str | os.PathLike[str] | Picture | NDArray[Any],
    *,
    model: str = DEFAULT_MODEL,
    route: str = AUTO,
    backend: str = next(iter(BACKENDS)),
    precision: Choice = "auto",
    threads: int | None = None,
) -> Upscaled:
    """Enlarge one picture; to enlarge many, make one `Upscaler` and keep it.

    See `Upscaler` and `Upscaler.upscale` for the arguments and errors.
    """
    upscaler = Upscaler(model, backend=backend, precision=precision, threads=threads)
    return upscaler.upscale(source, route=route)
