"""Blocks cover every tile once, at no easier level than it was routed to, and never for more than tiles alone."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classsr.plan import SIDES, Cost, bands, cover, levels_run, merge, single, spent
from classsr.tiles import TileGrid

TILE = 8
Levels = npt.NDArray[np.int64]


@st.composite
def maps(draw: st.DrawFn) -> tuple[Levels, TileGrid, list[Cost]]:
    """The levels of the tiles of any picture, and what levels cost, rising with the level."""
    grid = TileGrid(draw(st.integers(1, 90)), draw(st.integers(1, 90)), tile=TILE, step=TILE)
    most = draw(st.integers(1, 4))
    levels = draw(arrays(np.int64, grid.shape, elements=st.integers(0, most - 1)))
    prices = sorted(draw(st.lists(st.floats(0.1, 10), min_size=most, max_size=most)))
    costs = [Cost(p, draw(st.integers(0, 4)), draw(st.floats(0, 500))) for p in prices]
    return levels, grid, costs


@given(case=maps())
def test_every_tile_lies_in_one_block(case: tuple[Levels, TileGrid, list[Cost]]) -> None:
    levels, grid, costs = case
    covered = np.zeros(grid.shape, int)

    for group in merge(levels, grid, costs):
        for row, column, rows, columns in group.blocks.tolist():
            assert {rows, columns} <= set(SIDES)
            covered[row : row + rows, column : column + columns] += 1

    assert (covered == 1).all()


@given(case=maps())
def test_no_tile_is_run_at_an_easier_level(case: tuple[Levels, TileGrid, list[Cost]]) -> None:
    levels, grid, costs = case

    run = levels_run(merge(levels, grid, costs), grid.shape)

    assert (run >= levels).all()


@given(case=maps())
def test_groups_run_from_the_easiest_level_to_the_hardest(
    case: tuple[Levels, TileGrid, list[Cost]],
) -> None:
    groups = merge(*case)

    run = [group.level for group in groups]
    assert run == sorted(run)
    sizes = [(group.level, *group.blocks[0, 2:].tolist()) for group in groups]
    assert len(set(sizes)) == len(sizes)
    assert all((group.blocks[:, 2:] == group.blocks[0, 2:]).all() for group in groups)


@pytest.mark.parametrize("halo", [1, 2, 4])
def test_one_level_is_run_in_the_largest_blocks(halo: int) -> None:
    grid = TileGrid(24 * TILE, 16 * TILE, tile=TILE, step=TILE)

    (group,) = merge(np.zeros(grid.shape, np.int64), grid, [Cost(1.0, halo)])

    assert group.blocks[:, 2:].tolist() == [[8, 8]] * 6


def test_merging_saves_what_halos_cost() -> None:
    rng = np.random.default_rng(0)
    grid = TileGrid(40 * TILE, 60 * TILE, tile=TILE, step=TILE)
    smooth = rng.random((10, 15)).repeat(4, axis=0).repeat(4, axis=1)
    levels = (3 * smooth).astype(np.int64)
    costs = [Cost(1.0, 1), Cost(2.0, 1), Cost(6.0, 1)]

    merged, alone = (
        spent(how, grid, costs) for how in (merge(levels, grid, costs), single(levels, grid))
    )

    bare = sum(costs[k].per_pixel * TILE**2 for k in levels.ravel().tolist())
    assert alone == pytest.approx(bare * (TILE + 2) ** 2 / TILE**2)
    assert merged < bare * 1.15


def test_an_easy_tile_among_hard_ones_goes_with_them() -> None:
    grid = TileGrid(4 * TILE, 4 * TILE, tile=TILE, step=TILE)
    levels = np.ones(grid.shape, np.int64)
    levels[1, 2] = 0

    (group,) = merge(levels, grid, [Cost(1.0, 2), Cost(4.0, 2)])

    assert (group.level, group.blocks.tolist()) == (1, [[0, 0, 4, 4]])


def test_a_hard_tile_among_easy_ones_stays_alone() -> None:
    grid = TileGrid(4 * TILE, 4 * TILE, tile=TILE, step=TILE)
    levels = np.zeros(grid.shape, np.int64)
    levels[1, 2] = 1

    run = levels_run(merge(levels, grid, [Cost(1.0, 2), Cost(100.0, 2)]), grid.shape)

    np.testing.assert_array_equal(run, levels)


@given(case=maps())
def test_single_runs_every_tile_alone_at_its_level(
    case: tuple[Levels, TileGrid, list[Cost]],
) -> None:
    levels, grid, _ = case

    groups = single(levels, grid)

    np.testing.assert_array_equal(levels_run(groups, grid.shape), levels)
    assert sum(len(group.blocks) for group in groups) == len(grid)
    assert all((group.blocks[:, 2:] == 1).all() for group in groups)


def test_a_window_costs_its_pixels_with_halo() -> None:
    assert Cost(2.0, 3, 5.0).window(10, 20) == 5 + 2 * 16 * 26


# --- Errors and costs weighed against each other ---


@given(case=maps(), price=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_a_cover_is_no_worse_than_tiles_that_choose_alone(
    case: tuple[Levels, TileGrid, list[Cost]], price: float, seed: int
) -> None:
    levels, grid, costs = case
    errors = np.random.default_rng(seed).random((*levels.shape, len(costs))) * 1e4

    groups = cover(errors, grid, costs, price=price)

    run = levels_run(groups, grid.shape)
    assert (run >= 0).all()
    found = np.take_along_axis(errors, run[:, :, None], axis=2).sum()
    found += price * spent(groups, grid, costs)
    each = [price * cost.window(*grid.window()) for cost in costs]
    assert found <= (errors + np.array(each)).min(axis=2).sum() * (1 + 1e-9)


def test_a_tile_that_gains_little_goes_with_its_easier_neighbours() -> None:
    grid = TileGrid(4 * TILE, 4 * TILE, tile=TILE, step=TILE)
    costs = [Cost(1.0, 2), Cost(4.0, 2)]
    errors = np.zeros((4, 4, 2))
    errors[1, 2, 0] = 4 * (TILE + 4) ** 2 - (TILE + 4) ** 2  # what a window of its own costs more

    (group,) = cover(errors, grid, costs, price=1.0)

    assert (group.level, group.blocks.tolist()) == (0, [[0, 0, 4, 4]])


def test_an_infinite_error_rules_a_level_out() -> None:
    grid = TileGrid(3 * TILE, 3 * TILE, tile=TILE, step=TILE)
    errors = np.zeros((3, 3, 2))
    errors[2, 0, 0] = np.inf

    run = levels_run(cover(errors, grid, [Cost(1.0, 0), Cost(9.0, 0)], price=1.0), grid.shape)

    assert run.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


# --- Bands ---


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    pixels=st.integers(1, 10**6),
    most=st.integers(1, 10**6),
)
def test_bands_follow_each_other_and_hold_whole_blocks(
    height: int, width: int, pixels: int, most: int
) -> None:
    grid = TileGrid(height, width, tile=TILE, step=TILE)

    found = bands(grid, pixels, most=most)

    assert [row for rows in found for row in rows] == list(range(grid.shape[0]))
    largest = max(SIDES)
    for rows in found[:-1]:
        assert len(rows) in SIDES or len(rows) % largest == 0
        area = len(rows) * TILE * width
        assert area <= (pixels if len(rows) > largest else most) or len(rows) == 1


def test_bands_are_as_high_as_they_may_be() -> None:
    grid = TileGrid(40 * TILE, TILE, tile=TILE, step=TILE)

    def highest(pixels: int, most: int) -> int:
        return len(bands(grid, pixels * TILE**2, most=most * TILE**2)[0])

    assert highest(1, 8) == highest(15, 8) == highest(1, 40) == 8
    assert highest(16, 8) == highest(23, 40) == 16
    assert highest(40, 7) == highest(1, 4) == 4


@given(case=maps(), data=st.data())
def test_a_part_of_the_rows_is_covered_in_its_place(
    case: tuple[Levels, TileGrid, list[Cost]], data: st.DataObject
) -> None:
    levels, grid, costs = case
    first = data.draw(st.integers(0, len(levels) - 1))
    last = data.draw(st.integers(first + 1, len(levels)))

    for groups in (
        merge(levels[first:last], grid, costs, first=first),
        single(levels[first:last], grid, first=first),
    ):
        run = levels_run(groups, grid.shape)
        assert (run[first:last] >= levels[first:last]).all()
        assert (np.delete(run, range(first, last), axis=0) == -1).all()
