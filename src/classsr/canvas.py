"""Where enlarged windows come together: rounded to pixels, each in its cell, and blended where levels meet.

The canvas holds one band of tile rows at a time. Where a tile meets an easier one, the harder result goes on for a few
pixels and fades out (the feather), so that no step shows; what fades out beyond the band waits for the next.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from classsr.image import Header
from classsr.phases import shuffled, side
from classsr.tiles import Blocks, Box, TileGrid, accumulate, cell_and_inner, coverage, place

FEATHER = 1  # LR pixels that a harder level reaches over an easier one: what every tile has, and every halo but none


class Canvas(Protocol):
    """Takes windows in batches, band by band, and returns finished rows."""

    def begin(self, rows: range) -> None:
        """Make room for these rows of tiles, the next of the picture."""
        ...

    def add(self, sr: NDArray[np.float32], blocks: Blocks, halo: int) -> None:
        """Put windows where they belong.

        Args:
            sr: (N, 3, scale * h, scale * w) in [0, 1], or their phases (see `classsr.phases`), halo included; its
                memory may be overwritten.
            blocks: those of the windows, inside the band.
            halo: LR pixels.

        """
        ...

    def finish(self) -> NDArray[Any]:
        """Return the rows of the enlarged picture that are complete now, below those returned before: (h, W, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class _Strip:
    """What of a window fades out over its neighbour: where on the enlarged picture, along which axis, what, how."""

    level: int
    axis: int
    box: Box
    pixels: NDArray[np.float32]
    weights: NDArray[np.float32]


def _turn(strip: _Strip) -> tuple[int, int, int, int]:
    """Strips may cross: this says which is laid first, in whatever order windows came."""
    return strip.level, strip.axis, strip.box.top, strip.box.left


class PlacedCanvas:
    """For cells that do not overlap.

    Args:
        grid: where the tiles lie.
        levels: at which every tile is run (rows, columns).
        header: of the picture. Of a grey one the channels are made equal, as a network may tint what is grey.
        scale: size of the enlarged picture over size of the picture.

    """

    def __init__(
        self,
        grid: TileGrid,
        levels: NDArray[np.int64],
        header: Header,
        *,
        scale: int,
    ) -> None:
        self._grid, self._levels, self._scale, self._is_grey = grid, levels, scale, header.is_grey
        self._top = 0  # row of the enlarged picture that `_pixels` begins with
        self._pixels: NDArray[Any] = np.empty((0, grid.width * scale, 3), header.dtype)
        self._strips: list[_Strip] = []

    def begin(self, rows: range) -> None:
        """See `Canvas.begin`."""
        kept = self._pixels
        bottom = min(rows.stop * self._grid.tile, self._grid.height) * self._scale
        self._pixels = np.empty((bottom - self._top, *kept.shape[1:]), kept.dtype)
        self._pixels[: len(kept)] = kept

    def add(self, sr: NDArray[np.float32], blocks: Blocks, halo: int) -> None:
        """See `Canvas.add`."""
        for window, block in zip(sr, blocks, strict=True):
            planes = _to_range(window, self._pixels.dtype)
            if self._is_grey:
                colours = planes.reshape(3, -1, *planes.shape[1:])
                planes = np.broadcast_to(colours.mean(axis=0), colours.shape).reshape(planes.shape)
            rounded = _round(planes, self._pixels.dtype)[None]
            geometry = {"halo": halo, "scale": self._scale, "first": self._top}
            place(self._pixels, rounded, self._grid, block[None], **geometry)
            if halo:
                self._note_strips(planes, block, halo)

    def finish(self) -> NDArray[Any]:
        """See `Canvas.finish`."""
        bottom = self._top + len(self._pixels)
        is_last = bottom == self._grid.height * self._scale
        waiting = [strip for strip in self._strips if strip.box.top >= bottom]
        for strip in sorted(self._strips, key=_turn):
            if strip.box.top < bottom:
                self._blend(strip)
        self._strips = waiting
        # The next band may still fade out over the last rows of this one.
        done = len(self._pixels) - (0 if is_last else FEATHER * self._scale)
        finished, self._pixels = self._pixels[:done], self._pixels[done:].copy()
        self._top += done
        return finished

    def _blend(self, strip: _Strip) -> None:
        box = strip.box
        below = self._pixels[box.top - self._top : box.bottom - self._top, box.left : box.right]
        mixed = below + (strip.pixels - below) * strip.weights
        below[:] = _round(mixed, below.dtype)

    def _note_strips(
        self, planes: NDArray[np.float32], block: NDArray[np.int64], halo: int
    ) -> None:
        """Keep what of a window fades out over the easier tiles around its cell."""
        level = int(self._levels[block[0], block[1]])
        if level == 0:
            return
        cell, inner = cell_and_inner(self._grid, block, halo)
        down, right = inner.top - cell.top, inner.left - cell.left  # from picture to window
        scale = self._scale
        of_phase = scale // side(planes[None])
        for box, axis, fades_back in self._borders(cell, block):
            on_sr = box.scaled(scale)
            in_window = Box(
                box.top + down, box.left + right, box.bottom + down, box.right + right
            ).scaled(of_phase)
            pixels = shuffled(planes[None, :, *in_window.slices])[0].transpose(1, 2, 0).copy()
            fading = np.linspace(1, 0, 2 * FEATHER * scale + 1, dtype=np.float32)[1::2]
            fading = fading[::-1] if fades_back else fading
            weights = fading[:, None, None] if axis == 0 else fading[None, :, None]
            self._strips.append(_Strip(level, axis, on_sr, pixels, weights))

    def _borders(self, cell: Box, block: NDArray[np.int64]) -> list[tuple[Box, int, bool]]:
        """Find the strips, in LR pixels, on easier tiles beside a cell: (where, along which axis, if backwards)."""
        levels, tile, reach = self._levels, self._grid.tile, FEATHER
        row, column, rows, columns = block.tolist()
        level = levels[row, column]
        found: list[tuple[Box, int, bool]] = []
        for beyond, top, back in (
            (row - 1, cell.top - reach, True),
            (row + rows, cell.bottom, False),
        ):
            if 0 <= beyond < levels.shape[0]:
                for start, stop in _runs(levels[beyond, column : column + columns] < level):
                    left = cell.left + start * tile
                    right = min(cell.left + stop * tile, cell.right)
                    found.append((Box(top, left, top + reach, right), 0, back))
        for beyond, left, back in (
            (column - 1, cell.left - reach, True),
            (column + columns, cell.right, False),
        ):
            if 0 <= beyond < levels.shape[1]:
                for start, stop in _runs(levels[row : row + rows, beyond] < level):
                    top = cell.top + start * tile
                    bottom = min(cell.top + stop * tile, cell.bottom)
                    found.append((Box(top, left, bottom, left + reach), 1, back))
        return found


class AveragedCanvas:
    """For windows that overlap and are averaged, as in the paper; one band holds the whole picture.

    Arguments as for `PlacedCanvas`.
    """

    def __init__(self, grid: TileGrid, header: Header, *, scale: int) -> None:
        self._grid, self._scale = grid, scale
        self._dtype, self._is_grey = header.dtype, header.is_grey
        self._total = np.zeros((grid.height * scale, grid.width * scale, 3), np.float32)

    def begin(self, rows: range) -> None:
        """See `Canvas.begin`."""
        assert len(rows) == self._grid.shape[0]

    def add(self, sr: NDArray[np.float32], blocks: Blocks, halo: int) -> None:
        """See `Canvas.add`."""
        assert halo == 0
        pictures = shuffled(sr).transpose(0, 2, 3, 1)
        accumulate(self._total, pictures, self._grid, blocks, scale=self._scale)

    def finish(self) -> NDArray[Any]:
        """See `Canvas.finish`."""
        count = coverage(self._grid).repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        mean = self._total / count
        if self._is_grey:
            mean = mean.mean(axis=2, keepdims=True).repeat(3, axis=2)
        return _round(_to_range(mean, self._dtype), self._dtype)


def to_network(windows: NDArray[Any]) -> NDArray[np.float32]:
    """Turn integer windows (N, h, w, 3) into float32 (N, 3, h, w) in [0, 1]."""
    limit = np.float32(np.iinfo(windows.dtype).max)
    return np.ascontiguousarray(windows.transpose(0, 3, 1, 2), np.float32) / limit


def _to_range(window: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
    """Stretch values in [0, 1], in place, to the range of an integer dtype, and cut off what lies beyond."""
    limit = np.float32(np.iinfo(dtype).max)
    np.multiply(window, limit, out=window)
    return np.clip(window, 0, limit, out=window)


def _round(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round to the nearest whole number, without a copy in between: a third faster for large windows."""
    rounded: NDArray[Any] = np.empty(values.shape, dtype)
    np.add(values, np.float32(0.5), out=rounded, casting="unsafe")
    return rounded


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where runs of True begin and end."""
    if not flags.any():
        return []
    runs = [(flag, len(list(run))) for flag, run in groupby(flags.tolist())]
    ends = np.cumsum([length for _, length in runs]).tolist()
    return [(end - length, end) for (flag, length), end in zip(runs, ends, strict=True) if flag]
