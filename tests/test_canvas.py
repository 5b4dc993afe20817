"""Windows come together rounded, each in its cell; where levels meet the harder one fades out; bands do not show."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classsr.canvas import FEATHER, PlacedCanvas, to_network
from classsr.image import Header
from classsr.plan import Cost, Group, levels_run, merge, single
from classsr.tiles import TileGrid

SCALE, TILE, HALO = 4, 8, 2
REACH = FEATHER * SCALE
Levels = npt.NDArray[np.int64]


@st.composite
def maps(draw: st.DrawFn) -> tuple[TileGrid, Levels]:
    """Any picture of some tiles, and the level at which each is run."""
    grid = TileGrid(draw(st.integers(1, 60)), draw(st.integers(1, 60)), tile=TILE, step=TILE)
    return grid, draw(arrays(np.int64, grid.shape, elements=st.integers(0, 2)))


def header(grid: TileGrid, **more: Any) -> Header:  # noqa: ANN401 - passed on
    """What is known of a picture that has this grid."""
    return Header(grid.height, grid.width, **more)


def painted(grid: TileGrid, group: Group, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Windows of the group, each filled with the value of its level."""
    height, width = (SCALE * (side + 2 * HALO) for side in grid.window(*group.blocks[0, 2:]))
    value = np.float32(values[group.level] / 255)
    return np.full((len(group.blocks), 3, height, width), value, np.float32)


def run(
    grid: TileGrid, levels: Levels, bands: list[range], values: tuple[float, ...] = (0, 100, 200)
) -> npt.NDArray[Any]:
    """Paint every level in a grey of its own, band by band."""
    canvas = PlacedCanvas(grid, levels, header(grid), scale=SCALE)
    strips = []
    for rows in bands:
        canvas.begin(rows)
        for group in single(levels[rows.start : rows.stop], grid, first=rows.start):
            canvas.add(painted(grid, group, np.array(values)), group.blocks, HALO)
        strips.append(canvas.finish())
    return np.concatenate(strips)


def whole(grid: TileGrid) -> list[range]:
    return [range(grid.shape[0])]


@given(case=maps())
def test_within_a_cell_nothing_but_its_level_is_seen_or_a_harder_one(
    case: tuple[TileGrid, Levels],
) -> None:
    grid, levels = case

    out = run(grid, levels, whole(grid))

    assert out.shape == (SCALE * grid.height, SCALE * grid.width, 3)
    for tile, level in zip(grid.tiles, levels.ravel().tolist(), strict=True):
        cell = out[grid.cell(tile).scaled(SCALE).slices]
        assert cell.min() >= 100 * level
        inner = cell[REACH:-REACH, REACH:-REACH]
        assert (inner == 100 * level).all()


@pytest.mark.parametrize("turn", range(4))
def test_a_harder_level_fades_out_over_its_easier_neighbour(turn: int) -> None:
    levels = np.rot90(np.array([[1, 0]]), turn)
    rows, columns = levels.shape
    grid = TileGrid(rows * TILE, columns * TILE, tile=TILE, step=TILE)

    out = np.rot90(run(grid, levels, whole(grid)), -turn)

    fading = 100 * (1 - (np.arange(REACH) + 0.5) / REACH)
    expected = np.concatenate([np.full(32, 100), np.floor(fading + 0.5), np.zeros(32 - REACH)])
    np.testing.assert_array_equal(out, np.tile(expected[:, None], (32, 1, 3)))


def test_one_level_everywhere_has_no_feather() -> None:
    grid = TileGrid(3 * TILE, 3 * TILE, tile=TILE, step=TILE)
    canvas = PlacedCanvas(grid, np.ones(grid.shape, np.int64), header(grid), scale=SCALE)
    canvas.begin(range(3))

    for n, tile in enumerate(grid.tiles):
        side = SCALE * (TILE + 2 * HALO)
        canvas.add(np.full((1, 3, side, side), np.float32(n / 255)), tile[None], HALO)

    out = canvas.finish()[:, :, 0]
    expected = np.arange(9).reshape(3, 3).repeat(SCALE * TILE, 0).repeat(SCALE * TILE, 1)
    np.testing.assert_array_equal(out, expected)


@given(case=maps(), data=st.data())
@settings(max_examples=60)
def test_bands_make_no_difference(case: tuple[TileGrid, Levels], data: st.DataObject) -> None:
    grid, levels = case
    rows = grid.shape[0]
    cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1)))) if rows > 1 else []
    ends = [0, *cuts, rows]
    bands = [range(a, b) for a, b in pairwise(ends)]

    out = run(grid, levels, bands)

    difference = np.abs(out.astype(int) - run(grid, levels, whole(grid)))
    # Two feathers that cross at a corner may be laid in the other order.
    for row in cuts:
        edge = SCALE * TILE * row
        difference[edge - REACH : edge + REACH] = np.where(
            _at_corners(grid)[edge - REACH : edge + REACH],
            0,
            difference[edge - REACH : edge + REACH],
        )
    assert difference.max() <= 1


def _at_corners(grid: TileGrid) -> npt.NDArray[np.bool_]:
    x = np.arange(SCALE * grid.width) % (SCALE * TILE)
    near = (x < REACH) | (x >= SCALE * TILE - REACH)
    return np.broadcast_to(near[None, :, None], (SCALE * grid.height, SCALE * grid.width, 3))


@given(case=maps())
def test_blocks_and_tiles_look_the_same(case: tuple[TileGrid, Levels]) -> None:
    grid, levels = case
    groups = merge(levels, grid, [Cost(1.0, HALO), Cost(2.0, HALO), Cost(4.0, HALO)])
    levels = levels_run(groups, grid.shape)
    canvas = PlacedCanvas(grid, levels, header(grid), scale=SCALE)
    canvas.begin(range(grid.shape[0]))

    for group in groups:
        canvas.add(painted(grid, group, np.array([0, 100, 200])), group.blocks, HALO)

    np.testing.assert_array_equal(canvas.finish(), run(grid, levels, whole(grid)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_stretched_rounded_and_cut_off(dtype: type) -> None:
    limit = np.iinfo(dtype).max
    grid = TileGrid(1, 1, tile=TILE, step=TILE)
    values = np.linspace(-0.2, 1.2, 3 * SCALE**2, dtype=np.float32).reshape(1, 3, SCALE, SCALE)
    canvas = PlacedCanvas(
        grid,
        np.zeros((1, 1), np.int64),
        header(grid, depth=8 * np.dtype(dtype).itemsize),
        scale=SCALE,
    )
    canvas.begin(range(1))

    canvas.add(values.copy(), grid.tiles, 0)

    expected = np.clip(values[0].astype(np.float64) * limit, 0, limit).transpose(1, 2, 0)
    np.testing.assert_allclose(canvas.finish(), expected, atol=0.502)


def test_grey_stays_grey() -> None:
    grid = TileGrid(1, 1, tile=TILE, step=TILE)
    values = np.zeros((1, 3, SCALE, SCALE), np.float32)
    values[:, 1] = 0.3
    canvas = PlacedCanvas(grid, np.zeros((1, 1), np.int64), header(grid, is_grey=True), scale=SCALE)
    canvas.begin(range(1))

    canvas.add(values, grid.tiles, 0)

    assert (canvas.finish() == round(255 * 0.1)).all()


@given(dtype=st.sampled_from([np.uint8, np.uint16]), seed=st.integers(0, 9))
def test_networks_see_planes_from_0_to_1(dtype: type, seed: int) -> None:
    limit = np.iinfo(dtype).max
    windows = np.random.default_rng(seed).integers(0, limit, (2, 5, 7, 3), dtype, endpoint=True)

    batch = to_network(windows)

    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    np.testing.assert_allclose(batch, windows.transpose(0, 3, 1, 2) / limit, rtol=1e-6)
