"""The upscaler enlarges every picture whole, without seams, in batches, and reports truly what it did."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import classsr
from classsr import Picture, Report, Upscaled, Upscaler, image
from classsr.alpha import fill
from classsr.backends import Backend, Network, Precision, open_backend
from classsr.backends.base import Floats
from classsr.canvas import FEATHER
from classsr.costs import by_macs
from classsr.engine import Tiling
from classsr.errors import BackendError, InputError, ModelError, OutputError, UsageError
from classsr.model import Model, find_model
from classsr.phases import shuffled
from classsr.plan import Cost, Costs
from classsr.planner import Plan
from classsr.prices import LOSS
from classsr.resize import resize
from fakes import COLOUR, SCALE, FakeBackend, enlarged_by_repetition, repeat, repeating, signing

Array = npt.NDArray[Any]

MODEL = "fsrcnn-x4"  # small, so that laws are tested on many pictures
CONFIG = find_model(MODEL).config
Predicts = Literal["probabilities", "log-errors"]
MACS = 3_801_184  # of the paper's Class-Module for a tile of 32
TILE, HALO = CONFIG.tile, 4  # the halo of all levels unless a test says otherwise
RADII = [level.receptive_radius or 0 for level in CONFIG.levels]
RADIUS = max(RADII)
SIDES = st.integers(1, 150)
DTYPES = st.sampled_from([np.uint8, np.uint16])


def vignetting(batch: Floats, level: int) -> Floats:
    """A network that sees where in its window a pixel lies, as zero padding lets real ones do."""
    sr = repeat(batch)
    rows, columns = (np.arange(n, dtype=np.float32)[::-1] / np.float32(255) for n in sr.shape[2:])
    vignetted: Floats = np.float32(0.5) * (sr + rows[:, None] + columns)
    return vignetted


@dataclass
class OneLevel:
    """A real backend whose Class-Module calls every tile the same."""

    backend: Backend
    level: int
    name: str = "one level"
    version: str = "1"
    precision: Precision = "f32"
    threads: int | None = None

    def classifier(self, model: Model) -> Network:
        row = np.eye(len(model.config.levels), dtype=np.float32)[self.level]
        return lambda batch: np.tile(row, (len(batch), 1))

    def branch(self, model: Model, level: int) -> Network:
        return self.backend.branch(model, level)


class Router(Upscaler):
    """An upscaler that routes as it judges, unless it is asked for something else."""

    def upscale(self, source: Any, **options: Any) -> Upscaled:  # noqa: ANN401 - passed on
        return super().upscale(source, **{"route": "argmax"} | options)

    def upscale_file(self, source: Path, output: Path, **options: Any) -> Report:  # noqa: ANN401
        return super().upscale_file(source, output, **{"route": "argmax"} | options)


def upscaler_on(
    backend: Backend,
    *,
    tiling: Tiling = "halo",
    halo: int = HALO,
    predicts: Predicts = "probabilities",
    costs: Costs | None = None,
) -> Upscaler:
    """An upscaler of a bundled model on this backend, with this halo and costs, by MACs unless others are given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classsr.upscaler.open_backend", lambda name, **options: backend)
        kind = Router if predicts == "probabilities" else Upscaler
        upscaler = kind(MODEL, tiling=tiling, costs=costs)
    model = upscaler.model
    levels = tuple(replace(level, halo=halo) for level in CONFIG.levels)
    assert CONFIG.classifier is not None
    judge = replace(CONFIG.classifier, predicts=predicts, errors=None, macs=MACS)
    upscaler.engine.model = replace(model, config=replace(CONFIG, levels=levels, classifier=judge))
    if costs is None:
        upscaler.engine._costs = by_macs(upscaler.model.config)
    return upscaler


def noise(
    height: int, width: int, *, dtype: type[np.unsignedinteger[Any]] = np.uint8, seed: int = 0
) -> Array:
    limit = np.iinfo(dtype).max
    rng = np.random.default_rng(seed)
    return rng.integers(0, limit, (height, width, 3), dtype, endpoint=True)


def patchwork(rows: int, columns: int) -> tuple[Array, Array]:
    """A picture of flat tiles, dark to bright, and the level at which the fake judges each."""
    levels = np.arange(rows * columns).reshape(rows, columns) % 3
    flat = (levels * 100 + 20).astype(np.uint8)
    return flat.repeat(TILE, axis=0).repeat(TILE, axis=1)[:, :, None].repeat(3, axis=2), levels


# --- THE LAW: one level everywhere and a sufficient halo equal the whole-picture run ---

# In 16 bits a step is 1.5e-5 of the range, so that rounding hides nothing: 7 steps are 1e-4.
STEPS = 7


@pytest.fixture(scope="module")
def openvino() -> Backend:
    return open_backend("openvino", precision="f32", threads=None)


@pytest.fixture(scope="module")
def whole(openvino: Backend) -> Callable[[Array, int], Array]:
    """Run one branch over a whole picture at once, its edge repeated; the plain path."""
    model = find_model(MODEL)
    branches = [openvino.branch(model, level) for level in range(len(CONFIG.levels))]

    def run(pixels: Array, level: int) -> Array:
        margin, limit = RADIUS + 2, np.iinfo(pixels.dtype).max
        padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        lr = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32) / np.float32(limit)
        sr = shuffled(branches[level](lr))[0].transpose(1, 2, 0)
        inner = sr[SCALE * margin : -SCALE * margin, SCALE * margin : -SCALE * margin]
        rounded: Array = np.rint(inner.clip(0, 1).astype(np.float64) * limit).astype(pixels.dtype)
        return rounded

    return run


@pytest.mark.parametrize("level", range(len(CONFIG.levels)))
@settings(max_examples=20)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 9))
def test_one_level_in_routed_tiles_equals_the_whole_picture_run(
    openvino: Backend,
    whole: Callable[[Array, int], Array],
    level: int,
    height: int,
    width: int,
    seed: int,
) -> None:
    upscaler = upscaler_on(OneLevel(openvino, level), halo=RADIUS)
    pixels = noise(height, width, dtype=np.uint16, seed=seed)

    result = upscaler.upscale(pixels)

    assert result.grid.tile == TILE
    np.testing.assert_allclose(result.image.astype(int), whole(pixels, level), atol=STEPS)


@pytest.mark.parametrize("level", range(len(CONFIG.levels)))
@settings(max_examples=20)
@given(height=st.integers(1, 300), width=SIDES, seed=st.integers(0, 9))
def test_a_forced_level_equals_the_whole_picture_run(
    openvino: Backend,
    whole: Callable[[Array, int], Array],
    level: int,
    height: int,
    width: int,
    seed: int,
) -> None:
    upscaler = upscaler_on(openvino, halo=RADIUS)
    pixels = noise(height, width, dtype=np.uint16, seed=seed)

    result = upscaler.upscale(pixels, route=str(level))

    np.testing.assert_allclose(result.image.astype(int), whole(pixels, level), atol=STEPS)


@pytest.mark.parametrize("size", [(1, 1), (1, 150), (150, 1), (32, 32), (33, 32), (150, 150)])
def test_the_law_holds_in_8_bits(
    openvino: Backend, whole: Callable[[Array, int], Array], size: tuple[int, int]
) -> None:
    upscaler = upscaler_on(OneLevel(openvino, 2), halo=RADIUS)
    pixels = noise(*size)

    result = upscaler.upscale(pixels)

    np.testing.assert_allclose(result.image.astype(int), whole(pixels, 2), atol=1)


def test_exact_tiling_gives_every_tile_what_the_whole_picture_run_of_its_level_gives(
    whole: Callable[[Array, int], Array],
) -> None:
    upscaler = Upscaler(MODEL, precision="f32", tiling="exact")
    shades = np.repeat(np.linspace(0, 1, 8), 40)[:, None, None]
    pixels = (noise(320, 250, dtype=np.uint16) * shades**4).astype(np.uint16)  # smooth on top

    result = upscaler.upscale(pixels, route="argmax")

    assert len(np.unique(result.levels)) > 1
    wholes = np.stack([whole(pixels, level) for level in range(len(CONFIG.levels))])
    differences = np.abs(result.image.astype(int) - wholes.astype(int)).max(axis=3)
    side, faded = SCALE * TILE, SCALE * FEATHER
    for (row, column), level in np.ndenumerate(result.levels):
        # Where levels meet, the harder one fades out over the borders of the easier one's tiles.
        inner = differences[
            level, row * side : (row + 1) * side, column * side : (column + 1) * side
        ]
        assert inner[faded:-faded, faded:-faded].max() <= STEPS
        neighbours = result.levels[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        if (neighbours <= level).all():
            assert inner.max() <= STEPS


def test_exact_tiling_is_refused_where_a_branch_sees_the_whole_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = find_model(MODEL)
    levels = (*CONFIG.levels[:-1], replace(CONFIG.levels[-1], receptive_radius=None))
    attending = replace(model, config=replace(CONFIG, levels=levels))
    monkeypatch.setattr("classsr.upscaler.find_model", lambda name: attending)

    with pytest.raises(UsageError, match=r"fsrcnn-56 sees the whole picture"):
        Upscaler(MODEL, tiling="exact")


def test_a_halo_short_of_the_receptive_radius_leaves_seams(
    openvino: Backend, whole: Callable[[Array, int], Array]
) -> None:
    pixels = noise(70, 70, dtype=np.uint16)

    result = upscaler_on(OneLevel(openvino, 2), halo=0).upscale(pixels)

    off = np.abs(result.image.astype(int) - whole(pixels, 2)).max(axis=2) > STEPS
    seam = SCALE * TILE
    assert off[:, seam - SCALE : seam + SCALE].mean() > 0.5
    assert not off[seam // 2, seam // 2]


def test_every_level_has_the_halo_that_its_model_names() -> None:
    backend = FakeBackend(repeating)
    upscaler = upscaler_on(backend)
    config = upscaler.model.config
    levels = tuple(replace(level, halo=k + 1) for k, level in enumerate(config.levels))
    upscaler.engine.model = replace(upscaler.model, config=replace(config, levels=levels))
    pixels = np.arange(3, dtype=np.uint8).repeat(8 * TILE) * 100 + 20
    pixels = np.tile(pixels[:, None], (8 * TILE, 1, 1)).repeat(3, axis=2)

    result = upscaler.upscale(pixels)

    sides = [8 * TILE + 2 * level.halo for level in levels]
    assert backend.calls == [(k, (1, 3, side, side)) for k, side in enumerate(sides)]
    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels))


def test_no_output_pixel_depends_on_more_than_the_receptive_radius(openvino: Backend) -> None:
    model = find_model(MODEL)
    flat = np.full((1, 3, 41, 41), 0.5, np.float32)
    dotted = flat.copy()
    dotted[:, :, 20, 20] = 1.0

    for k, level in enumerate(model.config.levels):
        network = openvino.branch(model, k)
        difference = shuffled(network(dotted).copy() - network(flat))
        moved = np.abs(difference).max(axis=(0, 1)) > 1e-6
        reach = np.abs(np.argwhere(moved) // SCALE - 20).max()
        assert 0 < reach <= (level.receptive_radius or 0)


# --- Every picture, whole ---


@given(height=SIDES, width=SIDES, dtype=DTYPES, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_every_size_and_depth_is_enlarged_whole(
    height: int, width: int, dtype: type[np.unsignedinteger[Any]], seed: int
) -> None:
    pixels = noise(height, width, dtype=dtype, seed=seed)

    result = upscaler_on(FakeBackend(repeating)).upscale(pixels)

    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels), strict=True)
    assert (result.report.height, result.report.width) == (SCALE * height, SCALE * width)


@pytest.mark.parametrize("route", ["easiest", "1", "hardest"])
@given(height=SIDES, width=st.integers(1, 600), dtype=DTYPES)
@settings(max_examples=30)
def test_a_forced_level_enlarges_whole(
    route: str, height: int, width: int, dtype: type[np.unsignedinteger[Any]]
) -> None:
    pixels = noise(height, width, dtype=dtype)

    result = upscaler_on(FakeBackend(repeating)).upscale(pixels, route=route)

    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels), strict=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 1), (7, 9), (64, 31)])
@pytest.mark.parametrize("tiling", ["halo", "paper"])
def test_the_real_engine_enlarges_any_size(tiling: Tiling, size: tuple[int, int]) -> None:
    result = Upscaler(tiling=tiling).upscale(noise(*size))

    assert result.image.shape == (SCALE * size[0], SCALE * size[1], 3)
    assert result.image.dtype == np.uint8


def test_values_beyond_black_and_white_are_clipped() -> None:
    def glaring(batch: Floats, level: int) -> Floats:
        return repeat(batch) * 9 - 4

    pixels = np.array([[[0, 128, 255]]], np.uint8)

    result = upscaler_on(FakeBackend(glaring)).upscale(pixels)

    assert result.image[0, 0].tolist() == [0, 128 * 9 - 4 * 255, 255]


@pytest.mark.parametrize(
    ("value", "rounded"), [(100.45, 100), (100.55, 101), (0.4, 0), (254.6, 255)]
)
def test_values_are_rounded_to_the_nearest(value: float, rounded: int) -> None:
    def constant(batch: Floats, level: int) -> Floats:
        return np.full_like(repeat(batch), value / 255)

    result = upscaler_on(FakeBackend(constant)).upscale(noise(2, 3))

    assert (result.image == rounded).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_array_is_a_grey_picture(dtype: type[np.unsignedinteger[Any]]) -> None:
    grey = noise(20, 30, dtype=dtype)[:, :, 0]

    result = upscaler_on(FakeBackend(repeating)).upscale(grey)

    assert result.picture.is_grey
    expected = enlarged_by_repetition(grey)[:, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(result.image, expected, strict=True)


def test_a_grey_picture_stays_without_colour() -> None:
    def tinting(batch: Floats, level: int) -> Floats:
        return repeat(batch) * np.array([0.9, 1.0, 0.8], np.float32)[:, None, None]

    result = upscaler_on(FakeBackend(tinting)).upscale(noise(20, 30)[:, :, 0])

    assert np.ptp(result.image, axis=2).max() == 0


def test_a_colour_array_is_no_grey_picture() -> None:
    result = upscaler_on(FakeBackend(repeating)).upscale(np.zeros((5, 6, 3), np.uint8))

    assert not result.picture.is_grey


@given(height=st.integers(1, 60), width=st.integers(1, 60), dtype=DTYPES)
@settings(max_examples=30)
def test_alpha_is_enlarged_by_bicubic(
    height: int, width: int, dtype: type[np.unsignedinteger[Any]]
) -> None:
    pixels = noise(height, width, dtype=dtype)
    alpha = noise(height, width, dtype=dtype, seed=1)[:, :, 0]

    result = upscaler_on(FakeBackend(repeating)).upscale(Picture(pixels, alpha=alpha))

    assert result.picture.alpha is not None
    np.testing.assert_array_equal(result.picture.alpha, resize(alpha, SCALE), strict=True)
    filled = fill(pixels, alpha) if alpha.any() else pixels
    np.testing.assert_array_equal(result.image, enlarged_by_repetition(filled), strict=True)


def test_what_is_opaque_stays_opaque_and_the_profile_stays() -> None:
    picture = Picture(noise(9, 7), alpha=np.full((9, 7), 255, np.uint8), profile=b"profile")

    result = upscaler_on(FakeBackend(repeating)).upscale(picture)

    assert result.picture.alpha is not None
    assert (result.picture.alpha == 255).all()
    assert result.picture.profile == b"profile"


@pytest.mark.parametrize("held", [0, 2**24])
@pytest.mark.parametrize("alphas", [(0, 255), (0, 1, 255), (0,), (77,), (0, 65535), (12345,)])
def test_alpha_of_every_kind_goes_through_files_and_bands(
    alphas: tuple[int, ...], held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = np.uint8 if max(alphas) < 256 else np.uint16
    pixels = noise(300, 40, dtype=dtype)
    alpha = np.random.default_rng(1).choice(np.array(alphas, dtype), (300, 40))
    image.write(Picture(pixels, alpha), tmp_path / "in.png")
    monkeypatch.setattr("classsr.planner.MOST_PIXELS", 2 * TILE * 40)
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)

    upscaler_on(FakeBackend(repeating)).upscale_file(tmp_path / "in.png", tmp_path / "out.png")

    out = image.read(tmp_path / "out.png")
    assert out.alpha is not None
    bicubic = resize(alpha, SCALE)
    limit = np.iinfo(dtype).max
    is_soft = len(alphas) == 3
    hard = np.where(bicubic > limit // 2, limit, 0) if len(alphas) == 2 else alpha[0, 0]
    np.testing.assert_array_equal(out.alpha, bicubic if is_soft else hard)
    filled = pixels if len(alphas) == 1 else fill(pixels, alpha)
    np.testing.assert_array_equal(out.rgb, enlarged_by_repetition(filled), strict=True)


def test_a_transparent_entry_of_a_palette_stays_transparent_or_opaque(tmp_path: Path) -> None:
    drawn = Image.fromarray((noise(20, 30)[:, :, 0] > 100).astype(np.uint8) * 2).convert("P")
    drawn.putpalette([0, 0, 0, 9, 9, 9, 250, 120, 40])
    drawn.save(tmp_path / "in.png", transparency=0)

    upscaler_on(FakeBackend(repeating)).upscale_file(tmp_path / "in.png", tmp_path / "out.png")

    out = np.asarray(Image.open(tmp_path / "out.png"))
    assert set(np.unique(out[..., 3]).tolist()) == {0, 255}
    assert (out[..., :3] == (250, 120, 40)).all()


@pytest.mark.parametrize("alpha", [0, 3, 255])
def test_a_single_pixel_keeps_colour_and_alpha(alpha: int, tmp_path: Path) -> None:
    Image.fromarray(np.array([[[10, 90, 200, alpha]]], np.uint8)).save(tmp_path / "in.png")

    Upscaler("bicubic").upscale_file(tmp_path / "in.png", tmp_path / "out.png")

    out = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(out, np.full((4, 4, 4), (10, 90, 200, alpha), np.uint8))


def test_grey_with_alpha_stays_grey_and_its_hidden_pixels_do_not_show(tmp_path: Path) -> None:
    grey = np.zeros((20, 30, 2), np.uint8)
    grey[5:15, 5:20] = (180, 200)
    Image.fromarray(grey).save(tmp_path / "in.png")

    Upscaler("bicubic").upscale_file(tmp_path / "in.png", tmp_path / "out.png")

    with Image.open(tmp_path / "out.png") as opened:
        assert opened.mode == "LA"
        assert (np.asarray(opened)[..., 0] == 180).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda pixels: pixels[::-1, ::-2],
        lambda pixels: pixels.transpose(1, 0, 2),
        np.asfortranarray,
        lambda pixels: np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape),
    ],
    ids=["strided", "transposed", "fortran", "read-only"],
)
def test_any_view_of_an_array_is_enlarged_and_left_alone(view: Callable[[Array], Array]) -> None:
    pixels = view(noise(40, 50))
    before = pixels.copy()

    result = upscaler_on(FakeBackend(repeating)).upscale(pixels)

    np.testing.assert_array_equal(result.image, enlarged_by_repetition(before))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((4, 5, 3), np.float32), "float32"),
        (np.zeros((4, 5, 3), np.int64), "int64"),
        (np.zeros((4, 5, 3), bool), "bool"),
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\)"),
        (np.zeros((4, 5, 1), np.uint8), r"\(4, 5, 1\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"\(1, 4, 5, 3\)"),
        (np.zeros(5, np.uint8), r"\(5,\)"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros((5, 0), np.uint8), r"\(5, 0\)"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(array: Array, told: str) -> None:
    with pytest.raises(InputError, match=f"Expected .* got {told}"):
        upscaler_on(FakeBackend()).upscale(array)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read_by_its_path(kind: type, tmp_path: Path) -> None:
    pixels = noise(8, 9)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    result = upscaler_on(FakeBackend(repeating)).upscale(kind(tmp_path / "a.png"))

    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels))
    assert result.report.input == str(tmp_path / "a.png")


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.png"):
        upscaler_on(FakeBackend()).upscale(tmp_path / "absent.png")


# --- Routing ---


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_every_tile_runs_through_the_branch_of_its_level(rows: int) -> None:
    pixels, levels = patchwork(rows, 4)

    result = upscaler_on(FakeBackend(signing)).upscale(pixels)

    np.testing.assert_array_equal(result.levels, levels)
    painted = COLOUR[levels].repeat(SCALE * TILE, axis=0).repeat(SCALE * TILE, axis=1)
    place = np.arange(SCALE * TILE)
    within = (place >= FEATHER * SCALE) & (place < SCALE * (TILE - FEATHER))
    inside = np.outer(np.tile(within, rows), np.tile(within, 4))
    np.testing.assert_array_equal(result.image[inside], painted[inside][:, None].repeat(3, axis=1))
    assert np.isin(result.image[~inside], np.arange(COLOUR[0], COLOUR[2] + 1)).all()


@pytest.mark.parametrize("narrow", [np.s_[:, :20], np.s_[:, :1], np.s_[:, 31:32]])
def test_tiles_of_a_picture_narrower_than_a_tile_are_judged_in_their_place(
    narrow: tuple[slice, slice],
) -> None:
    pixels, levels = patchwork(5, 1)

    result = upscaler_on(FakeBackend()).upscale(pixels[narrow])

    np.testing.assert_array_equal(result.levels, levels)


@given(height=SIDES, width=SIDES, tiling=st.sampled_from(["halo", "paper"]))
@settings(max_examples=30)
def test_there_is_one_level_for_every_tile(height: int, width: int, tiling: Tiling) -> None:
    result = upscaler_on(FakeBackend(), tiling=tiling).upscale(noise(height, width))

    assert result.levels.shape == result.grid.shape
    assert sum(result.report.tiles) == len(result.grid)
    counted = [int((result.levels == level).sum()) for level in range(3)]
    assert list(result.report.tiles) == counted
    assert sum(result.report.shares) == pytest.approx(1)


def test_the_classifier_sees_the_edge_repeated_where_a_picture_is_smaller_than_a_tile() -> None:
    bright = np.full((3, 5, 3), 255, np.uint8)

    result = upscaler_on(FakeBackend()).upscale(bright)

    assert result.levels.tolist() == [[2]]


@pytest.mark.parametrize(
    ("route", "level"), [("easiest", 0), ("0", 0), ("1", 1), ("2", 2), ("hardest", 2)]
)
@pytest.mark.parametrize("tiling", ["halo", "paper"])
def test_a_forced_route_uses_one_level_and_asks_no_classifier(
    tiling: Tiling, route: str, level: int
) -> None:
    backend = FakeBackend(signing)
    pixels, _ = patchwork(2, 4)

    result = upscaler_on(backend, tiling=tiling).upscale(pixels, route=route)

    assert backend.loaded == [level]
    assert (result.image == COLOUR[level]).all()
    assert (result.levels == level).all()


@pytest.mark.parametrize("route", ["3", "-1", "fast", ""])
def test_an_unknown_route_is_refused(route: str) -> None:
    with pytest.raises(UsageError, match="levels 0 to 2"):
        upscaler_on(FakeBackend()).upscale(noise(4, 4), route=route)


def test_every_network_is_loaded_once_for_many_pictures() -> None:
    backend = FakeBackend()
    upscaler = upscaler_on(backend)
    pixels, _ = patchwork(2, 4)

    for _ in range(3):
        upscaler.upscale(pixels)

    assert backend.loaded == ["classifier", 0, 1, 2]


# --- Batches ---


def test_neighbours_of_one_level_run_as_one_window() -> None:
    backend = FakeBackend()
    pixels = np.zeros((4 * TILE, 8 * TILE, 3), np.uint8)
    pixels[:, 4 * TILE :] = 255

    upscaler_on(backend).upscale(pixels)

    side = 4 * TILE + 2 * HALO
    assert backend.calls == [(0, (1, 3, side, side)), (2, (1, 3, side, side))]


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), most=st.integers(1, 100))
@settings(max_examples=20)
def test_windows_run_in_as_few_batches_as_memory_allows(rows: int, columns: int, most: int) -> None:
    backend = FakeBackend()
    limit = most * (TILE + 2 * HALO) ** 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classsr.engine.BATCH_PIXELS", limit)
        patch.setattr("classsr.planner.bands", lambda grid, *_, **__: [range(grid.shape[0])])
        upscaler_on(backend).upscale(noise(rows * TILE, columns * TILE))

    for size in {shape[2:] for _, shape in backend.calls}:
        counts = [shape[0] for _, shape in backend.calls if shape[2:] == size]
        assert len(counts) == math.ceil(sum(counts) / max(limit // math.prod(size), 1))


@pytest.mark.parametrize("tiling", ["halo", "paper"])
@pytest.mark.parametrize("pixels_per_batch", [1024, 2500, 30_000])
def test_the_result_does_not_depend_on_the_size_of_batches(
    tiling: Tiling, pixels_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(100, 135)
    expected = upscaler_on(FakeBackend(vignetting), tiling=tiling).upscale(pixels)

    monkeypatch.setattr("classsr.engine.BATCH_PIXELS", pixels_per_batch)
    result = upscaler_on(FakeBackend(vignetting), tiling=tiling).upscale(pixels)

    np.testing.assert_array_equal(result.image, expected.image)
    np.testing.assert_array_equal(result.levels, expected.levels)


def test_a_tile_larger_than_a_batch_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classsr.engine.BATCH_PIXELS", TILE**2 - 1)
    backend = FakeBackend(repeating)
    pixels, _ = patchwork(1, 4)

    result = upscaler_on(backend).upscale(pixels)

    assert [shape[0] for _, shape in backend.calls] == [1, 1, 1, 1]
    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels))


# --- Budgets and losses ---

FAR_APART = Costs(tuple(Cost(cost, HALO) for cost in (0.1, 0.3, 1.0)), 1.0)


def predicting(**options: Any) -> Upscaler:  # noqa: ANN401 - passed on
    return upscaler_on(FakeBackend(signing), predicts="log-errors", costs=FAR_APART, **options)


def shades(rows: int, columns: int) -> Array:
    """A picture of flat tiles of every brightness."""
    values = np.random.default_rng(0).integers(0, 256, (rows, columns), np.uint8)
    return values.repeat(TILE, axis=0).repeat(TILE, axis=1)[:, :, None].repeat(3, axis=2)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_a_share_is_spent_and_not_exceeded(share: float) -> None:
    report = predicting().upscale(shades(12, 16), budget=share).report

    assert 0.97 * share <= report.cost <= share
    assert report.loss is not None
    assert report.loss > 0


def test_seconds_are_a_budget_too() -> None:
    pixels = shades(12, 16)
    plans: list[Plan] = []
    predicting().upscale(pixels, route="auto", planned=plans.append)

    predicting().upscale(pixels, budget=f"{0.4 * plans[0].cost_hardest}s", planned=plans.append)

    assert 0.97 * 0.4 <= plans[1].share <= 0.4


@pytest.mark.parametrize("loss", [0.15, 0.2, 0.5])
def test_a_loss_is_not_exceeded(loss: float) -> None:
    report = predicting().upscale(shades(12, 16), max_loss=loss).report

    assert report.loss is not None
    assert 0.8 * loss <= report.loss <= loss
    assert report.cost < 1


def test_rounding_to_whole_numbers_counts_as_an_error_of_every_level() -> None:
    config = find_model("compact-x4").config
    upscaler = Upscaler("compact-x4", precision="f32", costs=by_macs(config))
    soft = resize(noise(16, 16), 16)

    coarse, fine = (
        upscaler.upscale(pixels, budget=0.5) for pixels in (soft, soft.astype(np.uint16) * 257)
    )

    np.testing.assert_array_equal(coarse.levels, fine.levels)
    assert coarse.report.loss is not None
    assert fine.report.loss is not None
    assert 0 < coarse.report.loss < 0.99 * fine.report.loss


def test_auto_loses_next_to_nothing() -> None:
    report = predicting().upscale(shades(12, 16)).report

    assert report.loss is not None
    assert report.loss <= LOSS


def test_a_brighter_tile_gets_a_harder_level() -> None:
    pixels = shades(12, 16)

    result = predicting().upscale(pixels, budget=0.5)

    brightness = pixels[::TILE, ::TILE, 0].astype(float)
    means = [brightness[result.levels == level].mean() for level in np.unique(result.levels)]
    assert len(means) > 1
    assert means == sorted(means)


def test_a_budget_that_buys_nothing_is_refused_before_anything_is_run() -> None:
    backend = FakeBackend(signing)
    upscaler = upscaler_on(backend, predicts="log-errors", costs=FAR_APART)

    with pytest.raises(UsageError, match="budget of at least 0"):
        upscaler.upscale(shades(4, 4), budget=0.01)

    assert backend.loaded == ["classifier"]


def test_what_cannot_pay_is_not_even_judged() -> None:
    backend = FakeBackend(signing)
    alike = Costs(tuple(Cost(1.0, HALO) for _ in range(3)), 1.0)
    upscaler = upscaler_on(backend, predicts="log-errors", costs=alike)

    result = upscaler.upscale(shades(8, 8))

    assert backend.loaded == [2]
    assert (result.levels == 2).all()
    assert "can save nothing" in result.report.plan


def test_a_model_of_classes_gives_way_where_routing_costs_more() -> None:
    pixels = np.full((7 * TILE, 7 * TILE, 3), 255, np.uint8)
    upscaler = upscaler_on(FakeBackend(signing), costs=FAR_APART)

    routed, auto = (upscaler.upscale(pixels, route=route) for route in ("argmax", "auto"))

    assert "would cost more" in auto.report.plan
    assert 1 < auto.report.cost < routed.report.cost


def test_a_budget_and_the_paper_s_tiling_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="paper"):
        predicting(tiling="paper").upscale(shades(2, 2), budget=0.5)


def test_the_plan_is_explained() -> None:
    plans: list[Plan] = []
    upscaler = predicting()
    upscaler.upscale(shades(4, 4), budget=0.6, planned=plans.append)

    told = upscaler.explain(plans[0])

    assert "fsrcnn-56" in told
    assert "16 tiles of 32" in told


# --- Bands ---


@pytest.mark.parametrize("size", [(9 * TILE, 5 * TILE), (300, 70), (33, 200), (1, 400)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_do_not_show(
    size: tuple[int, int],
    dtype: type[np.unsignedinteger[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels, alpha = noise(*size, dtype=dtype), noise(*size, dtype=dtype, seed=1)[:, :, 0]
    picture = Picture(pixels, alpha=alpha)
    upscaler = upscaler_on(FakeBackend(vignetting), halo=3)
    routes = ("argmax", "1")
    whole = [upscaler.upscale(picture, route=route) for route in routes]

    monkeypatch.setattr("classsr.planner.MOST_PIXELS", 2 * TILE * size[1])
    plans: list[Plan] = []
    banded = [upscaler.upscale(picture, route=route, planned=plans.append) for route in routes]

    assert len(plans[0].bands) == math.ceil(math.ceil(size[0] / TILE) / 2)
    for found, expected in zip(banded, whole, strict=True):
        assert found.picture.alpha is not None
        np.testing.assert_array_equal(found.picture.alpha, resize(alpha, SCALE), strict=True)
        assert found.image.shape == expected.image.shape


@pytest.mark.parametrize("size", [(9 * TILE, 5 * TILE), (290, 70)])
def test_a_real_network_gives_the_same_in_bands(
    openvino: Backend, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(*size)
    upscaler = upscaler_on(OneLevel(openvino, 2), halo=RADIUS)
    whole = upscaler.upscale(pixels)

    monkeypatch.setattr("classsr.planner.MOST_PIXELS", 2 * TILE * size[1])
    banded = upscaler.upscale(pixels)

    np.testing.assert_allclose(banded.image.astype(int), whole.image, atol=1)


@pytest.mark.parametrize("held", [0, 2**24])
def test_a_large_file_is_read_in_bands(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgba = np.concatenate([noise(300, 70), noise(300, 70, seed=1)[:, :, :1]], axis=2)
    Image.fromarray(rgba).save(tmp_path / "in.png")
    upscaler = upscaler_on(FakeBackend(repeating))
    monkeypatch.setattr("classsr.planner.MOST_PIXELS", 2 * TILE * 70)
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)

    upscaler.upscale_file(tmp_path / "in.png", tmp_path / "out.png")

    out = np.asarray(Image.open(tmp_path / "out.png"))
    filled = fill(rgba[:, :, :3], rgba[:, :, 3])
    np.testing.assert_array_equal(out[:, :, :3], enlarged_by_repetition(filled))
    np.testing.assert_array_equal(out[:, :, 3], resize(rgba[:, :, 3], SCALE))


# --- Paper tiling ---


def paper_average(pixels: Array) -> Array:
    """Enlarge tiles of 32 at step 28 one by one and average them pixel by pixel."""
    height, width = pixels.shape[:2]

    def starts(side: int) -> list[int]:
        if side <= 32:
            return [0]
        regular = list(range(0, side - 32, 28))
        return [*regular, side - 32]

    total = np.zeros((SCALE * height, SCALE * width, 3))
    count = np.zeros((SCALE * height, SCALE * width, 1))
    for top in starts(height):
        for left in starts(width):
            tile = pixels[top : top + 32, left : left + 32].astype(np.float32) / np.float32(255)
            sr = vignetting(tile.transpose(2, 0, 1)[None], 0)[0].transpose(1, 2, 0)
            place = np.s_[SCALE * top :, SCALE * left :]
            total[place][: sr.shape[0], : sr.shape[1]] += sr
            count[place][: sr.shape[0], : sr.shape[1]] += 1
    return total / count * 255


@given(height=st.integers(1, 130), width=st.integers(1, 130), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_paper_tiling_is_the_average_of_tiles_of_32_at_step_28(
    height: int, width: int, seed: int
) -> None:
    pixels = noise(height, width, seed=seed) // 2
    upscaler = upscaler_on(FakeBackend(vignetting), tiling="paper")

    result = upscaler.upscale(pixels)

    # 0.5 for rounding, and a little for the average in float32.
    np.testing.assert_allclose(result.image, paper_average(pixels).clip(0, 255), atol=0.501)


def test_paper_tiling_gives_no_halo() -> None:
    backend = FakeBackend()

    upscaler_on(backend, tiling="paper").upscale(np.zeros((60, 88, 3), np.uint8))

    assert backend.calls == [(0, (2 * 3, 3, 32, 32))]


def test_an_unknown_tiling_is_refused() -> None:
    with pytest.raises(UsageError, match=r"halo.*paper"):
        upscaler_on(FakeBackend(), tiling="hexagons")  # type: ignore[arg-type]


# --- The report ---


def report_on(
    pixels: Array, *, route: str = "argmax", tiling: Tiling = "halo", backend: Backend | None = None
) -> Report:
    return upscaler_on(backend or FakeBackend(), tiling=tiling).upscale(pixels, route=route).report


def test_macs_are_those_of_all_windows_with_halo_and_of_the_classifier() -> None:
    pixels, _ = patchwork(1, 4)  # levels 0, 1, 2, 0

    report = report_on(pixels[:, :-10])

    # DESIGN.md, section 1: 10,656, 17,496 and 24,336 per pixel, 3,801,184 per tile for the Class-Module.
    window = (32 + 2 * 4) ** 2
    assert report.macs == window * (2 * 10_656 + 17_496 + 24_336) + 4 * 3_801_184
    assert report.macs_hardest == 32 * (4 * 32 - 10) * 24_336


def test_macs_of_a_picture_smaller_than_a_tile_are_those_of_its_own_size() -> None:
    report = report_on(np.zeros((10, 20, 3), np.uint8))

    assert report.macs == (10 + 8) * (20 + 8) * 10_656 + 3_801_184
    assert report.macs_hardest == 10 * 20 * 24_336


def test_macs_of_a_forced_level_leave_the_classifier_out() -> None:
    report = report_on(np.zeros((100, 90, 3), np.uint8), route="1")

    assert report.macs == (100 + 8) * (90 + 8) * 17_496
    assert report.tiles == (0, 12, 0)


def test_macs_of_paper_tiling_count_the_overlap() -> None:
    report = report_on(np.zeros((60, 88, 3), np.uint8), tiling="paper")

    assert report.macs == 2 * 3 * (32 * 32 * 10_656 + 3_801_184)


@given(height=st.integers(1, 700), width=st.integers(1, 700))
@settings(max_examples=30)
def test_one_level_everywhere_never_costs_more_in_large_tiles_than_in_small_ones(
    height: int, width: int
) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)

    unrouted, routed = (report_on(pixels, route=route).macs for route in ("easiest", "argmax"))

    assert unrouted < routed


def test_the_report_tells_model_backend_and_precision() -> None:
    report = report_on(noise(4, 5), backend=FakeBackend(precision="bf16"))

    assert (report.model, report.scale) == (CONFIG.name, 4)
    assert (report.backend, report.precision) == ("fake", "bf16")
    assert (report.input, report.output) == (None, None)


def test_seconds_add_up_to_no_more_than_their_total() -> None:
    spent = report_on(noise(100, 100)).seconds

    parts = [spent.read, spent.route, spent.networks, spent.assemble, spent.write]
    assert min(parts) >= 0
    assert sum(parts) <= spent.total + 1e-6


def test_peak_memory_is_told_in_mib() -> None:
    held = np.ones(80 * 2**20, np.uint8)

    peak = report_on(noise(4, 4)).peak_mib

    assert peak is not None
    assert held.nbytes / 2**20 < peak < 2**20


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a child may report its parent's peak"
)
def test_peak_memory_is_not_that_of_the_process_before() -> None:
    held = np.ones(300 * 2**20, np.uint8)
    code = "from classsr.report import peak_mib; print(peak_mib())"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert float(told.stdout) < held.nbytes / 2**20


@given(height=SIDES, width=SIDES, pixels_per_batch=st.sampled_from([1024, 5000, 102_400]))
@settings(max_examples=30)
def test_progress_only_grows_and_ends_at_one(
    height: int, width: int, pixels_per_batch: int
) -> None:
    told: list[float] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classsr.engine.BATCH_PIXELS", pixels_per_batch)
        upscaler_on(FakeBackend()).upscale(noise(height, width), progress=told.append)

    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1.0


# --- Files ---


def to_file(tmp_path: Path, pixels: Array, **options: Any) -> Report:  # noqa: ANN401 - passed on
    """Enlarge a picture from in.png to out.png on the painting fake."""
    Image.fromarray(pixels).save(tmp_path / "in.png")
    upscaler = upscaler_on(FakeBackend(signing))
    return upscaler.upscale_file(tmp_path / "in.png", tmp_path / "out.png", **options)


def test_the_file_holds_the_result_and_the_report_its_name(tmp_path: Path) -> None:
    pixels, _ = patchwork(1, 3)

    report = to_file(tmp_path, pixels)

    expected = upscaler_on(FakeBackend(signing)).upscale(pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected.image)
    assert report.input == str(tmp_path / "in.png")
    assert report.output == str(tmp_path / "out.png")
    assert report.seconds.write > 0


def test_a_routing_map_is_written_beside_the_result(tmp_path: Path) -> None:
    pixels, _ = patchwork(1, 3)

    to_file(tmp_path, pixels, routing_map=tmp_path / "map.png")

    assert image.read(tmp_path / "map.png").width == 480


@pytest.mark.parametrize("taken", ["out.png", "map.png"])
def test_an_existing_file_is_kept_and_nothing_is_computed(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"precious")

    with pytest.raises(OutputError, match=taken):
        to_file(tmp_path, noise(4, 4), routing_map=tmp_path / "map.png")

    assert (tmp_path / taken).read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_existing_file_is_replaced_when_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"old")

    to_file(tmp_path, noise(4, 4), overwrite=True)

    assert image.read(tmp_path / "out.png").width == 16


@pytest.mark.parametrize("overwrite", [False, True])
def test_one_file_cannot_be_both_result_and_routing_map(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(UsageError, match=r"out\.png"):
        to_file(tmp_path, noise(4, 4), routing_map=tmp_path / "out.png", overwrite=overwrite)

    assert not (tmp_path / "out.png").exists()


# --- Two doors to one house ---


def test_the_function_gives_what_the_class_gives() -> None:
    pixels = noise(40, 50)
    expected = Upscaler(precision="f32").upscale(pixels, route="1")

    result = classsr.upscale(pixels, precision="f32", route="1")

    np.testing.assert_array_equal(result.image, expected.image)
    assert result.report.tiles == expected.report.tiles


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "no-such-model"}, ModelError),
        ({"backend": "no-such-backend"}, UsageError),
        ({"route": "sideways"}, UsageError),
        ({"backend": "onnx", "precision": "bf16"}, BackendError),
        ({"precision": "f64"}, UsageError),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        classsr.upscale(noise(4, 4), **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_branch_that_gives_no_numbers_is_an_error_not_a_black_tile(value: float) -> None:
    def broken(batch: Floats, level: int) -> Floats:
        sr = repeat(batch)
        sr[-1, 0, 0, 0] = value
        return sr

    with pytest.raises(BackendError, match="--precision f32"):
        upscaler_on(FakeBackend(broken)).upscale(noise(40, 40))


@pytest.mark.parametrize("held", [2**24, 1], ids=["held", "in bands"])
@pytest.mark.parametrize("size", [(160, 256), (150, 250)])
def test_nothing_is_spent_on_what_is_fully_transparent(
    monkeypatch: pytest.MonkeyPatch, held: int, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)
    monkeypatch.setattr("classsr.planner.MOST_PIXELS", 1)
    costs = by_macs(find_model("compact-x4").config)
    upscaler = Upscaler("compact-x4", precision="f32", costs=costs)
    pixels = noise(*size)
    alpha = np.full(size, 255, np.uint8)
    seen = upscaler.upscale(Picture(pixels, alpha), max_loss=0.001)
    alpha[:, :128] = 0
    half = upscaler.upscale(Picture(pixels, alpha), max_loss=0.001)

    hardest = len(upscaler.model.config.levels) - 1
    assert (seen.levels == hardest).all()
    assert (half.levels[:, :4] == 0).all()
    assert (half.levels[:, 4:] == hardest).all()
