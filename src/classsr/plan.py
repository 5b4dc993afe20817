"""From levels to what is run: neighbouring tiles of one level become blocks, so that less of their halos is computed.

Knows costs and geometry, neither pixels nor networks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from classsr.tiles import Blocks, TileGrid

SIDES = (1, 2, 4, 8)  # of a block, in tiles: few, because an engine prepares for every new size
USUAL = 2  # tiles to a side of the block in which a tile of a level is expected to be run


@dataclass(frozen=True, slots=True)
class Cost:
    """What running the branch of a level costs, in any one unit.

    `per_pixel` counts every LR pixel of a window with its halo, `halo` LR pixels wide on each side.
    """

    per_pixel: float
    halo: int
    per_window: float = 0.0

    def window(self, height: int, width: int) -> float:
        """Return what a window of this size costs, halo excluded in the size and included in the cost."""
        return self.per_window + self.per_pixel * (height + 2 * self.halo) * (width + 2 * self.halo)


@dataclass(frozen=True, slots=True)
class Costs:
    """What the branches of a model cost, by level, and its Class-Module for a tile, in one unit."""

    levels: tuple[Cost, ...]
    classifier: float
    unit: Literal["s", "MACs"] = "s"


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks of one level that have as many rows and columns of tiles."""

    level: int
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of tiles that are run together, and the groups that cover them, the easiest level first."""

    rows: range
    groups: tuple[Group, ...]


def bands(grid: TileGrid, pixels: int, *, most: int) -> list[range]:
    """Cut the rows of tiles into bands that are run one after the other.

    A band is as high as the largest blocks; several times as high as long as that is no more than `pixels` LR pixels,
    since an engine prepares for every size of block again in every band; less high where it would be more than `most`.
    """
    rows, _ = grid.shape
    row = grid.step * grid.width
    height = max(side for side in SIDES if side <= max(most // row, 1))
    if height == max(SIDES):
        height *= max(pixels // (row * height), 1)
    return [range(top, min(top + height, rows)) for top in range(0, rows, height)]


def single(levels: NDArray[np.int64], grid: TileGrid, *, first: int = 0) -> list[Group]:
    """Run every tile alone: one group for each level that is used, the easiest first.

    Args:
        levels: of the tiles, (rows, columns).
        grid: where the tiles lie.
        first: the row of the grid that `levels` begins with.

    """
    tiles = grid.tiles[first * grid.shape[1] :][: levels.size]
    return [Group(int(k), tiles[levels.ravel() == k]) for k in np.unique(levels)]


def merge(
    levels: NDArray[np.int64], grid: TileGrid, costs: Sequence[Cost], *, first: int = 0
) -> list[Group]:
    """Cover tiles by blocks, each tile at its level or at a harder one where that is cheaper.

    Args:
        levels: of the tiles, (rows, columns).
        grid: where the tiles lie, without overlap.
        costs: of every level.
        first: the row of the grid that `levels` begins with.

    Returns:
        Groups, the easiest level first.

    """
    below = np.arange(len(costs)) < levels[:, :, None]
    return cover(np.where(below, np.inf, 0.0), grid, costs, price=1.0, first=first)


def cover(
    errors: NDArray[np.float64],
    grid: TileGrid,
    costs: Sequence[Cost],
    *,
    price: float,
    first: int = 0,
) -> list[Group]:
    """Cover tiles by blocks, each tile by one, so that error + price x cost is small in all.

    A block has one level. The hardest level is covered first, by the largest blocks that are worth more than what their
    tiles are expected to come to otherwise: first in squares of the usual size, then, for what is left, alone. So a
    tile in the midst of harder ones goes with them if a window of its own would cost more than it gains.

    Args:
        errors: of every tile at every level (rows, columns, levels); infinite where a level is out of the question,
            which the hardest never is.
        grid: where the tiles lie, without overlap.
        costs: of every level.
        price: error that one unit of cost may save, above 0.
        first: the row of the grid that `errors` begins with.

    Returns:
        Groups, the easiest level first.

    """
    possible = np.isfinite(errors)
    finite = np.where(possible, errors, 0.0)
    free = np.ones(errors.shape[:2], bool)
    found: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    otherwise = []
    for side in (USUAL, 1):
        alone = [price * cost.window(*grid.window(side, side)) / side**2 for cost in costs]
        objective = errors + np.array(alone)
        otherwise.append((side, objective.argmin(axis=2), objective.min(axis=2)))
    shapes = _shapes(free.shape)
    for level in reversed(range(len(costs))):
        for side, best, worth in otherwise:
            mine = best == level
            if not (free & mine).any():
                continue
            gains, allowed = worth - finite[:, :, level], possible[:, :, level]
            taken = True
            for rows, columns in shapes:
                if taken:
                    integrals = _integral(np.stack([gains, free & allowed, free & mine]))
                if not integrals[-1, -1, -1]:
                    break
                saved, allowed_in, wanted_in = _sums(integrals, rows, columns)
                saved -= price * costs[level].window(*grid.window(rows, columns))
                if side == rows == columns == 1:
                    saved[:] = np.inf  # whatever is left
                saved[(allowed_in < rows * columns) | (wanted_in == 0)] = -np.inf
                corners = _take_best(saved, rows, columns)
                for row, column in corners:
                    free[row : row + rows, column : column + columns] = False
                    found.setdefault((level, rows, columns), []).append((first + row, column))
                taken = bool(corners)
    return [
        Group(level, np.array([(*corner, rows, columns) for corner in corners], np.int64))
        for (level, rows, columns), corners in sorted(found.items())
    ]


def spent(groups: Iterable[Group], grid: TileGrid, costs: Sequence[Cost]) -> float:
    """Return what it costs to run these groups."""
    return sum(
        len(group.blocks) * costs[group.level].window(*grid.window(*group.blocks[0, 2:].tolist()))
        for group in groups
    )


def levels_run(groups: Iterable[Group], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the level at which every tile is run, (rows, columns)."""
    levels = np.full(shape, -1, np.int64)
    for group in groups:
        for row, column, rows, columns in group.blocks.tolist():
            levels[row : row + rows, column : column + columns] = group.level
    return levels


def _shapes(most: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the sizes of blocks that fit, at most twice as long as wide, the largest first, squares before strips."""
    shapes = [
        (h, w)
        for h, w in product(SIDES, SIDES)
        if h <= most[0] and w <= most[1] and max(h, w) <= 2 * min(h, w)
    ]
    return sorted(shapes, key=lambda shape: (-shape[0] * shape[1], abs(shape[0] - shape[1])))


def _integral(values: NDArray[Any]) -> NDArray[Any]:
    """Sum over everything above and to the left: (..., rows, columns) -> (..., rows + 1, columns + 1)."""
    total = np.zeros((*values.shape[:-2], values.shape[-2] + 1, values.shape[-1] + 1))
    values.cumsum(axis=-2).cumsum(axis=-1, out=total[..., 1:, 1:])
    return total


def _sums(integral: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Sum over every window of so many rows and columns."""
    return np.asarray(
        integral[..., rows:, columns:]
        - integral[..., :-rows, columns:]
        - integral[..., rows:, :-columns]
        + integral[..., :-rows, :-columns]
    )


def _take_best(saved: NDArray[np.float64], rows: int, columns: int) -> list[tuple[int, int]]:
    """Choose windows that do not overlap, the one that saves most first, as long as any saves something."""
    corners: list[tuple[int, int]] = []
    while True:
        row, column = divmod(int(saved.argmax()), saved.shape[1])
        if not saved[row, column] > 0:
            return corners
        corners.append((row, column))
        saved[
            max(row - rows + 1, 0) : row + rows, max(column - columns + 1, 0) : column + columns
        ] = -np.inf
