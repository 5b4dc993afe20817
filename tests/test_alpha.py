"""What is transparent takes its colours from what is visible around; alpha that is hard or constant stays so."""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classsr import Upscaler
from classsr.alpha import CELL, HALVINGS, MARGIN, SPREADS, WINDOW, enlarge, fill, find_kind
from classsr.resize import resize

Array = npt.NDArray[Any]

REACH = 18  # pixels: networks look at most 16 far, and alpha is enlarged by what looks 2 far
SCALE = 4
DTYPES = st.sampled_from([np.uint8, np.uint16])
SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.sampled_from([0.0, 0.0005, 0.01, 0.3, 0.9, 1.0])


def speckled(
    height: int,
    width: int,
    *,
    seen: float,
    dtype: type[np.unsignedinteger[Any]] = np.uint8,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Noise in colour and alpha, of which about a share can be seen."""
    rng = np.random.default_rng(seed)
    limit = np.iinfo(dtype).max
    rgb = rng.integers(0, limit, (height, width, 3), dtype, endpoint=True)
    alpha = rng.integers(1, limit, (height, width), dtype, endpoint=True)
    alpha[rng.random((height, width)) >= seen] = 0
    return rgb, alpha


def far_from(alpha: Array, reach: int) -> Array:
    """Where nothing within so many pixels, counted along rows and columns, is visible."""
    padded = np.pad(alpha, reach)
    for axis in range(2):
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis)
        padded = windows.max(axis=-1)
    is_far: Array = padded == 0
    return is_far


# --- Filling ---


@given(height=st.integers(1, 70), width=st.integers(1, 70), seen=SHARES, dtype=DTYPES, seed=SEEDS)
def test_what_is_visible_keeps_its_colours(
    height: int, width: int, seen: float, dtype: type[np.unsignedinteger[Any]], seed: int
) -> None:
    rgb, alpha = speckled(height, width, seen=seen, dtype=dtype, seed=seed)
    before = rgb.copy()

    filled = fill(rgb, alpha)

    assert filled.dtype == rgb.dtype
    np.testing.assert_array_equal(filled[alpha > 0], rgb[alpha > 0])
    np.testing.assert_array_equal(rgb, before)


@given(height=st.integers(1, 70), width=st.integers(1, 70), seen=SHARES, dtype=DTYPES, seed=SEEDS)
def test_what_transparent_pixels_held_does_not_matter(
    height: int, width: int, seen: float, dtype: type[np.unsignedinteger[Any]], seed: int
) -> None:
    rgb, alpha = speckled(height, width, seen=seen, dtype=dtype, seed=seed)
    black = rgb.copy()
    black[alpha == 0] = 0

    np.testing.assert_array_equal(fill(rgb, alpha), fill(black, alpha))


@given(
    height=st.integers(1, 40 * CELL),
    width=st.sampled_from([1, 17, WINDOW + 5]),
    seen=SHARES,
    dtype=DTYPES,
    data=st.data(),
)
@settings(max_examples=25)
def test_rows_are_filled_as_those_of_the_whole(
    height: int,
    width: int,
    seen: float,
    dtype: type[np.unsignedinteger[Any]],
    data: st.DataObject,
) -> None:
    rgb, alpha = speckled(height, width, seen=seen, dtype=dtype)
    top = CELL * data.draw(st.integers(0, (height - 1) // CELL))
    bottom = data.draw(st.integers(top + 1, height))
    first, last = max(top - MARGIN, 0), min(math.ceil(bottom / CELL) * CELL + MARGIN, height)

    part = fill(rgb[first:last], alpha[first:last], above=top - first, below=last - bottom)

    np.testing.assert_array_equal(part, fill(rgb, alpha)[top:bottom])


@given(
    height=st.integers(1, 90),
    width=st.integers(1, WINDOW + 90),
    dtype=DTYPES,
    colour=st.tuples(*[st.floats(0, 1)] * 3),
    seen=st.sampled_from([0.0003, 0.002, 0.3]),
    seed=SEEDS,
)
def test_one_colour_goes_on_as_far_as_networks_look_and_fades_to_grey_beyond(
    height: int,
    width: int,
    dtype: type[np.unsignedinteger[Any]],
    colour: tuple[float, float, float],
    seen: float,
    seed: int,
) -> None:
    limit = np.iinfo(dtype).max
    rgb, alpha = speckled(height, width, seen=seen, dtype=dtype, seed=seed)
    wanted = (np.array(colour) * limit).astype(dtype)
    rgb[alpha > 0] = wanted

    filled = fill(rgb, alpha)

    is_far = far_from(alpha, REACH)
    np.testing.assert_array_equal(
        filled[~is_far], np.broadcast_to(wanted, (height, width, 3))[~is_far]
    )
    grey = limit // 2 + 1
    low, high = np.minimum(wanted, grey), np.maximum(wanted, grey)
    assert ((low <= filled) & (filled <= high)).all()
    assert (filled[far_from(alpha, (2 + SPREADS) * CELL)] == grey).all()


def test_nearby_colours_win_over_distant_ones_and_opaque_over_faint() -> None:
    rgb = np.zeros((1, 9, 3), np.uint8)
    alpha = np.array([[255, 0, 0, 0, 0, 0, 0, 0, 255]], np.uint8)
    rgb[0, 0], rgb[0, 8] = (200, 0, 0), (0, 0, 200)
    faint = alpha.copy()
    faint[0, 8] = 2

    filled, almost_red = fill(rgb, alpha)[0], fill(rgb[:, [0, 1, 8]], faint[:, [0, 1, 8]])[0]

    assert filled[[0, 1, 2, 7, 8]].tolist() == [[200, 0, 0]] * 3 + [[0, 0, 200]] * 2
    assert almost_red[1].tolist() == [199, 0, 1]


def plainly_filled(rgb: Array, alpha: Array) -> Array:
    """Fill pixel by pixel, straight from the definition."""
    height, width = (-(-side // CELL) * CELL for side in alpha.shape)
    level = np.zeros((height, width, 4))
    level[: len(alpha), : alpha.shape[1], 3] = alpha
    level[: len(alpha), : alpha.shape[1], :3] = rgb * alpha[..., None].astype(float)
    levels = [level]
    for _ in range(HALVINGS):
        height, width = height // 2, width // 2
        levels.append(levels[-1].reshape(height, 2, width, 2, 4).sum(axis=(1, 3)))

    def seen(level: int, y: int, x: int) -> Array:
        """Colours times alpha, and alpha, of all that is visible in a cell."""
        inside = 0 <= y < levels[level].shape[0] and 0 <= x < levels[level].shape[1]
        found: Array = levels[level][y, x] if inside else np.zeros(4)
        return found

    @cache
    def gathered(spreads: int, y: int, x: int) -> Array:
        """The same of one of the coarsest cells, and of those around if it has nothing."""
        own = gathered(spreads - 1, y, x) if spreads else seen(HALVINGS, y, x)
        if own[3] or not spreads:
            return own
        around = [gathered(spreads - 1, y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        total: Array = np.sum(around, axis=0)
        return total

    @cache
    def colour(level: int, y: int, x: int) -> Array:
        """The colour of a cell, or of a pixel, that has nothing visible."""
        if level == HALVINGS:
            found = gathered(SPREADS, y, x)
            grey = np.full(3, np.iinfo(rgb.dtype).max // 2 + 1)
            return found[:3] / found[3] if found[3] else grey
        rows = [(3, y // 2), (1, y // 2 + (1 if y % 2 else -1))]
        columns = [(3, x // 2), (1, x // 2 + (1 if x % 2 else -1))]
        cells = [(a * b, level + 1, row, column) for a, row in rows for b, column in columns]
        total: Array = np.sum([share * seen(*cell) for share, *cell in cells], axis=0)
        if not total[3]:
            total = np.sum([share * np.append(colour(*cell), 1) for share, *cell in cells], axis=0)
        mean: Array = total[:3] / total[3]
        return mean

    filled = rgb.copy()
    for y, x in np.argwhere(alpha == 0).tolist():
        filled[y, x] = np.floor(colour(0, y, x) + 0.5)
    return filled


@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    seen=st.sampled_from([0.0005, 0.01, 0.3]),
    dtype=DTYPES,
    seed=SEEDS,
)
@settings(max_examples=25, deadline=None)
def test_filling_is_what_it_is_defined_to_be(
    height: int, width: int, seen: float, dtype: type[np.unsignedinteger[Any]], seed: int
) -> None:
    rgb, alpha = speckled(height, width, seen=seen, dtype=dtype, seed=seed)

    filled = fill(rgb, alpha)

    np.testing.assert_allclose(filled.astype(int), plainly_filled(rgb, alpha), rtol=0, atol=1)


def test_grey_stays_grey() -> None:
    rgb, alpha = speckled(40, 50, seen=0.01)
    rgb[:] = rgb[..., :1]

    assert np.ptp(fill(rgb, alpha), axis=2).max() == 0


def test_what_is_opaque_is_not_even_copied() -> None:
    rgb, alpha = speckled(40, 50, seen=1.0)

    assert np.shares_memory(fill(rgb, alpha), rgb)


# --- Kinds of alpha ---


def read_until_known(strips: list[Array]) -> tuple[str, int]:
    """The kind, and how many strips it took."""
    asked = 0

    def ask() -> Iterator[Array]:
        nonlocal asked
        for strip in strips:
            asked += 1
            yield strip

    return find_kind(ask()), asked


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("shares", "kind", "strips"),
    [
        ([0, 0, 0], "constant", 3),
        ([1, 1, 1], "constant", 3),
        ([0.5, 0.5, 0.5], "constant", 3),
        ([0, 0, 1], "hard", 3),
        ([1, 0, 1], "hard", 3),
        ([0, 0.5, 1], "soft", 2),
        ([0.5, 0, 1], "soft", 2),
        ([0.5, 0.5, 0.4], "soft", 3),
    ],
)
def test_kinds_are_told_apart_as_soon_as_possible(
    shares: list[float], kind: str, strips: int, dtype: type[np.unsignedinteger[Any]]
) -> None:
    limit = np.iinfo(dtype).max
    alphas = [np.full((2, 3), int(share * limit), dtype) for share in shares]

    assert read_until_known(alphas) == (kind, strips)


def test_a_mixed_strip_is_soft() -> None:
    assert find_kind([np.array([[0, 255, 7]], np.uint8)]) == "soft"


@given(height=st.integers(1, 20), width=st.integers(1, 20), dtype=DTYPES, seed=SEEDS)
def test_hard_alpha_is_enlarged_by_bicubic_and_cut_at_half(
    height: int, width: int, dtype: type[np.unsignedinteger[Any]], seed: int
) -> None:
    limit = np.iinfo(dtype).max
    alpha = np.random.default_rng(seed).choice(np.array([0, limit], dtype), (height, width))

    enlarged = enlarge(np.pad(alpha, 2, mode="edge"), SCALE, margin=2, kind="hard")

    is_opaque = resize(alpha, SCALE) >= (limit + 1) / 2
    np.testing.assert_array_equal(
        enlarged, np.where(is_opaque, limit, 0).astype(dtype), strict=True
    )


@given(value=st.integers(0, 65535), margin=st.integers(0, 3))
def test_constant_alpha_stays_constant(value: int, margin: int) -> None:
    alpha = np.full((3 + 2 * margin, 4 + 2 * margin), value, np.uint16)

    enlarged = enlarge(alpha, SCALE, margin=margin, kind="constant")

    np.testing.assert_array_equal(enlarged, np.full((12, 16), value, np.uint16), strict=True)


# --- From file to file ---


def write_disc(path: Path, *, colour: tuple[int, int, int], hidden: int) -> None:
    """A disc with an antialiased edge; under what is transparent lies one grey."""
    y, x = np.mgrid[:70, :90]
    alpha = np.clip(25.5 - np.hypot(y - 33.3, x - 44.7), 0, 1)
    rgba = np.full((70, 90, 4), hidden, np.uint8)
    rgba[..., 3] = np.round(alpha * 255)
    rgba[rgba[..., 3] > 0, :3] = colour
    Image.fromarray(rgba).save(path)


def composited(path: Path, background: tuple[int, int, int]) -> Array:
    with Image.open(path) as opened:
        under = Image.new("RGBA", opened.size, background)
        found: Array = np.asarray(Image.alpha_composite(under, opened).convert("RGB")).astype(int)
        return found


@pytest.mark.parametrize("model", ["bicubic", "fsrcnn-x4"])
@pytest.mark.parametrize("hidden", [0, 255])
def test_a_disc_has_no_fringe_over_any_background(model: str, hidden: int, tmp_path: Path) -> None:
    colour = (220, 60, 30)
    write_disc(tmp_path / "disc.png", colour=colour, hidden=hidden)
    # A network makes a little more of one colour than one colour.
    most = {"bicubic": 2, "fsrcnn-x4": 6}[model]

    Upscaler(model).upscale_file(tmp_path / "disc.png", tmp_path / "out.png")

    for background in [(255, 255, 255), (128, 128, 128), colour]:
        found = composited(tmp_path / "out.png", background)
        low, high = np.minimum(colour, background), np.maximum(colour, background)
        assert found.shape == (280, 360, 3)
        assert (found >= low - most).all()
        assert (found <= high + most).all()


@pytest.mark.parametrize("model", ["bicubic", "fsrcnn-x4"])
def test_what_lies_under_transparency_does_not_change_the_file(model: str, tmp_path: Path) -> None:
    for hidden in (0, 255):
        write_disc(tmp_path / f"{hidden}.png", colour=(220, 60, 30), hidden=hidden)
        Upscaler(model).upscale_file(tmp_path / f"{hidden}.png", tmp_path / f"{hidden}-x4.png")

    assert (tmp_path / "0-x4.png").read_bytes() == (tmp_path / "255-x4.png").read_bytes()
