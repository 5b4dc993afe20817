"""The routing map shows the picture through the colour of every tile's level, with a legend that all can read."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import rgb2lab

from classsr.routing_map import (
    COLOURS,
    LEAST_WIDTH,
    LONG_SIDE,
    OPACITY,
    Preview,
    draw_routing_map,
)
from classsr.tiles import TileGrid

Array = npt.NDArray[Any]

SCALE = 4
LABELS = ("SMALL", "MEDIUM", "LARGE")

# What dichromats see, on linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of
# Color Vision Deficiency", TVCG 2009, severity 1.0.
SEEN_BY = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def draw(image: Array, levels: Array, grid: TileGrid) -> Array:
    return draw_routing_map(image, levels, grid, LABELS).rgb


def linear(srgb: Array) -> Array:
    """Undo the sRGB curve (IEC 61966-2-1)."""
    low, high = srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4
    return np.where(srgb <= 0.04045, low, high)


def encoded(rgb: Array) -> Array:
    """Apply the sRGB curve."""
    rgb = rgb.clip(0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)


def test_a_tile_s_centre_blends_the_picture_and_the_colour_of_its_level() -> None:
    grid = TileGrid(40, 70, tile=16, step=16)
    image = noise(40 * SCALE, 70 * SCALE)
    levels = np.arange(len(grid)).reshape(grid.shape) % 3

    drawn = draw(image, levels, grid)

    for tile, level in zip(grid.tiles, levels.ravel().tolist(), strict=True):
        cell = grid.cell(tile).scaled(SCALE)
        centre = (cell.top + cell.bottom) // 2, (cell.left + cell.right) // 2
        expected = (1 - OPACITY) * image[centre] + OPACITY * np.array(COLOURS[level])
        np.testing.assert_allclose(drawn[centre], expected, atol=1)


def test_neither_the_picture_nor_the_colour_hides_the_other() -> None:
    assert 0.2 < OPACITY < 0.8


def test_the_legend_lies_below_and_shows_every_level_in_full_colour() -> None:
    grid = TileGrid(160, 200, tile=32, step=32)
    levels = np.zeros(grid.shape, int)

    drawn = draw(np.zeros((640, 800, 3), np.uint8), levels, grid)

    legend = drawn[640:]
    assert drawn.shape[1] == 800
    assert len(legend) >= 20 * len(LABELS)
    tops = [np.argwhere((legend == colour).all(axis=2))[:, 0].min() for colour in COLOURS[:3]]
    assert tops == sorted(tops)


def test_the_legend_tells_names_and_shares() -> None:
    grid = TileGrid(8, 64, tile=8, step=8)
    image = np.zeros((32, 256, 3), np.uint8)
    half = np.array([[0, 0, 0, 0, 2, 2, 2, 2]])

    drawn = draw(image, half, grid)
    other_share = draw(image, np.zeros((1, 8), int), grid)
    other_name = draw_routing_map(image, half, grid, ("SMALL", "MEDIUM", "HUGE")).rgb

    lines = np.array_split(np.arange(32 + 8, len(drawn)), 3)  # one per level
    same = [
        [(drawn[line] == other[line]).all() for line in lines]
        for other in (other_share, other_name)
    ]
    assert same == [[False, True, False], [True, True, False]]


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 1500), (1500, 1), (500, 600), (450, 120), (100, 130)]
)
def test_the_map_is_large_enough_for_the_legend_and_small_enough_to_look_at(
    height: int, width: int
) -> None:
    grid = TileGrid(height, width, tile=32, step=32)
    image = np.zeros((height * SCALE, width * SCALE, 3), np.uint8)

    drawn = draw(image, np.zeros(grid.shape, int), grid)

    assert drawn.dtype == np.uint8
    assert LEAST_WIDTH <= drawn.shape[1] <= LONG_SIDE
    assert drawn.shape[0] <= LONG_SIDE + 100  # the legend


# --- The small copy that it is drawn on ---


@pytest.mark.parametrize("size", [(1, 1), (50, 3), (1700, 40), (40, 5000), (3300, 3201)])
@pytest.mark.parametrize("rows", [1, 7, 128, 4000])
def test_the_small_copy_does_not_depend_on_the_strips(size: tuple[int, int], rows: int) -> None:
    image = noise(*size)
    at_once, in_strips = Preview(*size), Preview(*size)

    at_once.add(image)
    for top in range(0, size[0], rows):
        in_strips.add(image[top : top + rows])

    np.testing.assert_array_equal(in_strips.image, at_once.image)
    shrink = math.ceil(max(size) / LONG_SIDE)
    assert at_once.image.shape == (math.ceil(size[0] / shrink), math.ceil(size[1] / shrink), 3)
    corner = image[:shrink, :shrink].mean(axis=(0, 1))
    np.testing.assert_allclose(at_once.image[0, 0], corner, atol=1)


def test_16_bits_are_copied_like_the_8_nearest_to_them() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (160, 200, 3), np.uint16)
    copy = Preview(160, 200)

    copy.add(deep)

    np.testing.assert_allclose(copy.image.astype(int), np.rint(deep / 257), atol=1)


def test_the_colours_are_distinct() -> None:
    assert len(set(COLOURS)) == len(COLOURS)


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_no_common_colour_blindness_confuses_the_first_levels(eyes: str) -> None:
    seen = encoded(linear(np.array(COLOURS[:4]) / 255) @ SEEN_BY[eyes].T)

    lab = rgb2lab(seen)

    # A difference of 2.3 in CIELAB can just be noticed; 30 is plain at a glance.
    assert all(np.linalg.norm(a - b) > 30 for a, b in itertools.combinations(lab, 2))
