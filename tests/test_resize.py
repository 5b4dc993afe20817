"""Resizing agrees with MATLAB's reference pictures, with Pillow and with a slow copy of the definition.

`slow_resize` is written from the definition of `imresize` alone, in double precision and one pixel at a time: Keys'
cubic with a = -0.5, widened when shrinking, weights scaled to sum 1, repeated edges, the vertical pass first,
integers rounded after each pass.
"""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classsr.errors import UsageError
from classsr.image import find_pictures, read
from classsr.resize import resize

Array = npt.NDArray[Any]

ROUNDING = 5e-4  # of sums in float32 that stay below 512

sides = st.integers(1, 12)
scales = st.sampled_from([1 / 4, 1 / 3, 0.37, 1 / 2, 0.6, 0.7, 0.9, 1.0, 1.3, 2.0, 3.0, 4.0])
seeds = st.integers(0, 2**32 - 1)


def noise(*shape: int, seed: int = 0, low: int = 0, high: int = 255) -> Array:
    samples: Array = np.random.default_rng(seed).integers(low, high, shape, np.uint8, endpoint=True)
    return samples


def keys(x: float) -> float:
    """Keys' kernel in its general form with a = -0.5."""
    a, x = -0.5, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def inside(index: int, size: int) -> int:
    """The place 0 <= index < size that a place outside shows: ... 0 0 | 0 1 2 | 2 2 ..."""
    return min(max(index, 0), size - 1)


def slow_pixel(line: list[float], place: int, scale: float) -> float:
    """One pixel of a resized line."""
    shrink = min(scale, 1.0)
    centre = (place + 0.5) / scale - 0.5
    reach = math.ceil(2 / shrink) + 1
    total = weights = 0.0
    for source in range(math.floor(centre) - reach, math.floor(centre) + reach + 2):
        weight = keys((centre - source) * shrink)
        total += weight * line[inside(source, len(line))]
        weights += weight
    return total / weights


def slow_pass(plane: Array, scale: float) -> Array:
    """Resize the first axis of (H, W), unrounded."""
    out = np.empty((math.ceil(scale * plane.shape[0]), plane.shape[1]))
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = slow_pixel(plane[:, x].tolist(), y, scale)
    return out


def stored(plane: Array) -> Array:
    return np.clip(np.floor(plane + 0.5), 0, 255)


def near_a_tie(plane: Array) -> Array:
    """Where float32 and double precision may round to different integers."""
    near: Array = np.abs(plane - np.floor(plane) - 0.5) < ROUNDING
    return near


def slow_resize(plane: Array, scale: float) -> tuple[Array, Array]:
    """Resize (H, W) of 8 bits; the result and where it is certain in spite of float32."""
    rows = slow_pass(plane, scale)
    columns = slow_pass(stored(rows).T, scale).T
    doubtful_row = np.array([[line.any()] for line in near_a_tie(rows)])
    doubtful = doubtful_row | near_a_tie(columns)
    return stored(columns), ~doubtful


# --- Against independent references ---


@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14), ("BSD100", 12)])
def test_lr_equals_the_reference_up_to_the_border(data: Path, name: str, count: int) -> None:
    folder = data / "benchmark" / name
    pairs = list(zip(find_pictures(folder / "HR"), find_pictures(folder / "LR_x4"), strict=True))

    for hr, lr in pairs[:count]:
        np.testing.assert_array_equal(resize(read(hr).rgb, 1 / 4), read(lr).rgb)


@settings(max_examples=60)
@given(height=sides, width=sides, scale=scales, seed=seeds)
def test_eight_bits_equal_the_slow_definition(
    height: int, width: int, scale: float, seed: int
) -> None:
    image = noise(height, width, seed=seed)
    expected, certain = slow_resize(image, scale)

    resized = resize(image, scale)

    assert resized.shape == expected.shape
    np.testing.assert_array_equal(resized[certain], expected[certain])
    np.testing.assert_allclose(resized.astype(int), expected, rtol=0, atol=2)


@settings(max_examples=60)
@given(height=sides, width=sides, scale=scales, seed=seeds)
def test_floating_point_equals_the_slow_definition(
    height: int, width: int, scale: float, seed: int
) -> None:
    image = noise(height, width, seed=seed).astype(np.float64)

    expected = slow_pass(slow_pass(image, scale).T, scale).T

    np.testing.assert_allclose(resize(image, scale), expected, rtol=0, atol=2 * ROUNDING)


@pytest.mark.parametrize("scale", [Fraction(1, 4), Fraction(1, 2), Fraction(3, 5), Fraction(4)])
def test_floating_point_agrees_with_pillow_away_from_borders(scale: Fraction) -> None:
    image = noise(80, 60).astype(np.float32)
    height, width = int(80 * scale), int(60 * scale)
    margin = 2 * math.ceil(scale)

    pillow = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))

    inner = np.s_[margin:-margin, margin:-margin]
    np.testing.assert_allclose(
        resize(image, float(scale))[inner], pillow[inner], rtol=0, atol=2 * ROUNDING
    )


# --- Laws ---


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=scales,
    value=st.integers(0, 65535),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_constant_pictures_stay_constant(
    height: int, width: int, scale: float, value: int, dtype: type[np.unsignedinteger[Any]]
) -> None:
    image = np.full((height, width, 3), value % (np.iinfo(dtype).max + 1), dtype)

    resized = resize(image, scale)

    assert resized.shape == (math.ceil(scale * height), math.ceil(scale * width), 3)
    assert (resized == image[0, 0]).all()


@given(size=st.integers(1, 40), scale=st.floats(0.05, 8))
def test_the_weights_of_a_pixel_sum_to_one(size: int, scale: float) -> None:
    one_pixel_each = np.eye(size, dtype=np.float32)[:, None, :]  # channel i is 1 at row i

    weights = resize(one_pixel_each, scale)

    np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=0, atol=1e-5)


@given(height=st.integers(1, 24), width=st.integers(1, 24), scale=scales, seed=seeds)
def test_a_transposed_picture_gives_the_transposed_result(
    height: int, width: int, scale: float, seed: int
) -> None:
    # Values whose overshoot is never clipped. Each pass rounds once, so that the two orders differ by at most 2.
    image = noise(height, width, 3, seed=seed, low=64, high=191)
    turned = image.swapaxes(0, 1)

    resized = resize(turned, scale).swapaxes(0, 1)

    np.testing.assert_allclose(resized.astype(int), resize(image, scale), rtol=0, atol=2)
    np.testing.assert_allclose(
        resize(turned.astype(np.float32), scale).swapaxes(0, 1),
        resize(image.astype(np.float32), scale),
        rtol=0,
        atol=2 * ROUNDING,
    )


@given(
    tall=st.integers(1, 8),
    wide=st.integers(1, 8),
    scale=st.sampled_from([Fraction(1, 4), Fraction(2, 3), Fraction(3, 5), Fraction(2)]),
    seed=seeds,
)
def test_a_mirrored_picture_gives_the_mirrored_result(
    tall: int, wide: int, scale: Fraction, seed: int
) -> None:
    # Sides that the scale divides: otherwise the result ends between two pixels on one side only.
    image = noise(tall * scale.denominator, wide * scale.denominator, seed=seed).astype(np.float32)

    resized = resize(image[::-1, ::-1], float(scale))[::-1, ::-1]

    np.testing.assert_allclose(resized, resize(image, float(scale)), rtol=0, atol=2 * ROUNDING)


@given(
    height=sides,
    width=sides,
    seed=seeds,
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_scale_one_changes_nothing(height: int, width: int, seed: int, dtype: type[Any]) -> None:
    image = (noise(height, width, 3, seed=seed) * dtype(200)).astype(dtype)

    np.testing.assert_array_equal(resize(image, 1.0), image)


def test_channels_do_not_touch_each_other() -> None:
    image = noise(13, 9, 3)

    apart = [resize(image[:, :, channel], 0.6) for channel in range(3)]

    np.testing.assert_array_equal(resize(image, 0.6), np.stack(apart, axis=2))


# --- Kinds of numbers ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_dtype_and_channels_are_kept(dtype: type[Any], shape: tuple[int, ...]) -> None:
    resized = resize(noise(*shape).astype(dtype), 0.5)

    assert resized.dtype == dtype
    assert resized.shape == (5, 4, *shape[2:])


def test_sixteen_bits_keep_their_precision() -> None:
    image = noise(40, 40).astype(np.uint16) * 257

    resized = resize(image, 1 / 4)

    exact = resize(image.astype(np.float64), 1 / 4)
    np.testing.assert_allclose(resized, exact, rtol=0, atol=1.2)  # rounded once per pass


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_overshoot_is_clipped_not_wrapped(dtype: type[np.unsignedinteger[Any]]) -> None:
    image = np.zeros((8, 8), dtype)
    image[:, 4:] = np.iinfo(dtype).max

    resized = resize(image, 4)

    assert resized[:, :15].max() < np.iinfo(dtype).max // 2
    assert resized[:, -15:].min() > np.iinfo(dtype).max // 2


def test_a_result_of_another_shape_shows_the_same_part_of_the_picture() -> None:
    image = noise(20, 20)

    np.testing.assert_array_equal(resize(image, 0.5, shape=(7, 6)), resize(image, 0.5)[:7, :6])


def test_the_input_is_left_alone() -> None:
    image = noise(9, 9, 3).astype(np.float32)
    before = image.copy()

    resize(image, 0.5)

    np.testing.assert_array_equal(image, before)


# --- Errors ---


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 3), (4,), (1, 4, 4, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"\(H, W\) or \(H, W, C\) but got"):
        resize(np.zeros(shape, np.uint8), 0.5)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_that_is_not_positive_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="scale above 0"):
        resize(np.zeros((4, 4), np.uint8), scale)
