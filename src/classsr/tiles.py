"""Where tiles lie, and how pictures are cut into them and put together again: pure geometry.

Without overlap (`step == tile`) the cells of a grid partition the picture: every pixel belongs to exactly one
tile. A tile's window has one size all over the picture, so that windows stack into batches: the last window of a
row or column is moved back inside the picture, and a halo of real neighbours surrounds it; beyond the border the
picture's edge is repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError

Pixels = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, upper left corner included and lower right excluded."""

    top: int
    left: int
    bottom: int
    right: int

    def scaled(self, scale: int) -> "Box":
        """Return the same rectangle in the pixels of the enlarged picture."""
        return Box(self.top * scale, self.left * scale, self.bottom * scale, self.right * scale)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an (H, W, ...) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class TileGrid:
    """Tiles over a picture of `height` x `width` LR pixels, numbered row by row.

    Args:
        height: of the picture, at least 1.
        width: of the picture, at least 1.
        tile: side of a tile in LR pixels; a picture smaller than that is one tile as large as itself.
        step: distance of neighbouring tiles; below `tile` they overlap (28 of 32 in the paper).

    """

    height: int
    width: int
    tile: int
    step: int

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise UsageError(
                f"Expected a picture of at least 1x1 but got {self.width}x{self.height}."
            )
        if not 1 <= self.step <= self.tile:
            raise UsageError(f"Expected a step from 1 to {self.tile} but got {self.step}.")

    @cached_property
    def tops(self) -> NDArray[np.int64]:
        """First row of each row of windows."""
        return _origins(self.height, self.tile, self.step)

    @cached_property
    def lefts(self) -> NDArray[np.int64]:
        """First column of each column of windows."""
        return _origins(self.width, self.tile, self.step)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        return len(self.tops), len(self.lefts)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of every tile's window, halo excluded."""
        return min(self.tile, self.height), min(self.tile, self.width)

    def origin(self, index: int) -> tuple[int, int]:
        """Return (top, left) of a tile's window."""
        row, column = divmod(index, len(self.lefts))
        return int(self.tops[row]), int(self.lefts[column])

    def cell(self, index: int) -> Box:
        """Return the part of the picture that a tile's result is used for.

        Without overlap the cells partition the picture; with overlap a cell is the whole window.
        """
        row, column = divmod(index, len(self.lefts))
        top, left = self.origin(index)
        height, width = self.window
        if self.step < self.tile:
            return Box(top, left, top + height, left + width)
        return Box(row * self.tile, column * self.tile, top + height, left + width)


def _origins(size: int, tile: int, step: int) -> NDArray[np.int64]:
    """Return where windows start along one axis: every `step`, the last one flush with the end."""
    last = max(size - tile, 0)
    return np.minimum(np.arange(0, last + step, step), last)


def pad_edges(image: Pixels, *, halo: int, least: int = 1) -> Pixels:
    """Repeat the picture's edge: `halo` pixels on every side, and below and right up to `least` pixels in all.

    Args:
        image: (H, W, C).
        halo: pixels added on every side.
        least: smallest side of the picture, halo excluded.

    """
    below, right = (max(least - side, 0) for side in image.shape[:2])
    if halo == below == right == 0:
        return image
    return np.pad(image, ((halo, halo + below), (halo, halo + right), (0, 0)), mode="edge")


def split(padded: Pixels, grid: TileGrid, indices: NDArray[np.int64], *, halo: int) -> Pixels:
    """Gather windows with their halo.

    Args:
        padded: the picture as `pad_edges` returns it, (H + 2 halo, W + 2 halo, C).
        grid: where the tiles lie.
        indices: which tiles, (N,).
        halo: LR pixels of neighbours around each window.

    Returns:
        (N, h + 2 halo, w + 2 halo, C), (h, w) being the grid's window.

    """
    height, width = (side + 2 * halo for side in grid.window)
    windows = np.empty((len(indices), height, width, padded.shape[2]), padded.dtype)
    for n, index in enumerate(indices.tolist()):
        top, left = grid.origin(index)
        windows[n] = padded[top : top + height, left : left + width]
    return windows


def place(
    out: Pixels,
    windows: Pixels,
    grid: TileGrid,
    indices: NDArray[np.int64],
    *,
    halo: int,
    scale: int,
) -> None:
    """Write the cells of enlarged windows into the enlarged picture: the inverse of `split`.

    Args:
        out: (scale * H, scale * W, C), written in place.
        windows: (N, scale * (h + 2 halo), scale * (w + 2 halo), C).
        grid: where the tiles lie, in LR pixels, without overlap.
        indices: which tiles, (N,).
        halo: LR pixels of neighbours around each window.
        scale: size of `out` over size of the picture that was split.

    """
    for window, index in zip(windows, indices.tolist(), strict=True):
        cell, inner = _cell_and_inner(grid, index, halo)
        out[cell.scaled(scale).slices] = window[inner.scaled(scale).slices]


def accumulate(
    total: NDArray[np.float32],
    windows: NDArray[np.float32],
    grid: TileGrid,
    indices: NDArray[np.int64],
    *,
    scale: int,
) -> None:
    """Add overlapping enlarged windows to a running sum; divide it by `coverage` in the end.

    Args:
        total: (scale * H, scale * W, C), added to in place.
        windows: (N, scale * h, scale * w, C), without halo.
        grid: where the tiles lie, in LR pixels.
        indices: which tiles, (N,).
        scale: size of `total` over size of the picture that was split.

    """
    for window, index in zip(windows, indices.tolist(), strict=True):
        cell, _ = _cell_and_inner(grid, index, 0)
        total[cell.scaled(scale).slices] += window


def coverage(grid: TileGrid) -> NDArray[np.float32]:
    """Count the cells over each LR pixel: (H, W, 1)."""
    rows, columns = (
        np.sum((pixels >= origins) & (pixels < origins + window), axis=1)
        for pixels, origins, window in (
            (np.arange(grid.height)[:, None], grid.tops, grid.window[0]),
            (np.arange(grid.width)[:, None], grid.lefts, grid.window[1]),
        )
    )
    return np.outer(rows, columns)[:, :, None].astype(np.float32)


def _cell_and_inner(grid: TileGrid, index: int, halo: int) -> tuple[Box, Box]:
    """Return a tile's cell, and the same rectangle relative to its window with halo."""
    cell = grid.cell(index)
    top, left = grid.origin(index)
    return cell, Box(
        cell.top - top + halo,
        cell.left - left + halo,
        cell.bottom - top + halo,
        cell.right - left + halo,
    )


def batches(indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut an index array into runs of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
