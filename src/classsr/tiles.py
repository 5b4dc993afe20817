"""Where tiles lie, and how pictures are cut into them and put together again: pure geometry.

Without overlap (`step == tile`) the cells of a grid partition the picture: every pixel belongs to exactly one
tile. A block is a rectangle of neighbouring tiles, often a single one. All blocks of so many rows and columns of
tiles have windows of one size, so that these stack into batches: the last window of a row or column is moved back
inside the picture, and a halo of real neighbours surrounds it; beyond the border the picture's edge is repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError

Pixels = NDArray[np.generic]
Blocks = NDArray[np.int64]
"""Rectangles of tiles, (N, 4): first row, first column, rows, columns, counted in tiles."""


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

    @cached_property
    def tiles(self) -> Blocks:
        """Every tile as a block of its own."""
        rows, columns = (index.ravel() for index in np.indices(self.shape))
        return np.stack([rows, columns, np.ones_like(rows), np.ones_like(rows)], axis=1)

    def window(self, rows: int = 1, columns: int = 1) -> tuple[int, int]:
        """Return (height, width) of the window of every block of so many tiles, halo excluded."""
        height, width = (self.tile + (tiles - 1) * self.step for tiles in (rows, columns))
        return min(height, self.height), min(width, self.width)

    def origin(self, block: NDArray[np.int64]) -> tuple[int, int]:
        """Return (top, left) of a block's window."""
        row, column, *size = block.tolist()
        height, width = self.window(*size)
        return min(row * self.step, self.height - height), min(
            column * self.step, self.width - width
        )

    def cell(self, block: NDArray[np.int64]) -> Box:
        """Return the part of the picture that a block's result is used for.

        Without overlap the cells of the tiles partition the picture; with overlap a cell is the whole window.
        """
        row, column, *size = block.tolist()
        top, left = self.origin(block)
        height, width = self.window(*size)
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


def split(
    padded: Pixels,
    grid: TileGrid,
    blocks: Blocks,
    *,
    halo: int,
    margin: int | None = None,
    first: int = 0,
) -> Pixels:
    """Gather windows with their halo.

    Args:
        padded: rows of the picture as `pad_edges` returns them, (h + 2 margin, W + 2 margin, C).
        grid: where the tiles lie.
        blocks: at least one, all of as many rows and columns of tiles.
        halo: LR pixels of neighbours around each window.
        margin: pixels that `padded` has on every side, at least `halo`, which it is by default.
        first: the row of the picture that `padded` begins with, margin not counted.

    Returns:
        (N, h + 2 halo, w + 2 halo, C), (h, w) being the window of such a block.

    """
    spare = 0 if margin is None else margin - halo
    height, width = (side + 2 * halo for side in grid.window(*blocks[0, 2:].tolist()))
    windows = np.empty((len(blocks), height, width, padded.shape[2]), padded.dtype)
    for n, block in enumerate(blocks):
        top, left = grid.origin(block)
        rows = slice(top - first + spare, top - first + spare + height)
        windows[n] = padded[rows, left + spare : left + spare + width]
    return windows


def place(
    out: Pixels,
    windows: Pixels,
    grid: TileGrid,
    blocks: Blocks,
    *,
    halo: int,
    scale: int,
    first: int = 0,
) -> None:
    """Write the cells of enlarged windows into the enlarged picture: the inverse of `split`.

    Args:
        out: rows of the enlarged picture, (h, scale * W, C), written in place.
        windows: (N, C, scale * (h + 2 halo), scale * (w + 2 halo)), or their phases (see `classsr.phases`).
        grid: where the tiles lie, in LR pixels, without overlap.
        blocks: those of the windows.
        halo: LR pixels of neighbours around each window.
        scale: size of `out` over size of the picture that was split.
        first: the row of the enlarged picture that `out` begins with.

    """
    channels = out.shape[2]
    p = isqrt(windows.shape[1] // channels)
    for window, block in zip(windows, blocks, strict=True):
        cell, inner = cell_and_inner(grid, block, halo)
        rows, columns = cell.scaled(scale).slices
        target = out[rows.start - first : rows.stop - first, columns]
        phases = product(range(channels), range(p), range(p))
        for plane, (channel, i, j) in zip(
            window[:, *inner.scaled(scale // p).slices], phases, strict=True
        ):
            target[i::p, j::p, channel] = plane


def accumulate(
    total: NDArray[np.float32],
    windows: NDArray[np.float32],
    grid: TileGrid,
    blocks: Blocks,
    *,
    scale: int,
) -> None:
    """Add overlapping enlarged windows to a running sum; divide it by `coverage` in the end.

    Args:
        total: (scale * H, scale * W, C), added to in place.
        windows: (N, scale * h, scale * w, C), without halo.
        grid: where the tiles lie, in LR pixels.
        blocks: those of the windows.
        scale: size of `total` over size of the picture that was split.

    """
    for window, block in zip(windows, blocks, strict=True):
        cell = grid.cell(block)
        total[cell.scaled(scale).slices] += window


def coverage(grid: TileGrid) -> NDArray[np.float32]:
    """Count the cells over each LR pixel: (H, W, 1)."""
    rows, columns = (
        np.sum((pixels >= origins) & (pixels < origins + window), axis=1)
        for pixels, origins, window in (
            (np.arange(grid.height)[:, None], grid.tops, grid.window()[0]),
            (np.arange(grid.width)[:, None], grid.lefts, grid.window()[1]),
        )
    )
    return np.outer(rows, columns)[:, :, None].astype(np.float32)


def cell_and_inner(grid: TileGrid, block: NDArray[np.int64], halo: int) -> tuple[Box, Box]:
    """Return a block's cell, and the same rectangle relative to its window with halo."""
    cell = grid.cell(block)
    top, left = grid.origin(block)
    return cell, Box(
        cell.top - top + halo,
        cell.left - left + halo,
        cell.bottom - top + halo,
        cell.right - left + halo,
    )


def batches(blocks: Blocks, size: int) -> Iterator[Blocks]:
    """Cut an array of blocks into runs of at most `size`."""
    for start in range(0, len(blocks), size):
        yield blocks[start : start + size]
