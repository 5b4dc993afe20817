"""The places found are those where methods differ most, and what is cut and drawn there is what was given."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from classsr.comparison import (
    BAND_ROWS,
    HEAT_COLOURS,
    LONG_SIDE,
    Comparison,
    compare,
    draw_heat_map,
    find_places,
    squared_errors,
    window_sums,
)
from classsr.errors import UsageError
from classsr.metrics import psnr
from classsr.tiles import Box, TileGrid

Array = npt.NDArray[Any]

SCALE = 2
SIDE = 16
SIZES = st.integers(1, 60)


def noise(height: int, width: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def spoilt(hr: npt.NDArray[np.uint8], box: Box, amount: int) -> npt.NDArray[np.uint8]:
    """HR with every sample inside a box of LR pixels wrong by `amount`."""
    sr = hr.copy()
    inside = box.scaled(SCALE).slices
    sr[inside] = np.where(sr[inside] < 128, sr[inside] + amount, sr[inside] - amount)
    return sr


def windows_of(height: int, width: int) -> TileGrid:
    return TileGrid(height, width, tile=SIDE, step=SIDE // 2)


def look(lr: Array, hr: Array, methods: dict[str, Array], *, places: int = 2) -> Comparison:
    grid = TileGrid(lr.shape[0], lr.shape[1], tile=8, step=8)
    levels = np.arange(len(grid)).reshape(grid.shape) % 3
    return compare(
        lr,
        hr,
        methods,
        routed="routed",
        hardest="hardest",
        levels=levels,
        grid=grid,
        places=places,
        side=SIDE,
    )


def apart(a: Box, b: Box) -> bool:
    """Whether half a window lies between two boxes."""
    gap = SIDE // 2
    rows = max(a.top, b.top) - min(a.bottom, b.bottom)
    columns = max(a.left, b.left) - min(a.right, b.right)
    return rows >= gap or columns >= gap


# --- Finding places ---


@given(SIZES, SIZES, st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_no_window_that_is_free_has_a_larger_gap_than_one_that_is_taken(
    height: int, width: int, count: int, seed: int
) -> None:
    windows = windows_of(height, width)
    gaps = np.random.default_rng(seed).integers(-5, 50, windows.shape)

    found = find_places(gaps, windows, count=count)

    gap_at = {windows.cell(t): g for t, g in zip(windows.tiles, gaps.ravel().tolist(), strict=True)}
    for step in range(count):
        free = [box for box in gap_at if all(apart(box, other) for other in found[:step])]
        largest = max([gap_at[box] for box in free], default=0)
        if largest <= 0:
            assert len(found) <= step
            break
        assert found[step] in free
        assert gap_at[found[step]] == largest


def test_what_is_taken_already_is_not_found_again() -> None:
    windows = windows_of(16, 64)
    gaps = np.array([[9, 8, 7, 0, 5, 0, 3]])
    first = find_places(gaps, windows, count=1)

    then = find_places(gaps, windows, count=1, taken=first)

    assert (first, then) == ([Box(0, 0, 16, 16)], [Box(0, 32, 16, 48)])


@given(SIZES, SIZES)
def test_a_window_s_sum_is_that_of_its_values(height: int, width: int) -> None:
    windows = windows_of(height, width)
    values = np.random.default_rng(0).integers(0, 1000, (height, width))

    sums = window_sums(values, windows)

    expected = [values[windows.cell(tile).slices].sum() for tile in windows.tiles]
    assert sums.ravel().tolist() == expected


@pytest.mark.parametrize("height", [1, BAND_ROWS, BAND_ROWS + 1])
def test_squared_errors_add_up_to_the_psnr(height: int) -> None:
    sr, hr = noise(height * 4, 12, seed=1), noise(height * 4, 12, seed=2)

    errors = squared_errors(sr, hr, 4)

    assert errors.shape == (height, 3)
    mean = errors.sum() / hr.size
    assert 10 * np.log10(255**2 / mean) == pytest.approx(psnr(sr, hr, data_range=255, border=0))


# --- Comparing ---


def test_the_places_are_where_one_result_errs_and_then_where_routing_loses() -> None:
    lr, hr = noise(64, 96), noise(64 * SCALE, 96 * SCALE)
    worst, second, lost = Box(0, 0, 16, 16), Box(48, 80, 64, 96), Box(0, 64, 16, 80)
    bicubic = spoilt(spoilt(hr, worst, 90), second, 60)

    seen = look(lr, hr, {"bicubic": bicubic, "routed": spoilt(hr, lost, 20), "hardest": hr})

    assert [place.box for place in seen.places] == [worst, second, lost]
    assert "bicubic" in seen.places[0].reason
    assert "routed loses most to hardest" in seen.places[2].reason


def test_a_large_error_shared_by_all_is_no_difference() -> None:
    lr, hr = noise(64, 64), noise(64 * SCALE, 64 * SCALE)
    everywhere, here = Box(0, 0, 32, 64), Box(48, 16, 64, 32)
    bad = spoilt(hr, everywhere, 100)

    seen = look(lr, hr, {"routed": bad, "hardest": bad, "bicubic": spoilt(bad, here, 5)})

    assert [place.box for place in seen.places] == [here]


def test_equal_results_have_no_places() -> None:
    hr = noise(64 * SCALE, 64 * SCALE)

    assert look(noise(64, 64), hr, {"routed": hr, "hardest": hr}).places == ()


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 17)])
def test_crops_are_cut_unchanged_from_lr_the_results_and_hr(size: tuple[int, int]) -> None:
    lr, hr = noise(*size), noise(size[0] * SCALE, size[1] * SCALE, seed=1)
    routed, hardest = noise(*hr.shape[:2], seed=2), noise(*hr.shape[:2], seed=3)

    places = look(lr, hr, {"routed": routed, "hardest": hardest}).places

    assert places
    enlarged = np.kron(lr, np.ones((SCALE, SCALE, 1), np.uint8))
    for place in places:
        inside = place.box.scaled(SCALE).slices
        labels = ["LR enlarged", "routed", "hardest", "HR"]
        assert [crop.label for crop in place.crops] == labels
        for crop, whole in zip(place.crops, (enlarged, routed, hardest, hr), strict=True):
            np.testing.assert_array_equal(crop.pixels, whole[inside])
            assert not np.shares_memory(crop.pixels, whole)
        for crop in place.crops[:-1]:
            expected = peak_signal_noise_ratio(hr[inside], crop.pixels, data_range=255)
            assert crop.psnr == pytest.approx(expected)
        assert place.crops[-1].psnr is None


def test_a_place_tells_the_levels_of_the_tiles_it_touches() -> None:
    lr, hr = noise(16, 64), noise(16 * SCALE, 64 * SCALE)
    grid = TileGrid(16, 64, tile=16, step=16)
    bicubic = spoilt(hr, Box(0, 24, 16, 40), 50)

    seen = compare(
        lr,
        hr,
        {"bicubic": bicubic, "routed": hr, "hardest": hr},
        routed="routed",
        hardest="hardest",
        levels=np.array([[0, 3, 1, 0]]),
        grid=grid,
        side=24,
    )

    assert [place.box for place in seen.places] == [Box(0, 16, 16, 40)]
    assert seen.places[0].levels == (1, 3)


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    lr, hr = noise(8, 8), noise(16, 16)

    with pytest.raises(UsageError, match=r"Expected routed to be \(16, 16, 3\) uint8"):
        look(lr, hr, {"routed": hr[1:], "hardest": hr})
    with pytest.raises(UsageError, match=r"Expected LR to be \(8, 8, 3\) uint8"):
        look(lr[:, :, 0], hr, {"routed": hr, "hardest": hr})
    with pytest.raises(UsageError, match="Expected HR to be"):
        look(lr, hr[:, 1:], {"routed": hr, "hardest": hr})
    with pytest.raises(UsageError, match="Expected results of hardest"):
        look(lr, hr, {"routed": hr})


# --- Heat maps ---


def test_a_heat_map_is_dark_where_equal_and_brightest_from_the_limit_on() -> None:
    a = np.full((4, 3, 3), 100, np.uint8)
    b = a.copy()
    b[1], b[2], b[3] = 84, 132, 255

    heat_map = draw_heat_map(a, b, title="a against b", limit=32)

    rows = [HEAT_COLOURS[0], HEAT_COLOURS[2], HEAT_COLOURS[4], HEAT_COLOURS[4]]
    np.testing.assert_array_equal(heat_map.image, np.repeat(np.array(rows)[:, None], 3, axis=1))
    assert heat_map.mean == pytest.approx((0 + 16 + 32 + 155) / 4)


def test_the_colours_of_heat_grow_brighter() -> None:
    brightness = np.array(HEAT_COLOURS) @ [0.2126, 0.7152, 0.0722]

    assert (np.diff(brightness) > 20).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (1500, 30)])
def test_maps_are_small_enough_to_look_at(size: tuple[int, int]) -> None:
    lr, hr = noise(*size), noise(size[0] * SCALE, size[1] * SCALE)

    seen = look(lr, hr, {"routed": hr, "hardest": hr})

    shapes = {image.shape for image in (seen.routing_map, *(m.image for m in seen.heat_maps))}
    assert len(shapes) == 1
    assert max(shapes.pop()) <= LONG_SIDE
