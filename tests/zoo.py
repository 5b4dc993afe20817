"""Small pictures of all kinds, good and broken, made by independent libraries."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageCms

Array = npt.NDArray[Any]
PROFILES = [
    None,
    ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
]
SUFFIXES = {"L": [".png", ".jpg", ".tif"], "RGB": [".png", ".jpg", ".tif", ".webp", ".avif"]}
SUFFIXES |= {
    "RGBA": [".png", ".tif", ".webp"],
    "LA": [".png"],
    "P": [".png"],
    "1": [".png", ".tif"],
}
SUFFIXES |= {"CMYK": [".jpg", ".tif"], "I;16": [".png", ".tif"]}


def smooth(rng: np.random.Generator, height: int, width: int, channels: int) -> Array:
    """Something like a photograph: shades and edges, uint8 (H, W, channels)."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [
        np.sin(x * rng.uniform(0, 0.3) + y * rng.uniform(0, 0.3) + rng.uniform(0, 6))
        for _ in range(channels)
    ]
    shades = 127 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 5, (height, width, channels))
    shades[y > x + rng.integers(-20, 20)] //= 2
    pixels: Array = shades.clip(0, 255).astype(np.uint8)
    return pixels


def write_good(path: Path, height: int, width: int, rng: np.random.Generator) -> Path:
    """Write a picture of a random kind to `path` with the suffix that it takes, and return where."""
    mode = str(rng.choice([*SUFFIXES, "RGB", "RGB", "rgb", "cielab"]))
    if mode in ("rgb", "cielab"):
        pixels = smooth(rng, height, width, 3).astype(np.uint16) * 257
        tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric=mode)
        return path.with_suffix(".tif")
    path = path.with_suffix(str(rng.choice(SUFFIXES[mode])))
    if mode == "I;16":
        image = Image.fromarray(smooth(rng, height, width, 1)[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(smooth(rng, height, width, 3))
        image = image if mode == "RGB" else image.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(smooth(rng, height, width, 1)[..., 0]))
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    exif[0x010F] = "Maker"
    options: dict[str, Any] = {}
    if path.suffix == ".jpg":
        options = {"exif": exif, "progressive": bool(rng.integers(2)), "quality": 90}
    if mode == "RGB":
        options |= {"exif": exif, "icc_profile": PROFILES[rng.integers(len(PROFILES))]}
    image.save(path, **options)
    return path


def truncated(path: Path, rng: np.random.Generator) -> None:
    """Leave the first half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path, rng: np.random.Generator) -> None:
    """Leave nothing."""
    path.write_bytes(b"")


def replaced(path: Path, rng: np.random.Generator) -> None:
    """Leave something else."""
    path.write_bytes(b"<html><body>404</body></html>" * 20)


def shuffled(path: Path, rng: np.random.Generator) -> None:
    """Leave noise."""
    path.write_bytes(rng.bytes(500))


BREAK: list[Callable[[Path, np.random.Generator], None]] = [truncated, emptied, replaced, shuffled]


def fill(
    folder: Path, count: int, *, seed: int = 0
) -> Iterator[tuple[Path, tuple[int, int] | None]]:
    """Fill a folder, two floors deep, with pictures; yield each with its stored sides, None for one in ten broken."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        place = folder / ("" if index % 3 else f"deep {index % 5}") / f"{index:04d}"
        place.parent.mkdir(parents=True, exist_ok=True)
        height, width = rng.integers(1, 64, 2).tolist()
        path = write_good(place, height, width, rng)
        is_good = index % 10 != 7
        if not is_good:
            BREAK[int(rng.integers(len(BREAK)))](path, rng)
        yield path, (height, width) if is_good else None
