"""Bicubic resizing as MATLAB's `imresize` does it: the definition of LR in this field.

Keys' cubic with a = -0.5, widened by 1 / scale when shrinking (antialiasing), the vertical pass before the
horizontal one. Beyond the border the picture's edge is repeated, which gives the LR pictures in circulation of
Set5, Set14 and BSD100 bit for bit (newer versions of `imresize` mirror instead: the two differ within 2 LR pixels
of the border). Knows nothing of files, tiles or networks.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError

Sample = TypeVar("Sample", bound=np.generic)

REACH = 2  # pixels that Keys' kernel looks to either side
CUBIC_SUPPORT = 2.0 * REACH


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate Keys' cubic convolution kernel with a = -0.5 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def _taps(size: int, out_size: int, scale: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return source indices and weights, both (out_size, taps), of one axis."""
    stretch = min(scale, 1.0)  # below 1 the kernel widens, above 1 it keeps its size
    width = CUBIC_SUPPORT / stretch
    centre = (np.arange(out_size, dtype=np.float64) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(np.intp)
    index = first[:, None] + np.arange(math.ceil(width) + 2)
    weight = _cubic((centre[:, None] - index) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    used = np.any(weight != 0.0, axis=0)
    return np.clip(index[:, used], 0, size - 1), weight[:, used].astype(np.float32)


def _resize_rows(
    image: NDArray[np.float32], index: NDArray[np.intp], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Resample the first axis of `image` (H, W, C)."""
    out = np.zeros((index.shape[0], *image.shape[1:]), np.float32)
    column = (slice(None),) + (None,) * (image.ndim - 1)
    for tap in range(index.shape[1]):
        out += weight[:, tap][column] * image[index[:, tap]]
    return out


def _as_stored(values: NDArray[np.float32], dtype: np.dtype[np.generic]) -> NDArray[np.float32]:
    """Round and clip to what an unsigned `dtype` can hold; leave floating point alone."""
    if dtype.kind != "u":
        return values
    limit = 2 ** (8 * dtype.itemsize) - 1
    np.floor(values + np.float32(0.5), out=values)
    return np.clip(values, 0, limit, out=values)


def resize(
    image: NDArray[Sample], scale: float, *, shape: tuple[int, int] | None = None
) -> NDArray[Sample]:
    """Resize `image` by `scale` with MATLAB-style bicubic interpolation.

    Args:
        image: (H, W) or (H, W, C), uint8, uint16 or floating point.
        scale: size of the result over size of the input, > 0.
        shape: (height, width) of the result; ceil(scale * size) by default, as in MATLAB.

    Returns:
        The resized picture in the input's dtype. Integers are rounded after each of the two passes, as
        `imresize` does; floating point values may overshoot their old range a little.

    Raises:
        UsageError: `scale` is not positive or `image` has no pixels.

    """
    if image.ndim not in {2, 3} or 0 in image.shape:
        raise UsageError(f"Expected a picture of shape (H, W) or (H, W, C) but got {image.shape}.")
    if not scale > 0:
        raise UsageError(f"Expected a scale above 0 but got {scale}.")
    height, width = shape or (math.ceil(scale * image.shape[0]), math.ceil(scale * image.shape[1]))
    values = image.astype(np.float32)
    values = _as_stored(_resize_rows(values, *_taps(image.shape[0], height, scale)), image.dtype)
    values = values.swapaxes(0, 1)
    values = _as_stored(_resize_rows(values, *_taps(image.shape[1], width, scale)), image.dtype)
    return np.ascontiguousarray(values.swapaxes(0, 1)).astype(image.dtype)
