"""From a file to a picture: whole, or strip by strip from top to bottom."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips

from classsr.errors import InputError, UsageError
from classsr.image.colour import Color, check_color, is_converted, to_rgb_or_grey
from classsr.image.containers import extract
from classsr.image.formats import AVIF, LIBVIPS_MAX_SIDE, TIFF, Format, format_of
from classsr.image.lab import lab_as_rgb, rgb_as_lab
from classsr.image.metadata import NO_METADATA, Policy, check_policy, cleaned
from classsr.image.picture import Header, Picture, Samples
from classsr.image.vips import forget, phrase, value_of

logger = logging.getLogger(__name__)

AVIF_HEAD_BYTES = 2**16  # hold the boxes about the pictures
# ISO/IEC 23008-12, 6.5.3: width and height.
SPATIAL_EXTENTS = re.compile(rb"\0\0\0\x14ispe\0{4}(.{4})(.{4})", re.DOTALL)
STRIP_ROWS = 128  # decoded at a time; 64 to 256 are as fast as decoding the whole at once
MAX_PIXELS = 2**30  # a square of 32,768; more is rather a mistake or an attack than a picture
TURNED_BYTES = 256 * 2**20  # of samples: up to here a picture is turned in memory


def read(
    path: Path, *, metadata: Policy = "all", color: Color = "keep", max_pixels: int = MAX_PIXELS
) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF or AVIF file, whatever its name, turned upright by its EXIF orientation.

    8-bit files give uint8, files with more bits uint16 over the full range. Palettes, CMYK and Lab become RGB (CMYK
    through its own profile, which then no longer applies and is left out); any other embedded profile is kept and the
    values are left alone. Of several pages or frames the first is read, with a warning in the log. Memory: the result
    and what `open_picture` takes.

    `metadata` says what is kept of EXIF, XMP and IPTC: `all` that stays true of the picture, upright and enlarged;
    `safe` leaves out where and with which copy of a camera it was taken; `none`. With `srgb` for `color`, values are
    converted to sRGB by relative colorimetric intent with black point compensation, and get its profile.

    Raises InputError when the file is missing, not readable, of another kind, truncated or damaged, or holds samples
    that are no pictures of 8 or 16 bits, or more than `max_pixels` pixels; UsageError when `metadata` or `color` is
    something else.
    """
    with open_picture(path, metadata=metadata, color=color, max_pixels=max_pixels) as reader:
        return reader.rows(reader.header.height)


def read_header(path: Path, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read all but the pixels, without decoding any; what is wrong with them is not found.

    Raises InputError as `read` does.
    """
    path = Path(path)
    file_format = format_of(path)
    with _decoding(path, file_format):
        image = _load(path, file_format)
        _check_size(image, path, max_pixels)
        turned = (value_of(image, "orientation") or 1) >= 5  # a quarter, perhaps mirrored
        _, header = _describe(image, path, "keep")
    return replace(header, height=header.width, width=header.height) if turned else header


@contextmanager
def open_picture(
    path: Path, *, metadata: Policy = "all", color: Color = "keep", max_pixels: int = MAX_PIXELS
) -> Iterator["PictureReader"]:
    """Open a picture that is then read from top to bottom, as `read` reads it and with the same errors.

    How many pixels there are is read from the header, before any of them is decoded.

    Memory: some hundred rows, whatever the height. A JPEG file is mapped on top of that, and WebP, AVIF, progressive
    JPEG and interlaced PNG are decoded whole first, as these formats want it. Measured, in bytes a pixel: PNG 3 (RGB)
    to 8 (16 bits and alpha), JPEG 3 to 6, WebP 8, AVIF 16 to 26. At `MAX_PIXELS` that is 3 to 9 GB for PNG and 4 to 7
    for JPEG; WebP ends before, at 16,383 pixels a side and 2.2 GB, and AVIF at libheif's own limit, 2**28 pixels and 4
    to 7 GB with the libvips of pip. A picture that has to be turned is decoded whole, too: into memory up to
    `TURNED_BYTES`, beyond that into an uncompressed file in the folder for temporary files, which is mapped and gone in
    the end. (What is mapped makes room where memory runs short.)
    """
    reader = _open(Path(path), metadata, color, max_pixels)
    try:
        yield reader
    finally:
        reader.close()


class PictureReader:
    """A picture that is read from top to bottom; made by `open_picture`."""

    def __init__(
        self, image: pyvips.Image, header: Header, path: Path, file_format: Format
    ) -> None:
        self.header = header
        self.rows_left = header.height
        self._path, self._format = path, file_format
        self._region = pyvips.Region.new(image)
        self._channels = image.bands

    def rows(self, count: int) -> Picture:
        """Read the next `count` rows, or those that are left if they are fewer.

        With the last row the file is let go of, so that it may be replaced.

        Raises InputError as `read` does, and UsageError when `count` is not positive or no rows are left.
        """
        if count < 1 or not self.rows_left:
            raise UsageError(
                f"Expected to read at least one of the {self.rows_left} rows that are left but got {count}."
            )
        header, top = self.header, self.header.height - self.rows_left
        count = min(count, self.rows_left)
        with _decoding(self._path, self._format):
            rgb: Samples = np.empty((count, header.width, 3), header.dtype)
            alpha: Samples | None = (
                np.empty((count, header.width), header.dtype) if header.has_alpha else None
            )
            for start in range(0, count, STRIP_ROWS):
                rows = slice(start, min(start + STRIP_ROWS, count))
                strip = self._fetch(top + start, rows.stop - start)
                rgb[rows] = strip[..., : self._channels - header.has_alpha]  # grey fills all three
                if alpha is not None:
                    alpha[rows] = strip[..., -1]
        self.rows_left -= count
        if not self.rows_left:
            self.close()
        return Picture(rgb, alpha, header.is_grey, header.profile, header.metadata)

    def close(self) -> None:
        """Let go of the file."""
        if self._region is not None:
            self.rows_left, self._region = 0, None
            forget()

    def _fetch(self, top: int, rows: int) -> Samples:
        """Decode some rows into (rows, W, channels)."""
        width, dtype = self.header.width, self.header.dtype
        samples: Samples = np.frombuffer(self._region.fetch(0, top, width, rows), dtype)
        return samples.reshape(rows, width, self._channels)


def _open(path: Path, policy: Policy, color: Color, max_pixels: int) -> PictureReader:
    check_policy(policy)
    check_color(color)
    file_format = format_of(path)
    with _decoding(path, file_format):
        image = _load(path, file_format)
        _check_size(image, path, max_pixels)
        _warn_of_pages(image, path)
        found = NO_METADATA if policy == "none" else extract(image, path, file_format)
        is_turned, is_srgb = _is_turned(image), is_converted(image, color)
        image, header = _describe(_upright(image), path, color)
    kept = cleaned(found, path, policy=policy, is_turned=is_turned, is_srgb=is_srgb)
    return PictureReader(image, replace(header, metadata=kept), path, file_format)


def _load(path: Path, file_format: Format) -> pyvips.Image:
    if file_format is AVIF:
        _check_claims(path)
    options = {"access": "sequential", "fail_on": "error"}
    content = lab_as_rgb(path) if file_format is TIFF else None
    if content is not None:
        return rgb_as_lab(pyvips.Operation.call("tiffload_buffer", content, **options))
    source = pyvips.Source.new_from_file(os.fsencode(path))
    return pyvips.Operation.call(f"{file_format.codec}load_source", source, **options)


@contextmanager
def _decoding(path: Path, file_format: Format) -> Iterator[None]:
    """Translate what goes wrong while a file is decoded."""
    try:
        yield
    except pyvips.Error as exc:
        told = phrase(exc)
        remedy = "it may be truncated or damaged, so get or save it again"
        if "limit exceeded" in told:  # one of libheif's own
            remedy = "save it as PNG or TIFF first"
        raise InputError(
            f"{path} cannot be decoded as {file_format.name} ({told}); {remedy}."
        ) from exc
    except MemoryError as exc:
        raise InputError(f"{path} does not fit into memory; cut it into parts first.") from exc


def _check_size(image: pyvips.Image, path: Path, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise InputError(
            f"{path} claims {image.width} x {image.height} pixels, {pixels:,} in all, more than the limit of "
            f"{max_pixels:,}; raise it with --max-pixels if the picture is meant to be so large."
        )


def _check_claims(path: Path) -> None:
    """Refuse sizes that libvips takes for 1 with a complaint of GLib on stderr, which no program can catch."""
    with path.open("rb") as file:
        head = file.read(AVIF_HEAD_BYTES)
    for claimed in SPATIAL_EXTENTS.finditer(head):
        width, height = (int.from_bytes(side, "big") for side in claimed.groups())
        if max(width, height) > LIBVIPS_MAX_SIDE:
            raise InputError(
                f"{path} claims {width} x {height} pixels, which no AVIF file can have; get or save it again."
            )


def _warn_of_pages(image: pyvips.Image, path: Path) -> None:
    pages = value_of(image, "n-pages") or 1
    if pages > 1:
        logger.warning("%s has %d pages or frames; only the first is read", path, pages)


def _is_turned(image: pyvips.Image) -> bool:
    return value_of(image, "orientation") not in (None, 1)


def _upright(image: pyvips.Image) -> pyvips.Image:
    """Turn an image by its EXIF orientation; turning needs all rows, so they are decoded first."""
    if not _is_turned(image):
        return image
    sample_bytes = 2 if image.format == "ushort" else 1
    if image.width * image.height * image.bands * sample_bytes <= TURNED_BYTES:
        return image.copy_memory().autorot()
    stored = pyvips.Image.new_temp_file("%s.v")
    image.write(stored)
    return stored.autorot()


def _describe(image: pyvips.Image, path: Path, color: Color) -> tuple[pyvips.Image, Header]:
    """Convert an upright image to grey or RGB, with or without alpha, of 8 or 16 bits."""
    image, profile = to_rgb_or_grey(_to_full_range(image), path, color)
    bits = {"uchar": 8, "ushort": 16}.get(image.format)
    if bits is None:
        raise InputError(
            f"{path} holds samples of type {image.format}; save it with 8 or 16 bits a channel first."
        )
    is_grey = image.interpretation in ("b-w", "grey16")
    colours = 1 if is_grey else 3
    if image.bands not in (colours, colours + 1):
        raise InputError(
            f"{path} has {image.bands} channels; save it as grey or RGB, with or without alpha, first."
        )
    header = Header(image.height, image.width, bits, image.bands > colours, is_grey, profile)
    return image, header


def _to_full_range(image: pyvips.Image) -> pyvips.Image:
    """Stretch 10 and 12 bits, which libvips puts into the upper bits of 16, to the full range by repeating them."""
    used = value_of(image, "bits-per-sample") or 16
    return image | (image >> used) if image.format == "ushort" and 8 < used < 16 else image
