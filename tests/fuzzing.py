"""Broken pictures: small real files of every kind that is read, and edits that break them; also a process of its own.

    python tests/fuzzing.py FIRST COUNT

reads COUNT broken files, the first that of seed FIRST. It prints every seed before its file is read, so that the last
one tells what crashed it, and in the end one line of JSON: how many were read, and what the process holds more.
"""

import gc
import io
import json
import os
import random
import struct
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyvips
import tifffile
from PIL import Image, ImageCms

from classsr.errors import InputError
from classsr.image import open_picture
from pictures import landscape

HEIGHT, WIDTH = 40, 56
MAX_PIXELS = 2**18  # of a broken picture that is read all the same
ROWS = 19  # read at a time
WARM_UP = 200  # files, until libvips has filled its caches

Kind = Literal["flip", "set", "number", "cut", "remove", "double", "swap"]
# Numbers that lengths, sizes and offsets are replaced by: borders of types, of signs and of libraries.
NUMBERS = (
    0,
    1,
    2,
    8,
    0x7F,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x10000,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)


@dataclass(frozen=True)
class Edit:
    """One change of a file: of what kind, at which share of its length, over how many bytes, and with what number."""

    kind: Kind
    where: float
    size: int
    value: int


def make_files() -> dict[str, bytes]:
    """Small pictures in every format, by name: depths, palettes, interlaced, progressive, tiled, CMYK, many pages."""
    rgb = landscape(HEIGHT, WIDTH)
    grey, alpha = rgb[..., 0], rgb[..., 1]
    deep = rgb.astype(np.uint16) * 257
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    tagged = {"icc_profile": profile, "exif": exif.tobytes()}
    plain = Image.fromarray(rgb)
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    inks = Image.fromarray(np.dstack([rgb, alpha]), mode="CMYK")
    palette = plain.quantize(30)
    frames = {"save_all": True, "append_images": [plain.rotate(90), plain.rotate(180)]}
    vips = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb")
    vips_deep = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")

    def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - theirs
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    def tiff(pixels: Any, **options: Any) -> bytes:  # noqa: ANN401 - theirs
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, **options)
        return file.getvalue()

    def saved(image: pyvips.Image, suffix: str, **options: Any) -> bytes:  # noqa: ANN401 - theirs
        content: bytes = image.write_to_buffer(suffix, **options)
        return content

    return {
        "png": pillow(plain, "PNG", **tagged),
        "png alpha": pillow(rgba, "PNG"),
        "png grey": pillow(Image.fromarray(grey), "PNG"),
        "png bits": pillow(Image.fromarray(grey > 128), "PNG"),
        "png palette": pillow(palette, "PNG", transparency=3),
        "png interlaced": saved(vips, ".png", interlace=True),
        "png 16 bits": saved(vips_deep, ".png"),
        "png 16 bits interlaced": saved(vips_deep, ".png", interlace=True),
        "jpeg": pillow(plain, "JPEG", **tagged),
        "jpeg progressive": pillow(plain, "JPEG", progressive=True),
        "jpeg grey": pillow(Image.fromarray(grey), "JPEG"),
        "jpeg cmyk": pillow(inks, "JPEG", icc_profile=profile),
        "jpeg restart": saved(vips, ".jpg", restart_interval=2),
        "webp": pillow(plain, "WEBP", **tagged),
        "webp lossless": pillow(rgba, "WEBP", lossless=True),
        "webp alpha": pillow(rgba, "WEBP", quality=70),
        "webp animated": pillow(plain, "WEBP", **frames),
        "tiff": pillow(plain, "TIFF", icc_profile=profile),
        "tiff deflate": tiff(rgb, compression="zlib", predictor=True, rowsperstrip=8),
        "tiff lzw": saved(vips, ".tif", compression="lzw", predictor="horizontal"),
        "tiff packbits": saved(vips, ".tif", compression="packbits"),
        "tiff jpeg": saved(vips, ".tif", compression="jpeg"),
        "tiff tiled": saved(vips, ".tif", tile=True, tile_width=16, tile_height=16),
        "tiff pyramid": saved(vips, ".tif", tile=True, tile_width=16, tile_height=16, pyramid=True),
        "tiff big": tiff(deep, bigtiff=True),
        "tiff planar": tiff(np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate"),
        "tiff 16 bits": saved(vips_deep, ".tif", compression="deflate", predictor="horizontal"),
        "tiff float": tiff(rgb.astype(np.float32), photometric="rgb"),
        "tiff cmyk": pillow(inks, "TIFF", icc_profile=profile),
        "tiff palette": pillow(palette, "TIFF"),
        "tiff lab": tiff(deep, photometric="cielab"),
        "tiff fax": pillow(Image.fromarray(grey > 128), "TIFF", compression="group4"),
        "tiff pages": pillow(plain, "TIFF", **frames),
        "avif": pillow(plain, "AVIF", **tagged),
        "avif alpha": pillow(rgba, "AVIF"),
        "avif 12 bits": saved(vips_deep, ".avif", bitdepth=12, effort=0),
        "avif animated": pillow(plain, "AVIF", **frames),
    }


def broken(content: bytes, edits: Sequence[Edit], *, mended: bool) -> bytes:
    """Apply edits one after the other; `mended` gives the chunks of a PNG their right checksums again."""
    for edit in edits:
        content = _edited(content, edit)
    return _mended(content) if mended and content.startswith(b"\x89PNG") else content


def _edited(content: bytes, edit: Edit) -> bytes:
    at = int(edit.where * len(content))
    end = at + edit.size
    before, part, after = content[:at], content[at:end], content[end:]
    match edit.kind:
        case "flip":
            bit = 1 << edit.value % 8
            return (
                before + bytes([content[at] ^ bit] if at < len(content) else []) + content[at + 1 :]
            )
        case "set":
            return before + bytes([edit.value % 256]) * len(part) + after
        case "number":
            order, width = ("<>"[edit.value % 2], (edit.value // 2) % 3)
            number = NUMBERS[(edit.value // 6) % len(NUMBERS)]
            packed = struct.pack(order + "BHI"[width], number % 256 ** (1, 2, 4)[width])
            return before + packed + content[at + len(packed) :]
        case "cut":
            return before
        case "remove":
            return before + after
        case "double":
            return before + part + part + after
        case "swap":
            return before + after[: edit.size] + part + after[edit.size :]


def _mended(content: bytes) -> bytes:
    at, out = 8, content[:8]
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        out += content[at:end] + struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return out + content[at:]


def draw(seed: int, names: Sequence[str]) -> tuple[str, list[Edit], bool]:
    """Return which file is broken with this seed, and how."""
    rng = random.Random(seed)
    name = rng.choice(names)
    early = rng.random() < 0.5  # heads hold what readers rely on
    edits = [
        Edit(
            rng.choice(get_args(Kind)) if rng.random() < 0.4 else rng.choice(["flip", "number"]),
            rng.random() ** 3 if early else rng.random(),
            rng.choice([1, 2, 4, 12, 64, 300]),
            rng.randrange(2**16),
        )
        for _ in range(rng.choice([1, 1, 2, 3, 8]))
    ]
    return name, edits, rng.random() < 0.8


def try_to_read(path: Path) -> bool:
    """Read a file that may be broken; return whether it could be read, and let nothing but InputError pass for a no."""
    try:
        with open_picture(path, max_pixels=MAX_PIXELS) as reader:
            header, rows = reader.header, 0
            while reader.rows_left:
                strip = reader.rows(ROWS)
                rows += strip.height
                assert strip.header == replace(header, height=strip.height)
    except InputError as exc:
        told = str(exc)
    else:
        assert rows == header.height
        assert header.height * header.width <= MAX_PIXELS
        return True
    assert str(path) in told
    assert "\n" not in told
    return False


def resident_mib() -> float:
    """Memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Files that this process has open, without those that only wait to be collected."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def say(line: str) -> None:
    """Print a line at once, so that it is seen whatever comes after."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(first: int, count: int) -> None:
    """Read broken files and tell about it."""
    files = make_files()
    names = sorted(files)
    readable = memory = descriptors = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken"
        for number, seed in enumerate(range(first, first + count)):
            if number == WARM_UP:
                memory, descriptors = round(resident_mib()), open_files()
            say(str(seed))
            name, edits, mended = draw(seed, names)
            path.write_bytes(broken(files[name], edits, mended=mended))
            readable += try_to_read(path)
    told = {
        "readable": readable,
        "mib": round(resident_mib()) - memory,
        "open": open_files() - descriptors,
    }
    say(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
