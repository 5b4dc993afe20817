"""One price for a picture, the error that a unit of cost must save, decides the level of every tile.

Knows arrays only: errors, costs, levels.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

LOSS = (
    0.02  # dB below the hardest branch everywhere that `auto` may lose on a picture, as predicted
)
HALVINGS = 40  # of the interval in which the price for tiles alone is sought
PRICES = (math.log(1e-18), math.log(1e12))  # the interval, for costs in seconds and in MACs

Errors = NDArray[np.float64]
"""Mean squared error of every tile at every level, RGB in [0, 1]: (rows, columns, levels)."""


def total(weighted: Errors, levels: NDArray[np.int64]) -> float:
    """Return the picture's error at these levels."""
    return float(np.take_along_axis(weighted, levels[:, :, None], axis=2).sum())


def price_of(
    errors: Errors, costs: NDArray[np.float64], is_high: Callable[[NDArray[np.int64]], bool]
) -> float:
    """Return the logarithm of the lowest price that is high enough, were every tile to choose for itself."""
    low, high = PRICES
    dearest = (errors + math.exp(low) * costs).argmin(axis=2)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        levels = (errors + math.exp(middle) * costs).argmin(axis=2)
        # Where any price is high enough, the lowest one that changes anything is sought.
        if is_high(levels) and not np.array_equal(levels, dearest):
            high = middle
        else:
            low = middle
    return high


def cheapest_levels(errors: Errors, costs: Sequence[float], loss: float) -> NDArray[np.int64]:
    """Choose the cheapest levels for tiles that are run alone and lose at most so many dB, as predicted.

    Args:
        errors: of tiles that all count the same.
        costs: of a tile at each level.
        loss: against the hardest level everywhere.

    """
    most = errors[:, :, -1].sum() * 10 ** (loss / 10)
    each = np.array(costs) / max(costs)  # in multiply-accumulates every price would be too high
    price = price_of(errors, each, lambda levels: total(errors, levels) > most)
    step = (PRICES[1] - PRICES[0]) / 2**HALVINGS
    levels: NDArray[np.int64] = (errors + math.exp(price - 2 * step) * each).argmin(axis=2)
    return levels
