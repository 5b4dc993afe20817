"""Cells partition every picture, windows hold the real neighbours, and stitching undoes splitting."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classsr.errors import UsageError
from classsr.tiles import Box, TileGrid, accumulate, batches, coverage, pad_edges, place, split

Array = npt.NDArray[Any]

SIDES = st.integers(1, 150)
TILES = st.integers(1, 48)
HALOS = st.integers(0, 9)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def partitions(draw: st.DrawFn) -> TileGrid:
    """Grids without overlap."""
    tile = draw(TILES)
    return TileGrid(draw(SIDES), draw(SIDES), tile=tile, step=tile)


@st.composite
def overlapping(draw: st.DrawFn) -> TileGrid:
    tile = draw(st.integers(2, 48))
    step = draw(st.integers((tile + 3) // 4, tile - 1))  # at most 25 tiles over a pixel
    return TileGrid(draw(SIDES), draw(SIDES), tile=tile, step=step)


def noise(height: int, width: int, *, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3))


def repeat(windows: Array, scale: int) -> Array:
    """A fake network: enlarge the two axes before the last by repeating pixels."""
    return windows.repeat(scale, axis=-3).repeat(scale, axis=-2)


def look_up(image: Array, rows: Array, columns: Array) -> Array:
    """The pixels at these coordinates; beyond the border, the nearest pixel inside."""
    height, width = image.shape[:2]
    inside: Array = image[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    return inside


# --- Without overlap ---


@given(grid=partitions())
def test_cells_partition_the_picture(grid: TileGrid) -> None:
    used = np.zeros((grid.height, grid.width), int)
    for tile in grid.tiles:
        used[grid.cell(tile).slices] += 1

    assert (used == 1).all()


@given(grid=partitions())
def test_there_are_as_many_tiles_as_it_takes_to_cover_the_picture(grid: TileGrid) -> None:
    assert grid.shape == (math.ceil(grid.height / grid.tile), math.ceil(grid.width / grid.tile))
    assert len(grid) == math.prod(grid.shape)


@given(grid=partitions(), halo=HALOS, scale=st.integers(1, 4), size=st.integers(1, 9), seed=SEEDS)
def test_stitching_undoes_splitting(
    grid: TileGrid, halo: int, scale: int, size: int, seed: int
) -> None:
    image = noise(grid.height, grid.width, seed=seed)
    padded = pad_edges(image, halo=halo)
    out = np.full((grid.height * scale, grid.width * scale, 3), -1)
    anyhow = np.random.default_rng(seed).permutation(grid.tiles)

    for tiles in batches(anyhow, size):
        windows = repeat(split(padded, grid, tiles, halo=halo), scale)
        place(out, windows.transpose(0, 3, 1, 2), grid, tiles, halo=halo, scale=scale)

    np.testing.assert_array_equal(out, repeat(image, scale))


@given(grid=partitions(), halo=HALOS, scale=st.integers(1, 4), seed=SEEDS, data=st.data())
def test_a_block_holds_what_its_tiles_hold(
    grid: TileGrid, halo: int, scale: int, seed: int, data: st.DataObject
) -> None:
    image = noise(grid.height, grid.width, seed=seed)
    size = [data.draw(st.integers(1, most)) for most in grid.shape]
    row, column = (
        data.draw(st.integers(0, most - own)) for most, own in zip(grid.shape, size, strict=True)
    )
    block = np.array([[row, column, *size]])
    out = np.full((grid.height * scale, grid.width * scale, 3), -1)

    windows = repeat(split(pad_edges(image, halo=halo), grid, block, halo=halo), scale)
    place(out, windows.transpose(0, 3, 1, 2), grid, block, halo=halo, scale=scale)

    expected = np.full_like(out, -1)
    inside = grid.tiles[
        (grid.tiles[:, 0] >= row)
        & (grid.tiles[:, 0] < row + size[0])
        & (grid.tiles[:, 1] >= column)
        & (grid.tiles[:, 1] < column + size[1])
    ]
    for tile in inside:
        cell = grid.cell(tile).scaled(scale).slices
        expected[cell] = repeat(image, scale)[cell]
    np.testing.assert_array_equal(out, expected)


# --- Windows ---


@given(grid=partitions() | overlapping(), halo=HALOS, seed=SEEDS)
def test_every_window_is_surrounded_by_its_real_neighbours(
    grid: TileGrid, halo: int, seed: int
) -> None:
    image = noise(grid.height, grid.width, seed=seed)
    height, width = (min(grid.tile, side) + 2 * halo for side in (grid.height, grid.width))

    windows = split(pad_edges(image, halo=halo), grid, grid.tiles, halo=halo)

    assert windows.shape == (len(grid), height, width, 3)
    for window, tile in zip(windows, grid.tiles, strict=True):
        top, left = grid.origin(tile)
        rows, columns = top - halo + np.arange(height), left - halo + np.arange(width)
        np.testing.assert_array_equal(window, look_up(image, rows, columns))


@given(grid=partitions() | overlapping(), data=st.data())
def test_every_window_lies_inside_the_picture_and_holds_its_cell(
    grid: TileGrid, data: st.DataObject
) -> None:
    size = [data.draw(st.integers(1, most)) for most in grid.shape]
    height, width = grid.window(*size)

    for row in range(grid.shape[0] - size[0] + 1):
        block = np.array([row, data.draw(st.integers(0, grid.shape[1] - size[1])), *size])
        (top, left), cell = grid.origin(block), grid.cell(block)
        assert 0 <= top <= cell.top < cell.bottom <= top + height <= grid.height
        assert 0 <= left <= cell.left < cell.right <= left + width <= grid.width


@given(height=SIDES, width=SIDES, halo=HALOS, least=st.integers(1, 48), seed=SEEDS)
def test_padding_repeats_the_edge(
    height: int, width: int, halo: int, least: int, seed: int
) -> None:
    image = noise(height, width, seed=seed)
    rows, columns = (np.arange(-halo, max(side, least) + halo) for side in (height, width))

    padded = pad_edges(image, halo=halo, least=least)

    np.testing.assert_array_equal(padded, look_up(image, rows, columns))


def test_padding_by_nothing_copies_nothing() -> None:
    image = noise(5, 7, seed=0)

    assert pad_edges(image, halo=0, least=5) is image


def test_only_the_tiles_asked_for_are_split() -> None:
    grid = TileGrid(8, 12, tile=4, step=4)
    image = noise(8, 12, seed=0)

    windows = split(image, grid, grid.tiles[[4, 2]], halo=0)

    np.testing.assert_array_equal(windows, [image[4:, 4:8], image[:4, 8:]])


# --- With overlap ---


@given(grid=overlapping(), scale=st.integers(1, 4), size=st.integers(1, 9), seed=SEEDS)
def test_the_average_of_overlapping_windows_is_the_picture(
    grid: TileGrid, scale: int, size: int, seed: int
) -> None:
    image = noise(grid.height, grid.width, seed=seed).astype(np.float32)
    total = np.zeros((grid.height * scale, grid.width * scale, 3), np.float32)

    for tiles in batches(grid.tiles, size):
        windows = repeat(split(image, grid, tiles, halo=0), scale)
        accumulate(total, windows, grid, tiles, scale=scale)

    # Whole numbers below 2**24 are exact in float32, and so are their quotients by a divisor.
    np.testing.assert_array_equal(total / repeat(coverage(grid), scale), repeat(image, scale))


@given(grid=overlapping() | partitions())
def test_coverage_counts_the_windows_over_every_pixel(grid: TileGrid) -> None:
    height, width = grid.window()
    slow = np.zeros((grid.height, grid.width, 1))
    for top in grid.tops.tolist():
        for left in grid.lefts.tolist():
            slow[top : top + height, left : left + width] += 1

    np.testing.assert_array_equal(coverage(grid), slow)


@given(height=st.integers(1, 4000), width=st.integers(1, 4000))
def test_paper_tiling_has_one_tile_and_one_more_for_every_started_step(
    height: int, width: int
) -> None:
    def count(side: int) -> int:
        return 1 + math.ceil(max(side - 32, 0) / 28)

    assert TileGrid(height, width, tile=32, step=28).shape == (count(height), count(width))


@given(grid=overlapping())
def test_neighbouring_windows_overlap_at_least_by_tile_less_step(grid: TileGrid) -> None:
    for origins, side in ((grid.tops, grid.height), (grid.lefts, grid.width)):
        assert origins[0] == 0
        assert origins[-1] == max(side - grid.tile, 0)
        assert ((np.diff(origins) > 0) & (np.diff(origins) <= grid.step)).all()


def test_paper_tiling_of_a_known_picture() -> None:
    grid = TileGrid(70, 60, tile=32, step=28)

    assert grid.tops.tolist() == [0, 28, 38]
    assert grid.lefts.tolist() == [0, 28]
    assert grid.cell(grid.tiles[3]) == Box(28, 28, 60, 60)
    assert coverage(grid)[:, 0, 0].tolist() == [1] * 28 + [2] * 4 + [1] * 6 + [2] * 22 + [1] * 10


# --- Grids, boxes, batches ---


def test_a_picture_smaller_than_a_tile_is_one_tile_as_large_as_itself() -> None:
    grid = TileGrid(1, 20, tile=32, step=32)

    assert len(grid) == 1
    assert grid.window() == (1, 20)
    assert grid.cell(grid.tiles[0]) == Box(0, 0, 1, 20)


def test_the_last_window_moves_back_inside_but_its_cell_does_not() -> None:
    grid = TileGrid(32, 70, tile=32, step=32)

    assert [grid.origin(tile) for tile in grid.tiles] == [(0, 0), (0, 32), (0, 38)]
    assert grid.cell(grid.tiles[2]) == Box(0, 64, 32, 70)


def test_a_box_grows_with_the_picture() -> None:
    box = Box(1, 2, 3, 5).scaled(4)

    assert box == Box(4, 8, 12, 20)
    assert box.slices == (slice(4, 12), slice(8, 20))


@pytest.mark.parametrize(
    ("height", "width", "tile", "step", "told"),
    [
        (0, 5, 32, 32, "5x0"),
        (5, 0, 32, 32, "0x5"),
        (-1, 5, 32, 32, "5x-1"),
        (5, 5, 32, 0, "got 0"),
        (5, 5, 32, 33, "1 to 32"),
        (5, 5, 0, 0, "got 0"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(
    height: int, width: int, tile: int, step: int, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        TileGrid(height, width, tile=tile, step=step)


@given(count=st.integers(0, 60), size=st.integers(1, 70))
def test_batches_run_through_all_blocks_in_order(count: int, size: int) -> None:
    blocks = np.arange(4 * count).reshape(count, 4)

    runs = [run.tolist() for run in batches(blocks, size)]

    assert list(itertools.chain(*runs)) == blocks.tolist()
    assert all(len(run) == size for run in runs[:-1])
    assert all(1 <= len(run) <= size for run in runs)
