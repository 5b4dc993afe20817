"""How close a result is to its reference: PSNR, SSIM and the luma channel they are often taken on.

Channel, range and border are the caller's to name; nothing here guesses them from pixel values,
reads a picture or knows which network made it.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from classsr.errors import UsageError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

# Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1 = 0.01
SSIM_K2 = 0.03

# Rows compared at a time, so that memory does not grow with the picture.
BAND_ROWS = 32

# MATLAB's rgb2ycbcr: ITU-R BT.601, R, G and B from 0 to 1, Y from 16 to 235.
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966])
LUMA_OFFSET = 16.0


def psnr(sr: Array, hr: Array, *, data_range: float, border: int) -> float:
    """Return the peak signal-to-noise ratio of `sr` against `hr` in dB, infinite where equal.

    Args:
        sr: the result, (H, W) or (H, W, C), of any number type.
        hr: the reference, of the same shape.
        data_range: the distance from black to white, 255 for uint8.
        border: pixels left out along each edge.

    Raises:
        UsageError: the shapes differ, nothing is left inside the border, or an option is negative.
    """
    sr, hr = _inside(sr, hr, data_range=data_range, border=border)
    squared_error = 0.0
    for rows in row_bands(sr.shape[0], BAND_ROWS):
        difference = sr[rows].astype(np.float64) - hr[rows]
        squared_error += float(np.vdot(difference, difference))
    if squared_error == 0.0:
        return float("inf")
    return float(10.0 * np.log10(data_range**2 * sr.size / squared_error))


def ssim(sr: Array, hr: Array, *, data_range: float, border: int) -> float:
    """Return the mean structural similarity of `sr` and `hr`, 1 where equal; channels are averaged.

    Follows Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", TIP 2004: Gaussian window, only where the window fits, without downsampling first.

    Args:
        sr: the result, (H, W) or (H, W, C), of any number type.
        hr: the reference, of the same shape.
        data_range: the distance from black to white, 255 for uint8.
        border: pixels left out along each edge before the window is applied.

    Raises:
        UsageError: the shapes differ, less than one window is left inside the border, or an
            option is negative.
    """
    sr, hr = _inside(sr, hr, data_range=data_range, border=border)
    if min(sr.shape[:2]) < SSIM_WINDOW:
        raise UsageError(
            f"Expected at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels inside the border for SSIM "
            f"but got {sr.shape[1]}x{sr.shape[0]}."
        )
    margin = SSIM_WINDOW - 1

    def of_band(rows: slice) -> float:
        window_rows = slice(rows.start, rows.stop + margin)
        return float(_ssim_map(sr[window_rows], hr[window_rows], data_range=data_range).sum())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        total = sum(pool.map(of_band, row_bands(sr.shape[0] - margin, BAND_ROWS)))
    windows = (sr.shape[0] - margin) * (sr.shape[1] - margin) * sr[0, 0].size
    return float(total / windows)


def luma(rgb: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the luma of an (H, W, 3) RGB uint8 image as (H, W), 16 for black to 235 for white.

    The formula is that of MATLAB's rgb2ycbcr, on which published PSNR "on Y" rests, but without
    its rounding to whole numbers.

    Raises:
        UsageError: `rgb` is not (H, W, 3) uint8.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise UsageError(
            f"Expected an (H, W, 3) uint8 image for luma but got {rgb.shape} {rgb.dtype}."
        )
    luminance: FloatArray = rgb @ (LUMA_WEIGHTS / 255.0)
    luminance += LUMA_OFFSET
    return luminance


def _inside(sr: Array, hr: Array, *, data_range: float, border: int) -> tuple[Array, Array]:
    """Check that the two can be compared and return them without their border."""
    if sr.shape != hr.shape:
        raise UsageError(f"Expected SR and HR of one shape but got {sr.shape} and {hr.shape}.")
    if sr.ndim not in (2, 3):
        raise UsageError(f"Expected images of shape (H, W) or (H, W, C) but got {sr.shape}.")
    if not data_range > 0:
        raise UsageError(f"Expected data_range to be positive but got {data_range}.")
    if border < 0:
        raise UsageError(f"Expected border to be 0 or more pixels but got {border}.")
    height, width = sr.shape[:2]
    inner = (slice(border, height - border), slice(border, width - border))
    if min(height, width) <= 2 * border or sr.size == 0:
        raise UsageError(
            f"Expected pixels inside a border of {border} but got an image of {width}x{height}."
        )
    return sr[inner], hr[inner]


def row_bands(height: int, rows: int) -> Iterator[slice]:
    """Cut `height` rows into consecutive bands of at most so many."""
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _ssim_map(sr: Array, hr: Array, *, data_range: float) -> FloatArray:
    """Return the local SSIM wherever the window fits: (H - 10, W - 10) or (H - 10, W - 10, C)."""
    x = sr.astype(np.float64)
    y = hr.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    squared_means, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances = _blur(x * x + y * y) - squared_means
    covariance = _blur(x * y) - product
    c1 = (SSIM_K1 * data_range) ** 2
    c2 = (SSIM_K2 * data_range) ** 2
    similarity: FloatArray = (2 * product + c1) * (2 * covariance + c2)
    similarity /= (squared_means + c1) * (variances + c2)
    return similarity


def _blur(image: FloatArray) -> FloatArray:
    """Weight each window's pixels with the Gaussian, rows first; only where the window fits."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    height = image.shape[0] - SSIM_WINDOW + 1
    width = image.shape[1] - SSIM_WINDOW + 1
    vertical = np.zeros((height, *image.shape[1:]))
    for offset, weight in enumerate(weights):
        vertical += weight * image[offset : offset + height]
    both = np.zeros((height, width, *image.shape[2:]))
    for offset, weight in enumerate(weights):
        both += weight * vertical[:, offset : offset + width]
    return both
