"""Enlarged pictures before their last PixelShuffle: of every colour p * p phases, each a picture 1 / p as large.

Phase (i, j) holds the pixels of every p-th row from i on and every p-th column from j on. Small networks spend up to
two thirds of their time on PixelShuffle and on bringing its result into planes, and whoever puts windows into a picture
moves every pixel anyway (docs/log.md, 2026-11-30).
"""

from math import isqrt

import numpy as np
from numpy.typing import NDArray


def side(phases: NDArray[np.float32]) -> int:
    """Return p of windows (N, 3 * p * p, h, w); 1 of pictures."""
    return isqrt(phases.shape[1] // 3)


def shuffled(phases: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pictures, PixelShuffle of the phases: (N, 3 * p * p, h, w) -> (N, 3, p * h, p * w)."""
    p = side(phases)
    n, _, height, width = phases.shape
    apart = phases.reshape(n, 3, p, p, height, width)
    return apart.transpose(0, 1, 4, 2, 5, 3).reshape(n, 3, p * height, p * width)
