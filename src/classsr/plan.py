"""From levels to what is run: neighbouring tiles of one level become blocks, so that less of their halos is computed.

Knows costs and geometry, neither pixels nor networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

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
class Group:
    """Blocks of one level that have as many rows and columns of tiles."""

    level: int
    blocks: Blocks


def single(levels: NDArray[np.int64], grid: TileGrid) -> list[Group]:
    """Run every tile alone: one group for each level that is used, the easiest first."""
    return [Group(int(k), grid.tiles[levels.ravel() == k]) for k in np.unique(levels)]


def merge(levels: NDArray[np.int64], grid: TileGrid, costs: Sequence[Cost]) -> list[Group]:
    """Cover all tiles by blocks, each tile by one, at its level or at a harder one where that is cheaper.

    The hardest level is covered first, by the largest blocks that cost less than their tiles are expected to cost
    otherwise: first in squares of the usual size, then, for what is left, alone. So an easier tile in the midst of
    harder ones goes with them if its own window would cost more.

    Args:
        levels: of every tile, (rows, columns).
        grid: where the tiles lie, without overlap.
        costs: of every level.

    Returns:
        Groups, the easiest level first.

    """
    free = np.ones(levels.shape, bool)
    found: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for level in reversed(range(len(costs))):
        for side in (USUAL, 1):
            usual = grid.window(side, side)
            worth = np.array([cost.window(*usual) for cost in costs])[levels] / side**2
            for rows, columns in _shapes(levels.shape):
                wanted = free & (levels == level)
                if not wanted.any():
                    break
                saved = _sums(worth, rows, columns)
                saved -= costs[level].window(*grid.window(rows, columns))
                if side == rows == columns == 1:
                    saved[:] = np.inf  # whatever is left
                allowed = _sums(free & (levels <= level), rows, columns) == rows * columns
                saved[~allowed | (_sums(wanted, rows, columns) == 0)] = -np.inf
                for row, column in _take_best(saved, rows, columns):
                    free[row : row + rows, column : column + columns] = False
                    found.setdefault((level, rows, columns), []).append((row, column))
    return [
        Group(level, np.array([(*corner, rows, columns) for corner in corners], np.int64))
        for (level, rows, columns), corners in sorted(found.items())
    ]


def levels_run(groups: Sequence[Group], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the level at which every tile is run, (rows, columns)."""
    levels = np.full(shape, -1, np.int64)
    for group in groups:
        for row, column, rows, columns in group.blocks.tolist():
            levels[row : row + rows, column : column + columns] = group.level
    return levels


def _shapes(most: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the sizes of blocks that fit, the largest first, squares before strips."""
    shapes = [(h, w) for h, w in product(SIDES, SIDES) if h <= most[0] and w <= most[1]]
    return sorted(shapes, key=lambda shape: (-shape[0] * shape[1], abs(shape[0] - shape[1])))


def _sums(values: NDArray[np.generic], rows: int, columns: int) -> NDArray[np.float64]:
    """Sum over every window of so many rows and columns."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    sums: NDArray[np.float64] = (
        total[rows:, columns:]
        - total[:-rows, columns:]
        - total[rows:, :-columns]
        + total[:-rows, :-columns]
    )
    return sums


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
