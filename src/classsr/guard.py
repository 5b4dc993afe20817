"""Whether what a branch gave can be an enlargement of its windows; what cannot be is run again in float32.

An enlarged picture has the colours of the picture. So the means of blocks of about a tile are compared before and
after, over every value: one that is no number makes the mean of its block none. Knows no runtime by itself.
"""

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from classsr.backends import Network, Precision
from classsr.errors import BackendError
from classsr.model import Level
from classsr.tiles import Blocks, TileGrid

SIDE = 32  # LR pixels, of the blocks that are compared; the last of a row or column is up to twice as long
# Differences of means, of the full range (docs/log.md, 2026-11-25). What is suspected without need costs time only,
# since float32 has the last word.
SUSPECT = 0.25
WRONG = 5.0

logger = logging.getLogger(__name__)


class Guard:
    """Looks at the results of all batches of one picture.

    Args:
        levels: of the model.
        precision: that the branches run in.
        precise: loads the branch of a level in float32, when the first is needed.

    """

    def __init__(
        self,
        levels: tuple[Level, ...],
        precision: Precision,
        precise: Callable[[int], Network],
    ) -> None:
        self._levels, self._precision, self._precise = levels, precision, precise
        self._recomputed = 0

    def check(
        self,
        sr: NDArray[np.float32],
        lr: NDArray[np.float32],
        *,
        level: int,
        grid: TileGrid,
        blocks: Blocks,
    ) -> None:
        """Replace what the branch cannot have meant by what it gives in float32, in place.

        A result in float32 is taken unless no enlargement is as far off (`WRONG`).

        Args:
            sr: pictures of `scale` times the size, or their phases (see `classsr.phases`), halo included.
            lr: the windows that it was made of, (N, 3, h, w) in [0, 1].
            level: of the branch.
            grid: where the tiles lie.
            blocks: those of the windows.

        Raises:
            BackendError: a result in float32 is wrong.

        """
        off = differences(sr, lr)
        if self._precision != "f32":
            suspect = ~(off <= SUSPECT)
            if not suspect.any():
                return
            again = self._precise(level)(lr[suspect])
            sr[suspect] = again
            off[suspect] = differences(again, lr[suspect])
            self._recomputed += len(again)
        wrong = ~(off <= WRONG)
        if wrong.any():
            cell = grid.cell(blocks[wrong][0])
            raise BackendError(
                f"Level {level} ({self._levels[level].label}) made no picture of x {cell.left} to {cell.right}, "
                f"y {cell.top} to {cell.bottom} of the input, even with --precision f32; copy or export the model "
                "again, or choose another --model or --backend."
            )

    def close(self) -> int:
        """Return how many windows were run again, and warn where there were any."""
        if self._recomputed:
            logger.warning(
                "windows that were wrong in %s and were run again in f32: %d; "
                "use --precision f32 if this happens often",
                self._precision,
                self._recomputed,
            )
        return self._recomputed


def differences(sr: NDArray[np.float32], lr: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each window is from what it was made of: the largest difference of the means of a block.

    What averages out over a block is not seen: wrong values of both signs, or a few small ones. It takes hardly longer
    than the sum of all values, which finding one that is no number takes anyway: 12 to 19 ns per LR pixel, where
    bicubic takes 280 and compact-64x12 5,900 (docs/log.md, 2026-11-25).

    Args:
        sr: (N, C, scale * h, scale * w), or their phases.
        lr: (N, C, h, w).

    Returns:
        (N,), not finite where a value is not.

    """
    scale = sr.shape[3] // lr.shape[3]
    with np.errstate(over="ignore", invalid="ignore"):
        mean_phase = sr.reshape(*lr.shape[:2], -1, *sr.shape[2:]).mean(axis=2)
        off = np.abs(_means(mean_phase, scale * SIDE) - _means(lr, SIDE))
    furthest: NDArray[np.float32] = off.max(axis=(1, 2, 3))
    return furthest


def _means(planes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the means of blocks: (N, C, H, W) -> (N, C, rows, columns)."""
    n, channels, height, width = planes.shape
    tops, lefts = (np.arange(0, max(length - side, 0) + 1, side) for length in (height, width))
    # Rows first and whole rows at a time: `reduceat` alone takes twice as long on large windows.
    last = int(tops[-1])
    rows = planes[:, :, :last].reshape(n, channels, -1, side, width).sum(axis=3)
    rows = np.concatenate([rows, planes[:, :, last:].sum(axis=2, keepdims=True)], axis=2)
    sums: NDArray[np.float32] = np.add.reduceat(rows, lefts, axis=3)
    heights, widths = np.diff(tops, append=height), np.diff(lefts, append=width)
    areas: NDArray[np.float32] = np.outer(heights, widths).astype(np.float32)
    return sums / areas
