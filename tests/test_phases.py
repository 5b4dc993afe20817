"""Phases are enlarged pictures before PixelShuffle: whatever is done with them is what is done with the pictures."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from classsr.backends import open_backend
from classsr.canvas import AveragedCanvas, Canvas, PlacedCanvas
from classsr.guard import differences
from classsr.image import Header
from classsr.model import find_model
from classsr.phases import shuffled, side
from classsr.plan import single
from classsr.tiles import TileGrid

SCALE, TILE, HALO = 4, 8, 2
Floats = npt.NDArray[np.float32]

SIDES = st.sampled_from([1, 2, 4])
SEEDS = st.integers(0, 99)


def noise(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0.5, 0.5, shape).astype(np.float32)


def apart(pictures: Floats, p: int) -> Floats:
    """Take pictures apart into their phases."""
    each = [pictures[:, c, i::p, j::p] for c in range(3) for i in range(p) for j in range(p)]
    return np.stack(each, axis=1)


@given(p=SIDES, height=st.integers(1, 9), width=st.integers(1, 9), seed=SEEDS)
def test_they_are_what_pixel_shuffle_takes(p: int, height: int, width: int, seed: int) -> None:
    phases = noise(2, 3 * p * p, height, width, seed=seed)

    pictures = shuffled(phases)

    assert side(phases) == p
    np.testing.assert_array_equal(pictures, F.pixel_shuffle(torch.from_numpy(phases), p))
    np.testing.assert_array_equal(apart(pictures, p), phases)


@given(
    p=SIDES,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    is_grey=st.booleans(),
    is_deep=st.booleans(),
    overlaps=st.booleans(),
    seed=SEEDS,
)
def test_a_canvas_makes_the_same_picture_of_them(
    p: int, height: int, width: int, is_grey: bool, is_deep: bool, overlaps: bool, seed: int
) -> None:
    grid = TileGrid(height, width, tile=TILE, step=TILE - 2 * overlaps)
    levels = np.random.default_rng(seed).integers(0, 3, grid.shape)
    header = Header(height, width, depth=16 if is_deep else 8, is_grey=is_grey)
    halo = 0 if overlaps else HALO
    results = []
    for parts in (1, p):
        canvas: Canvas = (
            AveragedCanvas(grid, header, scale=SCALE)
            if overlaps
            else PlacedCanvas(grid, levels, header, scale=SCALE)
        )
        canvas.begin(range(grid.shape[0]))
        for n, group in enumerate(single(levels, grid)):
            sides = (SCALE * (length + 2 * halo) for length in grid.window(*group.blocks[0, 2:]))
            pictures = noise(len(group.blocks), 3, *sides, seed=seed + n)
            canvas.add(apart(pictures, parts), group.blocks, halo)
        results.append(canvas.finish())

    np.testing.assert_array_equal(results[1], results[0])


@given(p=SIDES, height=st.integers(1, 70), width=st.integers(1, 70), seed=SEEDS)
def test_the_guard_sees_the_same_in_them(p: int, height: int, width: int, seed: int) -> None:
    lr = noise(2, 3, height, width, seed=seed)
    sr = noise(2, 3, SCALE * height, SCALE * width, seed=seed + 1)

    found = differences(apart(sr, p), lr)

    np.testing.assert_allclose(found, differences(sr, lr), rtol=1e-4, atol=1e-5)


def test_openvino_leaves_them_where_a_graph_ends_in_pixel_shuffle() -> None:
    backend = open_backend("openvino", precision="f32", threads=1)
    lr = noise(1, 3, 9, 10, seed=0)

    shapes = {
        name: backend.branch(find_model(name), -1)(lr).shape for name in ("compact-x4", "carn-x4")
    }

    assert shapes == {"compact-x4": (1, 48, 9, 10), "carn-x4": (1, 12, 18, 20)}
