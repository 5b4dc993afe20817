"""Pictures that tests make themselves, each with easy and hard parts, and pairs of them in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from classsr.data.pairs import Entry, Pairs

Array = npt.NDArray[Any]


def noise(*shape: int, seed: int = 0) -> Array:
    samples: Array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return samples


def landscape(height: int, width: int, *, seed: int = 0) -> Array:
    """A calm sky on the left that turns into gravel on the right: RGB (height, width, 3), uint8.

    Only the gravel depends on the seed, so that every landscape has as many easy and hard parts as every other.
    """
    y, x = np.mgrid[:height, :width] / max(height, width)
    sky = 120 + 40 * np.sin(3 * y[..., None] + 2 * x[..., None] + np.arange(3))
    gravel = np.random.default_rng(seed).normal(0, 60, (height, width, 3)) * x[..., None] ** 2
    picture: Array = np.clip(sky + gravel, 0, 255).astype(np.uint8)
    return picture


def write_landscapes(folder: Path, count: int, height: int, width: int) -> Path:
    """Write `count` landscapes as PNG with Pillow."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        Image.fromarray(landscape(height, width, seed=seed)).save(folder / f"{seed:02}.png")
    return folder


def block_mean(hr: Array, scale: int) -> Array:
    """A shrinking that turns and mirrors with the picture exactly, which bicubic does but for its rounding."""
    blocks = hr.reshape(hr.shape[0] // scale, scale, hr.shape[1] // scale, scale, 3)
    means: Array = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return means


def pairs_in_memory(hrs: Sequence[Array], *, scale: int) -> Pairs:
    """Pairs of HR pictures and their block means; sides are multiples of `scale`."""
    lrs = [block_mean(hr, scale) for hr in hrs]
    entries, offset = [], 0
    for index, lr in enumerate(lrs):
        entries.append(Entry(f"{index}.png", 1.0, lr.shape[0], lr.shape[1], offset))
        offset += lr.shape[0] * lr.shape[1]
    return Pairs(
        scale=scale,
        entries=tuple(entries),
        checksum="in memory",
        lr_pixels=np.concatenate([lr.reshape(-1, 3) for lr in lrs]),
        hr_pixels=np.concatenate([hr.reshape(-1, 3) for hr in hrs]),
    )
