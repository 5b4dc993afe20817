"""Pairs of LR and HR pictures, packed once so that training reads them as memory maps.

A packed folder holds `hr.bin` and `lr.bin` (uint8 RGB rows, picture after picture) and `pairs.json`, which says
what lies where, from which file and how much shrunk, with a checksum of the sources. Knows nothing of patches.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classsr.data.drawn import drawn
from classsr.errors import InputError, OutputError
from classsr.files import write_whole
from classsr.image import Samples, find_pictures, read
from classsr.resize import Sample, resize

SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6)  # the paper's copies of every training picture
GRAIN_STRENGTH = (0.6, 2.5)  # standard deviation of noise, of 255
GRAIN_SPREAD = (0.0, 0.5)  # how much of a pixel's noise each neighbour in a row or column gets
RGB8 = NDArray[np.uint8]
Source = Path | int  # a file, or the number of a picture that is drawn here


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair: LR size in pixels, where it comes from, and its first pixel's place in the two files."""

    name: str
    shrink: float
    height: int
    width: int
    offset: int  # in LR pixels; times scale**2 in HR pixels


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs that lie in a packed folder. Pictures are (H, W, 3) uint8 views of the memory maps."""

    scale: int
    entries: tuple[Entry, ...]
    checksum: str
    lr_pixels: RGB8  # (all LR pixels, 3)
    hr_pixels: RGB8  # (all HR pixels, 3)

    def lr(self, index: int) -> RGB8:
        """Return the LR picture of a pair."""
        entry = self.entries[index]
        area = entry.height * entry.width
        pixels = self.lr_pixels[entry.offset : entry.offset + area]
        return pixels.reshape(entry.height, entry.width, 3)

    def hr(self, index: int) -> RGB8:
        """Return the HR picture of a pair."""
        entry, s = self.entries[index], self.scale
        start, area = entry.offset * s * s, entry.height * entry.width * s * s
        return self.hr_pixels[start : start + area].reshape(entry.height * s, entry.width * s, 3)


def crop_to_multiple(hr: NDArray[Sample], scale: int) -> NDArray[Sample]:
    """Cut right and bottom so that both sides are multiples of `scale`."""
    return hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]


def to_eight_bit(samples: Samples) -> RGB8:
    """Round 16 bits to 8; 8 bits stay as they are."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return np.round(samples / 257.0).astype(np.uint8)


def make_pairs(
    source: Source, *, scale: int, shrinks: Sequence[float], grain: float | None = None
) -> list[tuple[float, RGB8, RGB8]]:
    """Read or draw a picture and return (shrink, LR, HR) for each copy, the noisy one first; 16 bits become 8."""
    rgb = drawn(source) if isinstance(source, int) else to_eight_bit(read(source).rgb)
    copies = [(shrink, copy_of(rgb, shrink)) for shrink in shrinks]
    if grain is not None:
        copies.insert(0, (grain, with_grain(copy_of(rgb, grain))))
    pairs = []
    for shrink, copy in copies:
        hr = crop_to_multiple(copy, scale)
        if 0 not in hr.shape:
            pairs.append((shrink, resize(hr, 1 / scale), hr))
    return pairs


def copy_of(rgb: RGB8, shrink: float) -> RGB8:
    """Shrink a picture; above 1 enlarge its middle to the picture's size, as soft as large photographs are."""
    if shrink > 1.0:
        height, width = (max(1, round(side / shrink)) for side in rgb.shape[:2])
        top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
        rgb = rgb[top : top + height, left : left + width]
    return rgb if shrink == 1.0 else resize(rgb, shrink)


def with_grain(rgb: RGB8) -> RGB8:
    """Add noise as in large photographs to (H, W, 3): as strong everywhere, smeared a little, always the same."""
    random = np.random.default_rng(zlib.crc32(rgb.tobytes()))
    strength, spread = random.uniform(*GRAIN_STRENGTH), random.uniform(*GRAIN_SPREAD)
    height, width, channels = rgb.shape
    noise = random.standard_normal((height + 2, width + 2, channels))
    noise = noise[1:-1] + spread * (noise[:-2] + noise[2:])
    noise = noise[:, 1:-1] + spread * (noise[:, :-2] + noise[:, 2:])
    noise *= strength / (1 + 2 * spread**2)  # that spreading changes no deviation
    return np.clip(np.rint(rgb + noise), 0, 255).astype(np.uint8)


def _name_and_content(source: Source) -> tuple[str, bytes]:
    """Return what tells a picture from others."""
    if isinstance(source, int):
        return f"drawn-{source:03}", b""
    return source.name, source.read_bytes()


def pack(
    hr_folder: Path,
    out: Path,
    *,
    scale: int,
    shrinks: Sequence[float] = SHRINKS,
    draw: int = 0,
    grain: float | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """Make LR and HR of every picture and every shrunk copy and pack them into the folder `out`.

    Args:
        hr_folder: HR pictures, all used.
        out: folder to create or refill; `pairs.json` is written last, so that a broken run leaves none.
        scale: HR size over LR size.
        shrinks: factors of the copies, 1.0 for the picture itself (see `copy_of`).
        draw: how many pictures to draw besides (see `drawn`).
        grain: the factor of one more copy, an enlarged one that has noise (see `with_grain`); none by default.
        workers: processes.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: a picture cannot be read, or none is large enough.
        OutputError: the folder cannot be written.

    """
    sources = [*find_pictures(hr_folder), *range(draw)]
    work = partial(make_pairs, scale=scale, shrinks=shrinks, grain=grain)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "pairs.json").unlink(missing_ok=True)
        # Not forked: libvips and torch run threads, which a forked process lacks.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            made = map(work, sources) if workers == 1 else pool.map(work, sources)
            index = _write_pixels(zip(sources, made, strict=True), out, progress, len(sources))
        if not index["entries"]:
            raise InputError(
                f"Every picture in {hr_folder} is smaller than {scale}x{scale} pixels."
            )
        content = json.dumps({"scale": scale, **index}, indent=1)
        write_whole(out / "pairs.json", content.encode())
    except OSError as exc:
        raise OutputError(
            f"The pairs cannot be written: {exc.filename or out}, {exc.strerror or exc}."
        ) from exc
    return open_pairs(out)


def _write_pixels(
    made: Iterable[tuple[Source, list[tuple[float, RGB8, RGB8]]]],
    out: Path,
    progress: Callable[[int, int], None],
    total: int,
) -> dict[str, Any]:
    """Write the pairs of each picture as they come, and return where they lie and a checksum of the pictures."""
    digest = hashlib.sha256()
    entries: list[Entry] = []
    offset = 0
    with (out / "lr.bin").open("wb") as lr_file, (out / "hr.bin").open("wb") as hr_file:
        for done, (source, pairs) in enumerate(made, start=1):
            name, content = _name_and_content(source)
            digest.update(name.encode() + content)
            for shrink, lr, hr in pairs:
                lr_file.write(lr.tobytes())
                hr_file.write(hr.tobytes())
                entries.append(Entry(name, shrink, lr.shape[0], lr.shape[1], offset))
                offset += lr.shape[0] * lr.shape[1]
            progress(done, total)
    return {"checksum": digest.hexdigest(), "entries": [asdict(entry) for entry in entries]}


def open_pairs(folder: Path) -> Pairs:
    """Open a packed folder without reading its pixels.

    Raises:
        InputError: the folder was not packed, or packing it was interrupted.

    """
    path = folder / "pairs.json"
    if not path.is_file():
        raise InputError(
            f"{folder} holds no pairs.json; make it with `classsr data pack HR_FOLDER {folder}`."
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        pairs = Pairs(
            scale=index["scale"],
            entries=tuple(Entry(**entry) for entry in index["entries"]),
            checksum=index["checksum"],
            lr_pixels=np.memmap(folder / "lr.bin", np.uint8, mode="r").reshape(-1, 3),
            hr_pixels=np.memmap(folder / "hr.bin", np.uint8, mode="r").reshape(-1, 3),
        )
        area = sum(entry.height * entry.width for entry in pairs.entries)
        if (len(pairs.lr_pixels), len(pairs.hr_pixels)) != (area, area * pairs.scale**2):
            raise ValueError("pixels are missing")
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise InputError(
            f"{folder} is damaged ({exc}); make it again with `classsr data pack HR_FOLDER {folder}`."
        ) from exc
    return pairs
