"""Blocks cover every tile once, at no easier level than it was routed to, and never for more than tiles alone."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classsr.plan import SIDES, Cost, Group, levels_run, merge, single
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


def price(groups: list[Group], grid: TileGrid, costs: list[Cost]) -> float:
    return sum(
        len(group.blocks) * costs[group.level].window(*grid.window(*group.blocks[0, 2:].tolist()))
        for group in groups
    )


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
    assert np.isin(run, levels).all()


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
        price(how, grid, costs) for how in (merge(levels, grid, costs), single(levels, grid))
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
