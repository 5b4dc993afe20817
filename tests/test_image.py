"""Pictures survive the way in and out, other programs agree about them, and no failure leaves half a file.

Pillow and tifffile are the independent readers and writers. What both cannot do (RGB of 16 bits in PNG, ICC profiles of
grey and CMYK) is put together here byte by byte from the specifications of PNG and ICC.1:2022.
"""

import itertools
import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from classsr.errors import InputError, OutputError, UsageError
from classsr.image import (
    FORMATS,
    Header,
    Picture,
    check_output,
    create_picture,
    find_pictures,
    formats,
    likely_bytes,
    open_picture,
    read,
    read_header,
    reading,
    strips,
    write,
    writing,
)
from classsr.image.strips import Worker
from privileges import as_anybody

Array = npt.NDArray[Any]

EXAMPLE = Path(__file__).parents[1] / "examples" / "bay.jpg"
SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".avif"]
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, dtype: npt.DTypeLike = np.uint8, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    samples: Array = rng.integers(0, np.iinfo(np.dtype(dtype)).max, shape, dtype, endpoint=True)
    return samples


def smooth(height: int = 48, width: int = 64) -> Array:
    y, x = np.mgrid[:height, :width]
    unit = np.stack([x / width, y / height, (x + y) / (height + width)], axis=2)
    samples: Array = (255 * unit).round().astype(np.uint8)
    return samples


def distance(a: Array, b: Array) -> float:
    """Root mean square difference, in levels of 8 bits."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def icc_profile(kind: bytes, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """The bytes of an ICC v2 profile with the given tags: header, tag table, data."""
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    pcs = b"Lab " if space == b"CMYK" else b"XYZ "
    header = struct.pack(">I", offset + len(data)) + b"\0\0\0\0" + struct.pack(">I", 0x02400000)
    header += kind + space + pcs + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)  # D50
    return header.ljust(128, b"\0") + table + data


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return icc_profile(b"mntr", b"GRAY", {b"wtpt": white, b"kTRC": curve})


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """A CMYK profile in which every ink is the same colour, given as 8-bit Lab."""
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9I", *(0x10000 if i % 4 == 0 else 0 for i in range(9)))
    lut += ramp * 4 + bytes(lab) * 16 + ramp * 3
    return icc_profile(b"prtr", b"CMYK", {b"A2B0": lut})


def png_of_16_bits(rgb: Array) -> bytes:
    """The bytes of a PNG file of (H, W, 3) uint16, unfiltered."""
    height, width, _ = rgb.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def assert_same(a: Picture, b: Picture) -> None:
    np.testing.assert_array_equal(a.rgb, b.rgb, strict=True)
    assert (a.alpha is None) == (b.alpha is None)
    if a.alpha is not None and b.alpha is not None:
        np.testing.assert_array_equal(a.alpha, b.alpha, strict=True)
    assert (a.is_grey, a.profile) == (b.is_grey, b.profile)


def is_working() -> bool:
    """Whether some thread is at the work of a `Worker`."""
    return any(
        at.f_code is Worker._run.__code__
        for frame in sys._current_frames().values()
        for at, _ in traceback.walk_stack(frame)
    )


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.perf_counter() + 1
    while is_working():
        assert time.perf_counter() < deadline


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let the kernel refuse to make any file longer than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- Laws ---


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    depth=st.sampled_from([8, 16]),
    has_alpha=st.booleans(),
    is_grey=st.booleans(),
    has_profile=st.booleans(),
    suffix=st.sampled_from([".png", ".tif", ".TIFF"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_read_undoes_write_in_lossless_formats(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    depth: int,
    has_alpha: bool,
    is_grey: bool,
    has_profile: bool,
    suffix: str,
    seed: int,
) -> None:
    dtype = f"uint{depth}"
    rgb = noise(height, width, 1 if is_grey else 3, dtype=dtype, seed=seed)
    alpha = noise(height, width, dtype=dtype, seed=seed + 1) if has_alpha else None
    profile = (grey_profile(1.8) if is_grey else SRGB_PROFILE) if has_profile else None
    picture = Picture(
        np.repeat(rgb, 4 - rgb.shape[2] if is_grey else 1, axis=2), alpha, is_grey, profile
    )
    path = tmp_path_factory.mktemp("law") / f"picture{suffix}"
    write(picture, path)
    assert_same(read(path), picture)


@pytest.mark.parametrize(
    "rows", [reading.STRIP_ROWS - 1, reading.STRIP_ROWS, 2 * reading.STRIP_ROWS + 1]
)
def test_strips_join_without_gap_or_overlap(tmp_path: Path, rows: int) -> None:
    rgb = noise(rows, 7, 3)
    Image.fromarray(rgb).save(tmp_path / "tall.png")
    np.testing.assert_array_equal(read(tmp_path / "tall.png").rgb, rgb)


def test_a_view_with_gaps_is_written_like_its_copy(tmp_path: Path) -> None:
    wide = noise(20, 40, 3)
    write(Picture(wide[::2, ::-3]), tmp_path / "view.png")
    np.testing.assert_array_equal(read(tmp_path / "view.png").rgb, wide[::2, ::-3])


# --- Reading what others wrote ---


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_files_of_pillow_are_read_exactly(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    pixels = noise(21, 34, channels)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True, exact=True)
    picture = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(picture.rgb, pixels[..., :3], strict=True)
    assert not picture.is_grey
    assert picture.profile is None
    if channels == 3:
        assert picture.alpha is None
    else:
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha, pixels[..., 3], strict=True)


@pytest.mark.parametrize("suffix", [".jpg", ".avif", ".webp"])
def test_lossy_files_are_decoded_as_pillow_decodes_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    full_colour = "4:4:4" if suffix == ".avif" else 0
    Image.fromarray(smooth()).save(path, quality=90, subsampling=full_colour)
    with Image.open(path) as opened:
        theirs = np.asarray(opened.convert("RGB"))
    assert distance(read(path).rgb, theirs) < 1


def test_the_format_is_found_by_content_not_by_name(tmp_path: Path) -> None:
    pixels = noise(8, 9, 3)
    Image.fromarray(pixels).save(tmp_path / "really.webp", format="PNG")
    np.testing.assert_array_equal(read(tmp_path / "really.webp").rgb, pixels)


@pytest.mark.parametrize("name", ["ü [1].png", "b.png[page=2]", "%s.png", os.fsdecode(b"\xff.png")])
def test_odd_names_are_just_names(tmp_path: Path, name: str) -> None:
    pixels = noise(8, 9, 3)
    folder = tmp_path / name
    folder.mkdir()
    write(Picture(pixels), folder / "a.png")
    (folder / "a.png").rename(folder / name)
    np.testing.assert_array_equal(read(folder / name).rgb, pixels)


@pytest.mark.parametrize("turned_bytes", [0, reading.TURNED_BYTES], ids=["disk", "memory"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(
    tmp_path: Path, orientation: int, turned_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TURNED_BYTES", turned_bytes)
    exif = Image.Exif()
    exif[0x0112] = orientation
    tall = noise(1500, 8, 4)  # higher than what libvips keeps in reach when it reads row by row
    Image.fromarray(tall).save(tmp_path / "turned.png", exif=exif)
    picture = read(tmp_path / "turned.png")
    with Image.open(tmp_path / "turned.png") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    assert picture.alpha is not None
    np.testing.assert_array_equal(np.dstack([picture.rgb, picture.alpha]), upright)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_orientation_is_applied_in_every_format(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = smooth(40, 60)
    Image.fromarray(pixels).save(tmp_path / f"turned{suffix}", exif=exif, quality=95)
    assert distance(read(tmp_path / f"turned{suffix}").rgb, np.rot90(pixels, -1)) < 3


def test_a_palette_with_transparency_becomes_rgb_and_alpha(tmp_path: Path) -> None:
    indices = noise(12, 10) % 4
    palette = np.array([[9, 8, 7], [255, 0, 0], [0, 255, 0], [1, 2, 255]], np.uint8)
    paletted = Image.frombytes("P", (10, 12), indices.tobytes())
    paletted.putpalette(palette.tobytes())
    paletted.save(tmp_path / "palette.png", transparency=bytes([255, 0, 128, 255]))
    picture = read(tmp_path / "palette.png")
    np.testing.assert_array_equal(picture.rgb, palette[indices])
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.array([255, 0, 128, 255], np.uint8)[indices])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_bit_becomes_black_and_white(tmp_path: Path, suffix: str) -> None:
    bits = noise(11, 13) > 128
    Image.fromarray(bits).save(tmp_path / f"bits{suffix}")
    picture = read(tmp_path / f"bits{suffix}")
    assert picture.is_grey
    np.testing.assert_array_equal(picture.rgb, np.where(bits, 255, 0)[..., None].repeat(3, axis=2))


def test_white_is_zero_tiff_is_not_read_as_a_negative(tmp_path: Path) -> None:
    grey = noise(11, 13)
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "white.tif").rgb[..., 1], 255 - grey)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    grey = smooth()[..., 0]
    Image.fromarray(grey).save(tmp_path / f"grey{suffix}", quality=100)
    picture = read(tmp_path / f"grey{suffix}")
    assert picture.is_grey
    assert picture.rgb.shape == (48, 64, 3)
    assert np.ptp(picture.rgb, axis=2).max() == 0
    np.testing.assert_allclose(picture.rgb[..., 0].astype(int), grey, atol=1)


def test_grey_with_alpha_keeps_both(tmp_path: Path) -> None:
    pixels = noise(9, 14, 2)
    Image.fromarray(pixels).save(tmp_path / "la.png")
    picture = read(tmp_path / "la.png")
    assert picture.is_grey
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.rgb[..., 2], pixels[..., 0])
    np.testing.assert_array_equal(picture.alpha, pixels[..., 1])


def test_png_of_16_bits_stays_16_bits_even_where_values_are_small(tmp_path: Path) -> None:
    rgb = noise(10, 12, 3, dtype=np.uint16) % np.uint16(200)
    (tmp_path / "deep.png").write_bytes(png_of_16_bits(rgb))
    picture = read(tmp_path / "deep.png")
    assert picture.depth == 16
    np.testing.assert_array_equal(picture.rgb, rgb, strict=True)


@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 3), (10, 12, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_tifffile_is_read_exactly(
    tmp_path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> None:
    pixels = noise(*shape, dtype=dtype)
    kind = "minisblack" if len(shape) == 2 else "rgb"
    extra = ["UNASSALPHA"] if shape[2:] == (4,) else None
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=kind, extrasamples=extra)
    picture = read(tmp_path / "a.tif")
    colours = pixels[..., None] if len(shape) == 2 else pixels[..., :3]
    np.testing.assert_array_equal(picture.rgb, np.broadcast_to(colours, (10, 12, 3)), strict=True)
    assert picture.is_grey == (len(shape) == 2)
    assert (picture.alpha is not None) == (extra is not None)


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_more_bits_fills_the_range_of_16(tmp_path: Path, bits: int) -> None:
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    pixels = np.broadcast_to(ramp[None, :, None], (16, 64, 3)).copy()
    vips = pyvips.Image.new_from_memory(pixels, 64, 16, 3, "ushort").copy(interpretation="rgb16")
    vips.heifsave(str(tmp_path / "a.avif"), compression="av1", bitdepth=bits, lossless=True)
    picture = read(tmp_path / "a.avif")
    assert picture.depth == 16
    assert (picture.rgb.min(), picture.rgb.max()) == (0, 65535)
    assert np.abs(picture.rgb.astype(int) - pixels).max() <= 65535 / (2**bits - 1)


def test_premultiplied_tiff_gives_its_colours_back(tmp_path: Path) -> None:
    pixels = np.full((6, 7, 4), (50, 25, 100, 128), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["ASSOCALPHA"])
    picture = read(tmp_path / "a.tif")
    np.testing.assert_allclose(picture.rgb[0, 0].astype(int), (100, 50, 199), atol=1)


def test_cmyk_jpeg_becomes_srgb_without_its_profile(tmp_path: Path) -> None:
    inks = np.zeros((24, 32, 4), np.uint8)  # white, black, cyan, yellow from left to right
    inks[:, 8:16], inks[:, 16:24, 0], inks[:, 24:, 2] = 255, 255, 255
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "inks.jpg", quality=100)
    picture = read(tmp_path / "inks.jpg")
    white, black, cyan, yellow = (picture.rgb[12, x].astype(int) for x in (4, 12, 20, 28))
    assert picture.profile is None
    assert white.min() > 250
    assert black.max() < 30
    assert cyan[0] + 100 < cyan[2]
    assert yellow[2] + 100 < yellow[0]


def test_cmyk_is_converted_through_its_own_profile(tmp_path: Path) -> None:
    profile = cmyk_profile((136, 128, 128))  # L* = 53.3, the grey that sRGB writes as 128
    inks = Image.fromarray(noise(16, 16, 4), mode="CMYK")
    inks.save(tmp_path / "inks.jpg", icc_profile=profile)
    rgb = read(tmp_path / "inks.jpg").rgb
    assert np.ptp(rgb) == 0


def test_cmyk_of_16_bits_stays_16_bits(tmp_path: Path) -> None:
    inks = noise(8, 9, 4, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "inks.tif", inks, photometric="separated")
    assert read(tmp_path / "inks.tif").depth == 16


def test_cmyk_with_a_profile_of_another_kind_is_still_read(tmp_path: Path) -> None:
    inks = Image.fromarray(np.zeros((16, 16, 4), np.uint8), mode="CMYK")
    inks.save(tmp_path / "inks.jpg", icc_profile=SRGB_PROFILE)
    assert read(tmp_path / "inks.jpg").rgb.min() > 250


def in_lab(rgb: Array) -> Array:
    """What Little CMS makes of sRGB: CIELAB of 8 bits, the last two signed."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(
        Image.fromarray(rgb), srgb, lab, ImageCms.Intent.RELATIVE_COLORIMETRIC, "LAB"
    )
    assert converted is not None
    return np.asarray(converted)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_lab_of_8_bits_becomes_rgb(
    tmp_path: Path, byteorder: Literal["<", ">"], bigtiff: bool, compression: str | None
) -> None:
    rgb = np.repeat(np.arange(0, 256, 17, dtype=np.uint8), 32).reshape(16, 32)
    rgb = np.stack([rgb, rgb.T.reshape(16, 32), np.roll(rgb, 5)], axis=-1)
    tifffile.imwrite(
        tmp_path / "lab.tif",
        in_lab(rgb),
        photometric="cielab",
        byteorder=byteorder,
        bigtiff=bigtiff,
        compression=compression,
    )
    picture = read(tmp_path / "lab.tif")

    assert (picture.depth, picture.is_grey, picture.profile) == (8, False, None)
    assert read_header(tmp_path / "lab.tif") == picture.header
    difference = np.abs(picture.rgb.astype(int) - rgb)
    assert difference.mean() < 1  # of what 8 bits of CIELAB can tell
    assert difference.max() <= 16


def test_lab_that_pillow_writes_becomes_rgb(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    Image.fromarray(in_lab(grey), "LAB").save(tmp_path / "lab.tif")

    assert np.abs(read(tmp_path / "lab.tif").rgb.astype(int) - grey).max() <= 2


def test_lab_tiff_becomes_rgb(tmp_path: Path) -> None:
    lab = np.zeros((6, 7, 3), np.uint16)
    lab[..., 0] = 65535
    tifffile.imwrite(tmp_path / "lab.tif", lab, photometric="cielab")
    picture = read(tmp_path / "lab.tif")
    assert picture.depth == 16
    assert picture.rgb.min() > 65000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_icc_profile_is_kept_and_the_values_are_left_alone(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(smooth()).save(tmp_path / f"a{suffix}", icc_profile=SRGB_PROFILE, quality=95)
    Image.fromarray(smooth()).save(tmp_path / f"b{suffix}", quality=95)
    tagged, plain = read(tmp_path / f"a{suffix}"), read(tmp_path / f"b{suffix}")
    assert tagged.profile == SRGB_PROFILE
    np.testing.assert_array_equal(tagged.rgb, plain.rgb)


@pytest.mark.parametrize("suffix", [".webp", ".tif"])
def test_only_the_first_page_is_read_with_a_warning(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = noise(3, 10, 12, 3)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(tmp_path / f"many{suffix}", save_all=True, append_images=rest, lossless=True)
    picture = read(tmp_path / f"many{suffix}")
    np.testing.assert_array_equal(picture.rgb, frames[0])
    assert [
        record.levelno for record in caplog.records if record.name.startswith("classsr.image")
    ] == [logging.WARNING]
    assert "3 pages" in caplog.text


def test_a_single_page_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "one.tif")
    read(tmp_path / "one.tif")
    assert not [record for record in caplog.records if record.name.startswith("classsr.image")]


def test_a_file_that_changed_is_read_afresh(tmp_path: Path) -> None:
    """libvips keeps results by file name; this reader must not see them."""
    path = tmp_path / "same.png"
    for value in (1, 2):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)
        assert read(path).rgb[0, 0, 0] == value


def test_the_result_may_be_written_to(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 5, 4)).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    picture.rgb[0, 0] = 7
    assert picture.rgb.flags.c_contiguous
    assert picture.rgb.flags.owndata


def test_pictures_of_a_folder_are_found_by_suffix_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "notes.txt", "c"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.png").touch()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.jpeg", "b.PNG"]


# --- Refusing to read ---


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        find_pictures(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_an_error_and_no_half_picture(
    tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"whole{suffix}"
    Image.fromarray(noise(60, 80, 3)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"whole.*truncated") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_but_a_signature_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"head{suffix}"
    Image.fromarray(noise(6, 8, 3)).save(path)
    path.write_bytes(path.read_bytes()[:32])
    with pytest.raises(InputError, match="head"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png cannot be read \(No such file"):
        read(tmp_path / "none.png")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="directory"):
        read(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png is empty"):
        read(tmp_path / "empty.png")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "secret.png")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(InputError, match=r"secret\.png cannot be read \(Permission denied"):
        as_anybody(lambda: read(tmp_path / "secret.png"))


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary, this is no picture." * 20,
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"%PDF-1.4\n",
        b"P6\n1 1\n255\n\0\0\0",
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(80),
    ],
    ids=["text", "gif", "svg", "pdf", "ppm", "heic"],
)
def test_other_kinds_are_refused_with_the_list_of_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.png").write_bytes(content)
    with pytest.raises(InputError, match="not a PNG, JPEG, WebP, TIFF or AVIF file"):
        read(tmp_path / "other.png")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_pixels_than_allowed_are_refused_before_any_is_decoded(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(60, 80, 3)).save(path)
    assert read(path, max_pixels=4800).width == 80
    if suffix not in (
        ".tif",
        ".webp",
    ):  # the directory lies at the end; libwebp looks for the end first
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"80 x 60 pixels, 4,800 .*limit of 4,799; .*--max-pixels"):
        read(path, max_pixels=4799)


def files_open_in(folder: Path) -> list[str]:
    """Files in a folder, deleted ones included, that this process has open."""
    links = (str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return [link for link in links if link.startswith(str(folder))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for open files")
def test_a_file_that_was_converted_is_let_go_of_too(tmp_path: Path) -> None:
    """libvips remembers conversions such as that from CMYK, and with them the file."""
    inks = noise(8, 9, 4)
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "inks.tif")
    with open_picture(tmp_path / "inks.tif") as reader:
        reader.rows(7)
        assert files_open_in(tmp_path)
        reader.rows(1)
        assert not files_open_in(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for open files")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_full_disk_refused_is_not_held_open(tmp_path: Path, suffix: str) -> None:
    with disk_full_after(5000), pytest.raises(OutputError) as caught:
        write(Picture(noise(200, 300, 3)), tmp_path / f"a{suffix}")
    assert caught.value.__cause__ is not None
    assert not files_open_in(tmp_path)  # although the error and its trace are still there


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_samples_of_other_types_are_refused(tmp_path: Path, dtype: npt.DTypeLike) -> None:
    tifffile.imwrite(tmp_path / "odd.tif", np.ones((8, 9), dtype))
    with pytest.raises(InputError, match=r"odd\.tif holds samples of type"):
        read(tmp_path / "odd.tif")


def test_channels_of_unknown_meaning_are_refused(tmp_path: Path) -> None:
    extra = ["UNASSALPHA", "UNSPECIFIED"]
    tifffile.imwrite(tmp_path / "five.tif", noise(8, 9, 5), photometric="rgb", extrasamples=extra)
    with pytest.raises(InputError, match="has 5 channels"):
        read(tmp_path / "five.tif")


# --- Writing what others read ---


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_pillow_reads_lossless_files_exactly(tmp_path: Path, suffix: str, has_alpha: bool) -> None:
    pixels = noise(13, 17, 4)
    path = tmp_path / f"a{suffix}"
    write(Picture(pixels[..., :3], pixels[..., 3] if has_alpha else None), path)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(opened), pixels if has_alpha else pixels[..., :3])


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".avif"])
def test_pillow_reads_lossy_files_nearly_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(Picture(smooth()), path)
    with Image.open(path) as opened:
        assert opened.mode == "RGB"
        assert distance(np.asarray(opened), smooth()) < 2


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_lossy_formats_keep_alpha(tmp_path: Path, suffix: str) -> None:
    alpha = smooth()[..., 0]
    write(Picture(smooth(), alpha), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as opened:
        assert opened.mode == "RGBA"
        assert distance(np.asarray(opened)[..., 3], alpha) < 2


def test_no_absurd_density_is_claimed(tmp_path: Path) -> None:
    """libvips' default is one pixel per millimetre, which prints a photograph metres wide."""
    write(Picture(smooth()), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.info["dpi"] == pytest.approx((72, 72), abs=0.1)


def test_jpeg_keeps_full_colour_resolution(tmp_path: Path) -> None:
    write(Picture(smooth()), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as opened:
        assert JpegImagePlugin.get_sampling(opened) == 0  # 4:4:4


def test_tifffile_reads_16_bits_exactly(tmp_path: Path) -> None:
    pixels = noise(13, 17, 4, dtype=np.uint16)
    write(Picture(pixels[..., :3], pixels[..., 3]), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as opened:
        np.testing.assert_array_equal(opened.asarray(), pixels, strict=True)
        assert opened.pages[0].aspage().extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)


def test_png_of_16_bits_is_one_for_others_too(tmp_path: Path) -> None:
    rgb = noise(13, 17, 3, dtype=np.uint16)
    write(Picture(rgb), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[24] == 16  # bit depth in the header
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), rgb >> 8)  # all that Pillow keeps


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_is_written_as_one_channel_the_rounded_mean(tmp_path: Path, depth: int) -> None:
    rgb = noise(13, 17, 3, dtype=f"uint{depth}")
    write(Picture(rgb, is_grey=True), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        grey = np.asarray(opened)
    np.testing.assert_array_equal(grey, rgb.mean(axis=2).round())


def test_16_bits_are_rounded_to_8_and_not_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = np.repeat(np.array([0, 128, 129, 65406, 65407, 65535], np.uint16), 16)
    rgb = np.broadcast_to(levels[None, :, None], (16, levels.size, 3))
    write(Picture(rgb), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as opened:
        np.testing.assert_array_equal(np.asarray(opened)[8, 8::16, 0], [0, 0, 1, 254, 255, 255])
    assert "holds 8 bits" in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_profile_is_written_for_others(tmp_path: Path, suffix: str) -> None:
    write(Picture(smooth(), profile=SRGB_PROFILE), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as opened:
        assert opened.info["icc_profile"] == SRGB_PROFILE


def test_a_grey_picture_with_an_rgb_profile_keeps_its_profile_in_three_channels(
    tmp_path: Path,
) -> None:
    rgb = np.repeat(noise(9, 8, 1), 3, axis=2)
    write(Picture(rgb, is_grey=True, profile=SRGB_PROFILE), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.info["icc_profile"] == SRGB_PROFILE
        np.testing.assert_array_equal(np.asarray(opened), rgb)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_a_grey_profile_is_converted_where_a_format_has_only_rgb(
    tmp_path: Path, suffix: str, depth: int
) -> None:
    value = round(0.5 * (2**depth - 1))
    rgb = np.full((16, 16, 3), value, f"uint{depth}")
    write(Picture(rgb, rgb[..., 0], True, grey_profile(1.0)), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as opened:
        pixel = np.asarray(opened)[8, 8].astype(int)
    np.testing.assert_allclose(pixel, (188, 188, 188, 128), atol=2)  # linear 0.5 in sRGB


def test_large_tiff_becomes_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CLASSIC_TIFF_BYTES", 300)
    write(Picture(noise(10, 10, 3)), tmp_path / "small.tif")
    write(Picture(noise(10, 10, 3), noise(10, 10)), tmp_path / "large.tif")
    with (
        tifffile.TiffFile(tmp_path / "small.tif") as small,
        tifffile.TiffFile(tmp_path / "large.tif") as large,
    ):
        assert (small.is_bigtiff, large.is_bigtiff) == (False, True)


# --- Refusing to write ---


@pytest.mark.parametrize("name", ["a.gif", "a", ".png", "a.png.bak"])
def test_an_unknown_suffix_is_refused_with_the_list_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.png, \.jpg, \.jpeg, \.webp, \.tif, \.tiff, \.avif"):
        check_output(tmp_path / name, height=1, width=1, has_alpha=False, overwrite=False)


@pytest.mark.parametrize("file_format", FORMATS, ids=lambda file_format: file_format.name)
def test_the_largest_side_passes_and_one_more_is_refused(
    tmp_path: Path, file_format: formats.Format
) -> None:
    path, side = tmp_path / f"a{file_format.suffixes[0]}", file_format.max_side
    check_output(path, height=1, width=side, has_alpha=False, overwrite=False)
    with pytest.raises(OutputError, match=f"{file_format.name} ends at {side}"):
        check_output(path, height=side + 1, width=1, has_alpha=False, overwrite=False)


@pytest.mark.parametrize(
    "file_format",
    [formats.JPEG, formats.WEBP, formats.AVIF],
    ids=lambda file_format: file_format.name,
)
def test_the_stated_limit_is_the_true_one(
    tmp_path: Path, file_format: formats.Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{file_format.suffixes[0]}"
    write(Picture(np.zeros((1, file_format.max_side, 3), np.uint8)), path)
    assert read(path).width == file_format.max_side
    monkeypatch.setattr(writing, "check_output", lambda *_args, **_options: None)
    with pytest.raises(OutputError):
        write(Picture(np.zeros((1, file_format.max_side + 1, 3), np.uint8)), path, overwrite=True)


def test_a_format_that_can_hold_the_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="use PNG, JPEG or TIFF"):
        check_output(tmp_path / "a.webp", height=20_000, width=1, has_alpha=False, overwrite=False)
    with pytest.raises(OutputError, match="use PNG or TIFF"):
        check_output(tmp_path / "a.webp", height=20_000, width=1, has_alpha=True, overwrite=False)


def test_alpha_is_refused_by_jpeg_with_formats_that_hold_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="use PNG, WebP, TIFF or AVIF"):
        check_output(tmp_path / "a.jpg", height=1, width=1, has_alpha=True, overwrite=False)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere does not exist"):
        check_output(
            tmp_path / "nowhere" / "a.png", height=1, width=1, has_alpha=False, overwrite=True
        )


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "a.png", height=1, width=1, has_alpha=False, overwrite=True)


def test_a_folder_closed_to_writing_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="closed to writing"):
            as_anybody(
                lambda: check_output(
                    tmp_path / "a.png", height=1, width=1, has_alpha=False, overwrite=False
                )
            )
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("dangles", [False, True])
def test_an_existing_file_is_refused_unless_allowed(tmp_path: Path, dangles: bool) -> None:
    path = tmp_path / "a.png"
    if dangles:
        path.symlink_to(tmp_path / "gone.png")
    else:
        path.touch()
    with pytest.raises(OutputError, match="--overwrite"):
        check_output(path, height=1, width=1, has_alpha=False, overwrite=False)
    check_output(path, height=1, width=1, has_alpha=False, overwrite=True)


def test_write_checks_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="transparency"):
        write(Picture(noise(4, 4, 3), noise(4, 4)), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rgb", "alpha"),
    [
        (np.zeros((4, 4, 3)), None),
        (np.zeros((4, 4, 3), ">u2"), None),
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_a_picture_of_wrong_shape_or_type_cannot_be_made(rgb: Array, alpha: Array | None) -> None:
    with pytest.raises(UsageError, match="Expected"):
        Picture(rgb, alpha)


# --- Complete or not at all ---


def test_overwriting_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old" * 100_000)
    picture = Picture(noise(5, 5, 3))
    write(picture, path, overwrite=True)
    assert_same(read(path), picture)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_who_reads_the_old_file_meanwhile_reads_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        write(Picture(noise(5, 5, 3)), path, overwrite=True)
        assert old.read() == b"old"


def test_a_picture_may_be_written_over_the_file_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(300, 5, 3)).save(path)
    picture = read(path)
    write(picture, path, overwrite=True)
    assert_same(read(path), picture)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    picture = Picture(noise(200, 300, 3))
    with disk_full_after(5000), pytest.raises(OutputError, match="File too large") as caught:
        write(picture, tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_overwrite_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with disk_full_after(5000), pytest.raises(OutputError):
        write(Picture(noise(200, 300, 3)), path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupt(_file: int) -> None:
        assert list(tmp_path.iterdir())  # the work is under way
        raise error

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(error):
        write(Picture(noise(5, 5, 3)), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_file_that_appears_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    monkeypatch.setattr(os, "fsync", lambda _file: path.write_bytes(b"theirs"))
    with pytest.raises(OutputError, match="appeared meanwhile"):
        write(Picture(noise(5, 5, 3)), path)
    assert path.read_bytes() == b"theirs"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("appears", [False, True])
def test_the_same_holds_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appears: bool
) -> None:
    path, picture = tmp_path / "a.png", Picture(noise(5, 5, 3))

    def refuse(_self: Path, _target: Path) -> None:
        if appears:
            path.write_bytes(b"theirs")
        raise PermissionError(1, "Operation not permitted")  # what exFAT says

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    if appears:
        with pytest.raises(OutputError, match="appeared meanwhile"):
            write(picture, path)
        assert path.read_bytes() == b"theirs"
    else:
        write(picture, path)
        assert_same(read(path), picture)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    write(Picture(noise(5, 5, 3)), path)
    assert read(path).width == 5


def test_the_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write(Picture(noise(5, 5, 3)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


KILLED_IN_THE_MIDDLE = """
import os, pathlib, signal, sys
import numpy as np
from classsr.image import Picture, write

os.fsync = lambda _file: os.kill(os.getpid(), signal.SIGKILL)
write(Picture(np.zeros((9, 9, 3), np.uint8)), pathlib.Path(sys.argv[1]))
"""


def test_a_kill_in_the_middle_leaves_no_file_of_that_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(tmp_path / "a.png")]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [file.name for file in tmp_path.iterdir()]
    assert [name[:9] for name in left] == [".classsr-"]


# --- Strip by strip ---


def every_kind_of_file(folder: Path) -> Iterator[Path]:
    """Files of all formats and modes, higher than what is decoded at a time."""
    height, width = 2 * reading.STRIP_ROWS + 45, 23
    pixels, inks = noise(height, width, 4), Image.fromarray(noise(height, width, 4), mode="CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any] = {"exact": True, "lossless": True}
    for suffix in SUFFIXES:
        Image.fromarray(pixels[..., :3]).save(folder / f"rgb{suffix}", icc_profile=SRGB_PROFILE)
        Image.fromarray(pixels[..., :3]).save(folder / f"turned{suffix}", exif=exif)
    for suffix in (".png", ".webp", ".tif", ".avif"):
        Image.fromarray(pixels).save(folder / f"alpha{suffix}", **options)
    for suffix in (".png", ".tif", ".jpg"):
        Image.fromarray(pixels[..., 0]).save(folder / f"grey{suffix}")
        Image.fromarray(pixels[..., 0] > 99).save(folder / f"bits{suffix}")
    Image.fromarray(pixels[..., :2]).save(folder / "grey-alpha.png")
    inks.save(folder / "inks.jpg", icc_profile=cmyk_profile((136, 128, 128)))
    Image.fromarray(pixels[..., :3]).save(folder / "progressive.jpg", progressive=True)
    deep = noise(height, width, 4, dtype=np.uint16)
    (folder / "deep.png").write_bytes(png_of_16_bits(deep[..., :3]))
    for extra in ("UNASSALPHA", "ASSOCALPHA"):
        path = folder / f"deep-{extra}.tif"
        tifffile.imwrite(path, deep, photometric="rgb", extrasamples=[extra])
    tifffile.imwrite(folder / "tiled.tif", deep[..., :3], photometric="rgb", tile=(16, 16))
    tifffile.imwrite(folder / "lab.tif", deep[..., :3], photometric="cielab")
    yield from sorted(folder.iterdir())


def read_in_strips(path: Path, rows: int) -> Picture:
    with open_picture(path) as reader:
        strips = []
        while reader.rows_left:
            strips.append(reader.rows(rows))
            assert strips[-1].height == rows or not reader.rows_left
    whole = Picture(
        np.concatenate([strip.rgb for strip in strips]),
        None if strips[0].alpha is None else np.concatenate([strip.alpha for strip in strips]),
        strips[0].is_grey,
        strips[0].profile,
    )
    assert whole.header == reader.header
    return whole


def write_in_strips(picture: Picture, path: Path, heights: Iterable[int]) -> None:
    top = 0
    with create_picture(path, picture.header) as writer:
        for height in itertools.cycle(heights):
            rows = slice(top, top + height)
            alpha = None if picture.alpha is None else picture.alpha[rows]
            writer.append(Picture(picture.rgb[rows], alpha))
            top += height
            if not writer.rows_left:
                break


@pytest.mark.parametrize(
    "rows", [1, 7, reading.STRIP_ROWS - 1, reading.STRIP_ROWS, reading.STRIP_ROWS + 1]
)
def test_strips_of_any_height_make_up_what_read_reads(tmp_path: Path, rows: int) -> None:
    for path in every_kind_of_file(tmp_path):
        assert_same(read_in_strips(path, rows), read(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(
    heights=st.lists(st.integers(1, 150), min_size=1),
    height=st.integers(16, 200),
    width=st.integers(16, 40),
    depth=st.sampled_from([8, 16]),
    has_alpha=st.booleans(),
    is_grey=st.booleans(),
    has_profile=st.booleans(),
    chunk=st.sampled_from([1, 1000, strips.CHUNK_BYTES]),
)
@settings(max_examples=15)
def test_strips_of_any_heights_give_the_file_that_write_writes(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    heights: list[int],
    height: int,
    width: int,
    depth: int,
    has_alpha: bool,
    is_grey: bool,
    has_profile: bool,
    chunk: int,
) -> None:
    folder = tmp_path_factory.mktemp("law")
    dtype = f"uint{depth}"
    picture = Picture(
        np.ascontiguousarray(
            np.broadcast_to(
                noise(height, width, 1 if is_grey else 3, dtype=dtype), (height, width, 3)
            )
        ),
        noise(height, width, dtype=dtype, seed=1) if has_alpha and suffix != ".jpg" else None,
        is_grey,
        (grey_profile(1.8) if is_grey else SRGB_PROFILE) if has_profile else None,
    )
    write(picture, folder / f"whole{suffix}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "CHUNK_BYTES", chunk)
        write_in_strips(picture, folder / f"strips{suffix}", heights_of(heights, height))
    assert (folder / f"strips{suffix}").read_bytes() == (folder / f"whole{suffix}").read_bytes()


def heights_of(heights: list[int], height: int) -> Iterator[int]:
    """The heights again and again, cut off where the picture ends."""
    for wanted in itertools.cycle(heights):
        yield min(wanted, height)
        height -= min(wanted, height)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tifffile_reads_what_was_written_in_strips_exactly(
    tmp_path: Path, dtype: npt.DTypeLike
) -> None:
    pixels = noise(300, 17, 4, dtype=dtype)
    picture = Picture(pixels[..., :3], pixels[..., 3])
    write_in_strips(picture, tmp_path / "a.tif", [1, 99, 200])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels, strict=True)


def test_pillow_reads_what_was_written_in_strips_exactly(tmp_path: Path) -> None:
    pixels = noise(300, 17, 3)
    write_in_strips(Picture(pixels), tmp_path / "a.png", [1, 99, 200])
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), pixels)


def write_resampled(picture: Picture, path: Path, width: int, height: int, step: int = 37) -> None:
    header = replace(picture.header, width=width, height=height)
    with create_picture(path, header, rows_of=picture.header) as writer:
        for top in range(0, picture.height, step):
            writer.append(picture.rows(slice(top, top + step)))


@pytest.mark.parametrize(
    ("width", "height"), [(200, 150), (251, 188), (400, 200), (130, 300), (399, 299), (100, 75)]
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_rows_are_resampled_as_pillow_does(
    tmp_path: Path, width: int, height: int, suffix: str
) -> None:
    pixels = np.asarray(
        Image.fromarray(noise(30, 40, 3)).resize((400, 300), Image.Resampling.BICUBIC)
    )
    write_resampled(Picture(pixels), tmp_path / f"a{suffix}", width, height)

    found = read(tmp_path / f"a{suffix}").rgb
    expected = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    difference = np.abs(found.astype(float) - np.asarray(expected, float))
    assert found.shape == (height, width, 3)
    assert difference.max() <= 4
    assert difference.mean() < 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resampling_keeps_depth_alpha_grey_and_what_is_flat(
    tmp_path: Path, dtype: npt.DTypeLike
) -> None:
    value = np.iinfo(np.dtype(dtype)).max // 3
    flat = np.full((60, 80), value, dtype)
    rgb = np.repeat(flat[..., None], 3, axis=2)
    write_resampled(Picture(rgb, flat, is_grey=True), tmp_path / "a.png", 33, 21)

    found = read(tmp_path / "a.png")
    assert (found.rgb.dtype, found.is_grey) == (np.dtype(dtype), True)
    assert (found.rgb == value).all()
    assert found.alpha is not None
    assert (found.alpha == value).all()


@settings(max_examples=15, deadline=None)
@given(step=st.integers(1, 200), width=st.integers(60, 120), height=st.integers(80, 160))
def test_resampling_does_not_depend_on_the_strips(
    tmp_path_factory: pytest.TempPathFactory, step: int, width: int, height: int
) -> None:
    folder = tmp_path_factory.mktemp("resampled")
    picture = Picture(noise(160, 120, 3))
    write_resampled(picture, folder / "strips.png", width, height, step)
    write_resampled(picture, folder / "whole.png", width, height, 160)

    assert (folder / "strips.png").read_bytes() == (folder / "whole.png").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hard_alpha_stays_hard_when_resampled(tmp_path: Path, dtype: npt.DTypeLike) -> None:
    limit = np.iinfo(np.dtype(dtype)).max
    y, x = np.mgrid[:80, :80]
    disc = np.where((x - 40) ** 2 + (y - 40) ** 2 < 30**2, limit, 0).astype(dtype)
    picture = Picture(np.repeat(disc[..., None], 3, axis=2), disc)
    header = replace(picture.header, width=37, height=37)
    with create_picture(
        tmp_path / "a.png", header, rows_of=picture.header, is_alpha_hard=True
    ) as writer:
        writer.append(picture)

    alpha = read(tmp_path / "a.png").alpha
    assert alpha is not None
    assert set(np.unique(alpha)) == {0, limit}
    assert (alpha == limit).mean() == pytest.approx(np.pi * 30**2 / 80**2, abs=0.02)


def test_missing_rows_of_a_resampled_picture_leave_nothing_behind(tmp_path: Path) -> None:
    picture = Picture(noise(100, 40, 3))
    header = replace(picture.header, width=20, height=50)

    def write_some() -> None:
        with create_picture(tmp_path / "a.png", header, rows_of=picture.header) as writer:
            writer.append(picture.rows(slice(60)))

    with pytest.raises(UsageError, match="40 of them are missing"):
        write_some()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_header_is_what_reading_gives(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(9, 14, 3)).save(tmp_path / f"a{suffix}", exif=exif)

    assert read_header(tmp_path / f"a{suffix}") == read(tmp_path / f"a{suffix}").header


def test_a_header_needs_no_pixels(tmp_path: Path) -> None:
    Image.fromarray(noise(300, 14, 3)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])

    assert read_header(tmp_path / "a.png") == Header(300, 14)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_likely_size_of_a_photograph_is_more_than_it_takes_and_less_than_all_samples(
    tmp_path: Path, suffix: str, dtype: npt.DTypeLike
) -> None:
    photograph = Image.open(EXAMPLE).resize((1280, 768), Image.Resampling.BICUBIC)
    pixels = np.asarray(photograph).astype(dtype)
    picture = Picture(pixels if dtype is np.uint8 else pixels * np.uint16(257))
    write(picture, tmp_path / f"a{suffix}")

    taken = (tmp_path / f"a{suffix}").stat().st_size
    likely = likely_bytes(picture.header, tmp_path / f"a{suffix}")
    assert taken < likely <= picture.header.height * picture.header.row_bytes


def test_a_strip_may_be_written_to_once_it_was_handed_over(tmp_path: Path) -> None:
    pixels = noise(50, 40, 3)
    with create_picture(tmp_path / "a.png", Header(100, 40)) as writer:
        strip = Picture(pixels.copy())
        writer.append(strip)
        strip.rgb[:] = 0
        writer.append(strip)
    rgb = read(tmp_path / "a.png").rgb
    np.testing.assert_array_equal(rgb, np.concatenate([pixels, np.zeros_like(pixels)]))


def test_a_file_is_let_go_of_with_its_last_row(tmp_path: Path) -> None:
    path, rgb = tmp_path / "a.png", noise(300, 5, 3)
    Image.fromarray(rgb).save(path)
    with (
        open_picture(path) as reader,
        create_picture(path, reader.header, overwrite=True) as writer,
    ):
        while reader.rows_left:
            writer.append(reader.rows(100))
        assert str(path) not in {os.path.realpath(link) for link in Path("/proc/self/fd").glob("*")}
    np.testing.assert_array_equal(read(path).rgb, rgb)


@pytest.mark.parametrize("count", [0, -1])
def test_no_rows_cannot_be_read(tmp_path: Path, count: int) -> None:
    Image.fromarray(noise(4, 5, 3)).save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as reader, pytest.raises(UsageError, match="the 4 rows"):
        reader.rows(count)


def test_more_rows_than_there_are_cannot_be_read(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 5, 3)).save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as reader:
        assert reader.rows(9).height == 4
        with pytest.raises(UsageError, match="the 0 rows"):
            reader.rows(1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_file_fails_at_the_latest_at_the_rows_that_are_missing(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"whole{suffix}"
    Image.fromarray(noise(2000, 50, 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"whole.*truncated"):
        read_in_strips(path, 100)


@pytest.mark.parametrize(
    ("strip", "got"),
    [
        (Picture(noise(5, 6, 3)), "5 of 6, 8 bits, without alpha"),
        (Picture(noise(11, 7, 3)), "11 of 7"),
        (Picture(noise(5, 7, 3, dtype=np.uint16)), "16 bits"),
        (Picture(noise(5, 7, 3), noise(5, 7)), "with alpha"),
    ],
)
def test_a_strip_that_does_not_fit_is_refused(tmp_path: Path, strip: Picture, got: str) -> None:
    def append_both() -> None:
        with create_picture(tmp_path / "a.png", Header(10, 7)) as writer:
            writer.append(strip)

    with pytest.raises(UsageError, match=f"at most 10 rows of 7 pixels.*{got}"):
        append_both()
    assert not list(tmp_path.iterdir())


def test_a_strip_too_many_is_refused(tmp_path: Path) -> None:
    with create_picture(tmp_path / "a.png", Header(10, 7)) as writer:
        writer.append(Picture(noise(10, 7, 3)))
        with pytest.raises(UsageError, match="at most 0 rows"):
            writer.append(Picture(noise(1, 7, 3)))
    assert read(tmp_path / "a.png").height == 10


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_missing_rows_are_an_error_and_leave_nothing_behind(tmp_path: Path, rows: int) -> None:
    def write_some() -> None:
        with create_picture(tmp_path / "a.png", Header(10, 7)) as writer:
            if rows:
                writer.append(Picture(noise(rows, 7, 3)))

    with pytest.raises(UsageError, match=f"{10 - rows} of them are missing"):
        write_some()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("height", "width", "depth"), [(0, 1, 8), (1, -1, 8), (1, 1, 10)])
def test_a_header_of_no_picture_cannot_be_made(height: int, width: int, depth: int) -> None:
    with pytest.raises(UsageError, match="Expected a picture"):
        Header(height, width, depth)


def test_create_picture_checks_before_anything_is_computed(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="transparency"),
        create_picture(tmp_path / "a.jpg", Header(4, 4, has_alpha=True)),
    ):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, OSError])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [0, 200, 300])
def test_an_exception_in_the_block_comes_through_and_leaves_nothing_behind(
    tmp_path: Path, error: type[BaseException], suffix: str, rows: int
) -> None:
    def fail() -> None:
        with create_picture(tmp_path / f"a{suffix}", Header(300, 50)) as writer:
            if rows:
                writer.append(Picture(noise(rows, 50, 3)))
            raise error("mine")

    with pytest.raises(error, match="mine"):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("height", [10, 300])
def test_an_appending_that_was_interrupted_cannot_be_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    strip = Picture(noise(height, 5, 3))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_interleave", interrupt)

    def go_on_regardless() -> None:
        with (
            create_picture(tmp_path / "a.png", strip.header) as writer,
            suppress(KeyboardInterrupt),
        ):
            writer.append(strip)

    with pytest.raises(UsageError, match="missing"):
        go_on_regardless()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_ends_the_appending(tmp_path: Path, suffix: str) -> None:
    strip = Picture(noise(200, 500, 3))

    def append_all() -> None:
        with create_picture(tmp_path / f"a{suffix}", Header(2000, 500)) as writer:
            while writer.rows_left:
                writer.append(strip)

    with disk_full_after(5000), pytest.raises(OutputError, match="File too large") as caught:
        append_all()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_vanishes_is_an_output_error(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()

    def append_late() -> None:
        with create_picture(folder / "a.png", Header(5, 5)) as writer:
            folder.rmdir()
            writer.append(Picture(noise(5, 5, 3)))

    with pytest.raises(OutputError, match="No such file"):
        append_late()


def test_a_file_that_appears_between_strips_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"

    def append_two() -> None:
        with create_picture(path, Header(10, 5)) as writer:
            writer.append(Picture(noise(5, 5, 3)))
            path.write_bytes(b"theirs")
            writer.append(Picture(noise(5, 5, 3)))

    with pytest.raises(OutputError, match="appeared meanwhile"):
        append_two()
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_takes_its_name_when_the_block_is_left(tmp_path: Path) -> None:
    with create_picture(tmp_path / "a.png", Header(5, 5)) as writer:
        writer.append(Picture(noise(5, 5, 3)))
        time.sleep(0.1)
        assert not (tmp_path / "a.png").exists()
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize("after", [0.0, 0.1])
def test_ctrl_c_ends_the_writing_soon_and_leaves_nothing_behind(
    tmp_path: Path, suffix: str, in_strips: bool, after: float, caplog: pytest.LogCaptureFixture
) -> None:
    path, strip = tmp_path / f"a{suffix}", noise(1000, 6000, 3)
    large = np.concatenate([strip] * 20)
    pressed = 0.0

    def write_large() -> None:
        if not in_strips:
            write(Picture(large), path)
            return
        with create_picture(path, Header(1_000_000, 6000)) as writer:
            while writer.rows_left:
                writer.append(Picture(strip))

    def press() -> None:
        nonlocal pressed
        while not list(tmp_path.iterdir()):
            time.sleep(0.001)
        time.sleep(after)
        pressed = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        write_large()
    pressing.join()
    assert time.perf_counter() - pressed < 3  # all rows would take more than ten
    assert not list(tmp_path.iterdir())
    assert not caplog.records


MEMORY_OF_MANY_ROWS = """
import pathlib, re, sys
import numpy as np
from classsr.image import Header, Picture, create_picture, open_picture

path, height = pathlib.Path(sys.argv[1]), int(sys.argv[2])
noise = np.random.default_rng(0).integers(0, 256, (200, 500, 3), np.uint8)
strip = Picture(np.tile(noise, (1, 40, 1)))
with create_picture(path, Header(height, strip.width)) as writer:
    while writer.rows_left:
        writer.append(strip)
with open_picture(path) as reader:
    while reader.rows_left:
        assert np.array_equal(reader.rows(strip.height).rgb, strip.rgb)
print(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_memory_does_not_grow_with_the_height(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for height in (4_000, 12_000):
        path = tmp_path / f"{height}{suffix}"
        command = [sys.executable, "-c", MEMORY_OF_MANY_ROWS, str(path), str(height)]
        peaks.append(int(subprocess.check_output(command)) / 1024)
    assert peaks[1] < 500
    assert peaks[1] - peaks[0] < 50  # of the 458 MiB that there are more; how many rows wait varies


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
@pytest.mark.parametrize("in_strips", [False, True])
def test_many_small_pictures_leave_no_memory_behind(tmp_path: Path, in_strips: bool) -> None:
    picture = Picture(noise(200, 300, 3), noise(200, 300))

    def make_some() -> None:
        for number in range(100):
            path = tmp_path / f"{number}.tif"
            if in_strips:
                write_in_strips(picture, path, [50])
                read_in_strips(path, 50)
            else:
                write(picture, path)
                read(path)
            path.unlink()

    make_some()  # until libvips has filled its caches
    before = resident_mib()
    make_some()
    make_some()
    assert resident_mib() - before < 15  # a picture kept each time would be 46


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
