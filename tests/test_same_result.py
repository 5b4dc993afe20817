"""The same input, model, precision and plan give the same bytes; what changes how windows are run, hardly anything.

The tolerances are those of `Upscaler`'s docstring.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from classsr import Upscaler
from classsr.backends import Precision, open_backend
from classsr.costs import by_macs
from classsr.model import find_model
from pictures import landscape, noise

Array = npt.NDArray[Any]

MODELS = ["compact-x4", "fsrcnn-x4"]
TOLERANCE: dict[Precision, int] = {"f32": 1, "bf16": 8, "f16": 8}  # of 255
INTEGERS = 8  # where the last bit of a sum may decide which integer is computed with


def upscaler_of(model: str, **options: Any) -> Upscaler:  # noqa: ANN401 - passed on
    """An upscaler that plans by multiply-accumulates, so that every one makes the same plan."""
    return Upscaler(model, costs=by_macs(find_model(model).config), **options)


def route_of(model: str) -> dict[str, Any]:
    """What puts several levels into one picture."""
    if model == "fsrcnn-x4":
        return {"route": "argmax"}
    # At 0.5 and 0.6 tiles of `landscape` are as good bargains as each other, and rounding decides: other plans.
    return {"budget": 0.4}


def enlarge(upscaler: Upscaler, pixels: Array) -> Array:
    """Enlarge with several levels in one picture."""
    return upscaler.upscale(pixels, **route_of(upscaler.model.config.name)).image


def furthest(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(int) - b).max())


# --- The same bytes ---


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_one_process_writes_the_same_bytes_twice(model: str, suffix: str, tmp_path: Path) -> None:
    rgba = np.concatenate([landscape(70, 150), noise(70, 150, 1)], axis=2)
    Image.fromarray(rgba[:, :, : 3 if suffix == "jpg" else 4]).save(tmp_path / "in.png")
    files = [tmp_path / f"{n}.{suffix}" for n in range(2)]

    for file in files:
        upscaler_of(model).upscale_file(tmp_path / "in.png", file, max_loss=0.1)

    assert files[0].read_bytes() == files[1].read_bytes()


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    Image.fromarray(landscape(70, 150)).save(tmp_path / "in.png")
    files = [tmp_path / f"{n}.png" for n in range(2)]

    for file in files:
        command = [sys.executable, "-m", "classsr", "upscale", "in.png", "-o", file.name]
        subprocess.run(
            [*command, "--max-loss", "0.1"],
            cwd=tmp_path,
            env=os.environ | {"CLASSSR_CACHE": str(tmp_path / "cache")},
            check=True,
        )

    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_a_picture_comes_out_the_same_alone_and_after_others(model: str) -> None:
    pixels = landscape(90, 130)
    alone = enlarge(upscaler_of(model), pixels)
    upscaler = upscaler_of(model)

    for seed, (height, width) in enumerate([(1, 1), (33, 200), (90, 130), (150, 40)]):
        enlarge(upscaler, noise(height, width, 3, seed=seed))

    np.testing.assert_array_equal(enlarge(upscaler, pixels), alone)


# --- Within a tolerance ---


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("backend", ["openvino", "onnx", "torch"])
@pytest.mark.parametrize("pixels_per_batch", [1, 5000])
def test_the_size_of_batches_hardly_matters(
    model: str, backend: str, pixels_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = landscape(70, 110)
    levels = (
        upscaler_of(model, backend=backend, precision="f32")
        .upscale(pixels, **route_of(model))
        .levels
    )
    expected = enlarge(upscaler_of(model, backend=backend, precision="f32"), pixels)

    monkeypatch.setattr("classsr.engine.BATCH_PIXELS", pixels_per_batch)
    found = enlarge(upscaler_of(model, backend=backend, precision="f32"), pixels)

    assert len(np.unique(levels)) > 1
    assert furthest(found, expected) <= TOLERANCE["f32"]


@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        ("openvino", "f32"),
        ("openvino", "auto"),
        ("onnx", "f32"),
        ("torch", "f32"),
        ("torch", "bf16"),
    ],
)
@pytest.mark.parametrize(
    ("model", "level"), [*((model, -1) for model in MODELS), ("compact-x4", -2)]
)
def test_neither_order_nor_number_of_windows_nor_threads_matter(
    model: str,
    level: int,
    backend: str,
    precision: Any,  # noqa: ANN401 - a Choice
) -> None:
    found = find_model(model)
    windows = np.random.default_rng(0).random((5, 3, 20, 20), np.float32)
    order = np.random.default_rng(1).permutation(5)
    results = []
    for threads in (1, 2):
        engine = open_backend(backend, precision=precision, threads=threads)
        network = engine.branch(found, level)
        results.append(network(windows).copy())
        shuffled = np.empty_like(results[0])
        shuffled[order] = network(windows[order])
        results.append(shuffled)
        results.append(np.concatenate([network(window[None]).copy() for window in windows]))

    pictures = [(255 * np.clip(sr, 0, 1) + 0.5).astype(np.uint8) for sr in results]

    tolerance = TOLERANCE[engine.precision]
    if found.config.levels[level].quantized:
        tolerance = INTEGERS
    for picture in pictures[1:]:
        assert furthest(picture, pictures[0]) <= tolerance
