"""No wrong picture: what a network cannot have meant is run again in float32, and what stays wrong is refused."""

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from classsr import Upscaler
from classsr.backends import Choice, open_backend
from classsr.backends.base import Floats
from classsr.canvas import to_network
from classsr.cli import main
from classsr.costs import by_macs
from classsr.engine import Tiling
from classsr.errors import BackendError
from classsr.guard import SIDE, SUSPECT, WRONG, differences
from classsr.model import BUNDLED, find_model, sha256
from fakes import SCALE, FakeBackend, enlarged_by_repetition, repeat, repeating
from pictures import landscape, noise

Array = npt.NDArray[Any]
Enlarge = Callable[[Floats, int], Floats]

MODEL = "fsrcnn-x4"
BAD = [np.nan, np.inf, -np.inf, 1e30, -40.0, WRONG + 1.5]


@dataclass
class Machine:
    """A runtime whose bf16 and f32 are two networks; notes what is opened."""

    low: Enlarge
    precise: Enlarge = repeating
    opened: list[Choice] = field(default_factory=list)

    def open(self, name: str, *, precision: Choice, threads: int | None) -> FakeBackend:
        self.opened.append(precision)
        if precision == "f32":
            return FakeBackend(self.precise, precision="f32", name=name, threads=threads)
        return FakeBackend(self.low, precision="bf16", name=name, threads=threads)

    def upscaler(self, *, precision: Choice = "auto", tiling: Tiling = "halo") -> Upscaler:
        """An upscaler on this machine."""
        costs = by_macs(find_model(MODEL).config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("classsr.upscaler.open_backend", self.open)
            return Upscaler(MODEL, precision=precision, tiling=tiling, costs=costs)


@dataclass
class Unreliable:
    """Enlarges by repetition and spoils some windows; counts them."""

    value: float
    seed: int
    share: float = 0.5
    everywhere: bool = True  # or in a single value
    spoiled: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, batch: Floats, level: int) -> Floats:
        sr = repeat(batch)
        for window in sr:
            if self._rng.random() < self.share:
                self.spoiled += 1
                at = tuple(self._rng.integers(0, window.shape))
                window[() if self.everywhere else at] = self.value
        return sr


def spoil_where_bright(value: float) -> Enlarge:
    """Spoils every window that holds a bright pixel."""

    def enlarge(batch: Floats, level: int) -> Floats:
        sr = repeat(batch)
        sr[batch.max(axis=(1, 2, 3)) > 0.5] = value
        return sr

    return enlarge


# --- Through the upscaler ---


@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    value=st.sampled_from(BAD),
    seed=st.integers(0, 99),
    tiling=st.sampled_from(["halo", "paper"]),
)
@settings(max_examples=60)
def test_what_is_wrong_in_low_precision_is_what_float32_gives(
    height: int, width: int, value: float, seed: int, tiling: Tiling
) -> None:
    pixels = noise(height, width, 3, seed=seed)
    low = Unreliable(value, seed)
    upscaler = Machine(low).upscaler(tiling=tiling)

    result = upscaler.upscale(pixels, route="argmax")

    # The average of overlapping tiles may be rounded down.
    off = np.abs(result.image.astype(int) - enlarged_by_repetition(pixels))
    assert off.max() <= (1 if tiling == "paper" else 0)
    assert result.report.recomputed == low.spoiled
    assert result.report.precision == "bf16"


@given(value=st.sampled_from(BAD[:4]), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_a_single_value_that_is_no_number_is_enough(value: float, seed: int) -> None:
    pixels = noise(100, 70, 3, seed=seed)
    low = Unreliable(value, seed, everywhere=False)

    result = Machine(low).upscaler().upscale(pixels, route="1")

    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels))
    assert result.report.recomputed == low.spoiled


def test_one_tile_of_a_large_window_is_enough() -> None:
    def low(batch: Floats, level: int) -> Floats:
        sr = repeat(batch)
        sr[:, :, 40 * SCALE : 72 * SCALE, 40 * SCALE : 72 * SCALE] = 1
        return sr

    pixels = noise(200, 300, 3) // 3

    result = Machine(low).upscaler().upscale(pixels, route="1")

    assert result.report.recomputed == 1
    np.testing.assert_array_equal(result.image, enlarged_by_repetition(pixels))


def test_only_what_is_wrong_is_run_again() -> None:
    pixels = np.full((32, 320, 3), 20, np.uint8)
    pixels[:, ::80] = 40  # judged like the rest
    pixels[10, 200] = 255
    machine = Machine(spoil_where_bright(np.nan))
    upscaler = machine.upscaler(tiling="paper")

    report = upscaler.upscale(pixels, route="0").report

    holding = sum(left <= 200 < left + 32 for left in [*range(0, 288, 28), 288])
    assert report.recomputed == holding
    assert holding < report.tiles[0]


def test_float32_is_opened_when_it_is_needed_and_kept() -> None:
    machine = Machine(spoil_where_bright(np.inf))
    upscaler = machine.upscaler()
    dark, bright = (np.full((40, 40, 3), value, np.uint8) for value in (10, 200))

    counts, opened = [], []
    for pixels in (dark, bright, dark, bright):
        counts.append(upscaler.upscale(pixels, route="1").report.recomputed)
        opened.append(len(machine.opened))

    assert counts == [0, 1, 0, 1]
    assert opened == [1, 2, 2, 2]
    assert machine.opened == ["auto", "f32"]


def test_a_warning_says_what_was_run_again(caplog: pytest.LogCaptureFixture) -> None:
    upscaler = Machine(spoil_where_bright(np.nan)).upscaler()
    dark, bright = (np.full((40, 40, 3), value, np.uint8) for value in (10, 200))

    with caplog.at_level(logging.WARNING, "classsr"):
        upscaler.upscale(dark, route="1")
        silent = list(caplog.messages)
        upscaler.upscale(bright, route="1")

    assert silent == []
    (message,) = caplog.messages
    assert message.startswith("windows that were wrong in bf16 and were run again in f32: 1;")


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_what_stays_wrong_is_refused_with_its_level_and_place(
    precision: Choice, value: float
) -> None:
    broken = spoil_where_bright(value)
    machine = Machine(broken, broken)
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[70, 130] = 255
    upscaler = machine.upscaler(precision=precision, tiling="paper")

    with pytest.raises(BackendError, match=r"^Level 1 \(fsrcnn-36\) made no picture") as caught:
        upscaler.upscale(pixels, route="1")

    told = re.search(r"x (\d+) to (\d+), y (\d+) to (\d+)", str(caught.value))
    assert told is not None
    left, right, top, bottom = map(int, told.groups())
    assert left <= 130 < right
    assert top <= 70 < bottom
    assert (right - left, bottom - top) == (32, 32)
    assert machine.opened == (["f32"] if precision == "f32" else ["auto", "f32"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tiling", ["halo", "paper"])
def test_what_is_no_number_is_refused(tiling: Tiling, value: float) -> None:
    broken = Unreliable(value, 0, share=1, everywhere=False)
    upscaler = Machine(broken, broken).upscaler(precision="f32", tiling=tiling)

    with pytest.raises(BackendError, match="--precision f32"):
        upscaler.upscale(noise(8, 8, 3), route="1")


def test_a_picture_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    Image.fromarray(noise(300, 40, 3)).save(tmp_path / "in.png")
    broken = Unreliable(np.nan, 0, share=1)
    upscaler = Machine(broken, broken).upscaler()

    with pytest.raises(BackendError):
        upscaler.upscale_file(tmp_path / "in.png", tmp_path / "out.png", route="hardest")

    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


# --- What is compared ---


def plain_difference(sr: Floats, lr: Floats) -> float:
    """The largest difference of means of one window's blocks, block by block in float64."""

    def starts(length: int) -> list[tuple[int, int]]:
        count = max(length // SIDE, 1)
        return [(n * SIDE, length if n == count - 1 else (n + 1) * SIDE) for n in range(count)]

    _, height, width = lr.shape
    return max(
        abs(
            float(
                sr[c, SCALE * top : SCALE * bottom, SCALE * left : SCALE * right].mean(dtype=float)
            )
            - float(lr[c, top:bottom, left:right].mean(dtype=float))
        )
        for c in range(3)
        for top, bottom in starts(height)
        for left, right in starts(width)
    )


@given(
    count=st.integers(1, 3),
    height=st.integers(1, 140),
    width=st.integers(1, 140),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_the_difference_is_the_largest_of_all_blocks(
    count: int, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lr = rng.random((count, 3, height, width), np.float32)
    sr = rng.normal(0, 3, (count, 3, SCALE * height, SCALE * width)).astype(np.float32)

    found = differences(sr, lr)

    expected = [plain_difference(*pair) for pair in zip(sr, lr, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    at=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 4),
    value=st.sampled_from(BAD[:3]),
)
def test_one_value_that_is_no_number_is_seen_anywhere(
    height: int, width: int, at: tuple[float, ...], value: float
) -> None:
    lr = np.zeros((3, 3, height, width), np.float32)
    sr = repeat(lr)
    place = tuple(int(share * side) for share, side in zip(at, sr.shape, strict=True))
    sr[place] = value

    seen = ~np.isfinite(differences(sr, lr))

    np.testing.assert_array_equal(np.flatnonzero(seen), place[:1])


def irritating() -> list[Array]:
    """Pictures unlike any photograph: flat, chequered, dotted, noise."""
    y, x = np.mgrid[:72, :72]
    planes = [0 * x, 0 * x + 1, (x + y) % 2, x % 2, (x % 2) * (y % 2), (x == 30) & (y == 40)]
    greys = [np.repeat((255 * plane).astype(np.uint8)[:, :, None], 3, axis=2) for plane in planes]
    colours = np.stack([(x + y) % 2, (x + y + 1) % 2, x % 2], axis=2).astype(np.uint8) * 255
    return [*greys, colours, noise(72, 72, 3), noise(72, 72, 3) // 128 * 255]


@pytest.mark.parametrize(("model", "bound"), [("compact-x4", SUSPECT), (MODEL, WRONG / 2)])
def test_no_bundled_model_is_called_wrong(model: str, bound: float) -> None:
    backend = open_backend("openvino", precision="f32", threads=None)
    found = find_model(model)

    for level in range(len(found.config.levels)):
        network = backend.branch(found, level)
        for pixels in [*irritating(), landscape(72, 72)]:
            lr = to_network(pixels[None])
            assert differences(network(lr), lr).max() < bound


@pytest.mark.parametrize("model", ["compact-x4", MODEL, "bicubic"])
def test_photographs_are_far_from_suspect(model: str) -> None:
    with Image.open(Path(__file__).parents[1] / "examples" / "bay.jpg") as opened:
        pixels = np.asarray(opened.convert("RGB"))[100:228, 200:328]
    backend = open_backend("openvino", precision="f32", threads=None)
    found = find_model(model)

    for level in range(len(found.config.levels)):
        lr = to_network(pixels[None])
        assert differences(backend.branch(found, level)(lr), lr).max() < SUSPECT / 5


# --- A model that is broken ---


@pytest.fixture
def broken_model(tmp_path: Path) -> Path:
    """A bundled model whose hardest branch adds 10 to every value, its checksums right."""
    folder = tmp_path / "broken"
    shutil.copytree(BUNDLED / MODEL, folder)
    path = folder / "branch-2.onnx"
    graph = onnx.load(path)
    last = next(node for node in reversed(graph.graph.node) if len(node.input) == 3)
    for initializer in graph.graph.initializer:
        if initializer.name == last.input[2]:
            bias = np.full(initializer.dims, 10, np.float32)
            initializer.CopyFrom(numpy_helper.from_array(bias, initializer.name))
    onnx.save(graph, path)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["sha256"]["branch-2.onnx"] = sha256(path)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_broken_model_ends_in_one_sentence_and_leaves_nothing(
    backend: str,
    broken_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(landscape(60, 50)).save(tmp_path / "in.png")
    before = set(tmp_path.rglob("*"))
    options = ["--model", str(broken_model), "--backend", backend, "--route", "hardest"]
    picture, result = str(tmp_path / "in.png"), str(tmp_path / "out.png")
    monkeypatch.setattr(sys, "argv", ["classsr", "upscale", picture, "-o", result, *options])

    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        logging.getLogger("classsr").handlers.clear()

    assert caught.value.code == BackendError.exit_code == 6
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Level 2 (fsrcnn-56) made no picture of x 0 to 50, y 0 to 60" in err
    assert set(tmp_path.rglob("*")) == before


def test_the_other_levels_of_a_broken_model_are_good(broken_model: Path) -> None:
    upscaler = Upscaler(str(broken_model), precision="f32")

    result = upscaler.upscale(landscape(40, 40), route="1")

    expected = Upscaler(MODEL, precision="f32").upscale(landscape(40, 40), route="1")
    np.testing.assert_array_equal(result.image, expected.image)
