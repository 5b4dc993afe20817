"""Where the file formats keep metadata: out of a file, and into one that libvips writes (all but PNG, see `png`).

libvips passes IPTC on to no TIFF, and EXIF only after taking it apart and putting it together anew, which loses tags
that it does not know. So all but XMP in WebP and AVIF is put in place here: in JPEG into a gap at the head that libvips
leaves free, in TIFF at the end, and in WebP and AVIF over an EXIF of libvips that is as long.
"""

import logging
import mmap
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyvips

from classsr.image import exif, iptc
from classsr.image.formats import JPEG, TIFF, WEBP, Format
from classsr.image.metadata import NO_METADATA, Metadata, attempt, warn_of_damage
from classsr.image.vips import value_of

logger = logging.getLogger(__name__)

EXIF_PREFIX = b"Exif\0\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
JFIF = b"JFIF\0\1\2\0\0\1\0\1\0\0"  # of no density and without a thumbnail
APP0, APP1, APP13 = 0xE0, 0xE1, 0xED
START_OF_IMAGE_BYTES = 2
XMP_TAG, IPTC_TAG = 700, 33723  # in IFD0 of TIFF
TIFF_ALIGNMENT = 8
CLASSIC_TIFF_END = 2**32
DIRECTORY_BYTES = 2**16  # more than an IFD0 of libvips takes
COVER_FIELD = "exif-ifd3-GPSDateStamp"  # the last entry that libexif writes


# --- Out of a file ---


def extract(image: pyvips.Image, path: Path, file_format: Format) -> Metadata:
    """Return what a file says about its picture, as it is but for what EXIF never keeps; damage is told in the log.

    Args:
        image: what libvips has loaded from the file.
        path: the file.
        file_format: its format.

    """
    if file_format is TIFF:
        return _extract_from_tiff(path)
    blob = value_of(image, "exif-data")
    segment = value_of(image, "iptc-data")
    return Metadata(
        None if blob is None else blob.removeprefix(EXIF_PREFIX),
        value_of(image, "xmp-data"),
        attempt(path, "IPTC record", iptc.unwrapped, segment),
    )


def _extract_from_tiff(path: Path) -> Metadata:
    def take(read: exif.Read) -> Metadata:
        found = exif.parse(read)
        warn_of_damage(found, path)
        values = exif.find_values(read, (XMP_TAG, IPTC_TAG))
        return Metadata(
            None if found.is_empty else exif.to_blob(found),
            values[XMP_TAG].data if XMP_TAG in values else None,
            iptc.swapped(values[IPTC_TAG].data) if IPTC_TAG in values else None,
        )

    with path.open("rb") as file:
        return attempt(path, "metadata", take, exif.reading(file)) or NO_METADATA


# --- Into a file ---


@contextmanager
def embedding(
    metadata: Metadata, image: pyvips.Image, path: Path, file_format: Format
) -> Iterator[tuple[pyvips.Target, str]]:
    """Yield what libvips is to write an image into, and what it is to keep; afterwards the metadata is in the file.

    Args:
        metadata: what the format has room for.
        image: a copy of its own, which gets what libvips is to pass on.
        path: an empty file.
        file_format: its format.

    Raises:
        OSError: the disk is full or refuses.

    """
    if file_format is JPEG:
        with _gap(path, metadata) as target:
            yield target, "icc"
    elif file_format is TIFF:
        yield pyvips.Target.new_to_file(os.fsencode(path)), "icc"
        if metadata != NO_METADATA:
            _append_to_tiff(metadata, path)
    else:
        if metadata.xmp is not None:
            image.set_type(pyvips.GValue.blob_type, "xmp-data", metadata.xmp)
        cover = "" if metadata.exif is None else secrets.token_hex(16).ljust(len(metadata.exif))
        if cover:
            image.set_type(pyvips.GValue.gstr_type, COVER_FIELD, cover)
        keep = "icc|xmp|exif" if cover else "icc|xmp"  # or libvips makes an EXIF up
        yield pyvips.Target.new_to_file(os.fsencode(path)), keep
        if metadata.exif is not None:
            _write_over(cover.encode(), metadata.exif, path, has_prefix=file_format is not WEBP)


@contextmanager
def _gap(path: Path, metadata: Metadata) -> Iterator[pyvips.Target]:
    """Have a JPEG written behind a gap; then move what has to come first to the front and fill the gap after it."""
    inserted = _segments(metadata)
    with path.open("rb+", buffering=0) as file:
        file.seek(len(inserted))
        yield pyvips.Target.new_to_descriptor(file.fileno())
    with path.open("rb+") as file:
        file.seek(len(inserted))
        first = file.read(START_OF_IMAGE_BYTES)
        file.seek(0)
        file.write(first + inserted)


def _segments(metadata: Metadata) -> bytes:
    """Return the application segments of a JPEG file; one without EXIF is a JFIF file."""
    parts = [(APP0, JFIF) if metadata.exif is None else (APP1, EXIF_PREFIX + metadata.exif)]
    if metadata.xmp is not None:
        parts.append((APP1, XMP_PREFIX + metadata.xmp))
    if metadata.iptc is not None:
        parts.append((APP13, iptc.wrapped(metadata.iptc)))
    return b"".join(
        struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content for marker, content in parts
    )


def _append_to_tiff(metadata: Metadata, path: Path) -> None:
    """Put a new IFD0, with all that the old one has, and what it points to at the end of a TIFF file."""
    with path.open("rb+") as file:
        read = exif.reading(file)
        dialect, first = exif.read_head(read)
        others, following = exif.read_table(read, dialect, first)
        found = exif.Exif() if metadata.exif is None else exif.from_blob(metadata.exif)
        directory = dict(found.image)
        if metadata.xmp is not None:
            directory[XMP_TAG] = exif.Entry(exif.BYTE, len(metadata.xmp), metadata.xmp)
        if metadata.iptc is not None:
            directory[IPTC_TAG] = exif.Entry(exif.UNDEFINED, len(metadata.iptc), metadata.iptc)
        offset = -(-file.seek(0, os.SEEK_END) // TIFF_ALIGNMENT) * TIFF_ALIGNMENT
        size = sum(len(part or b"") for part in (metadata.exif, metadata.xmp, metadata.iptc))
        if offset + 2 * size + DIRECTORY_BYTES > CLASSIC_TIFF_END and not dialect.is_big:
            logger.warning("%s: metadata is left out, because the file is too large for it", path)
            return
        packed = exif.pack(
            directory, found.children, dialect, offset=offset, others=others, following=following
        )
        file.seek(offset)
        file.write(packed)
        file.seek(8 if dialect.is_big else 4)
        file.write(struct.pack(dialect.offset, offset))


def _write_over(cover: bytes, blob: bytes, path: Path, *, has_prefix: bool) -> None:
    """Replace the EXIF that libvips wrote, whose last entry is `cover`, by one of our own that is not longer."""
    with path.open("rb+") as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(cover)
        assert at >= 0, "libvips wrote no EXIF"
        begin = max(content.rfind(mark, 0, at) for mark in (b"II*\0", b"MM\0*"))
        if not has_prefix:  # libvips writes it nevertheless
            begin -= len(EXIF_PREFIX)
        end = at + len(cover) + 1  # with the zero that ends a text
        content[begin:end] = blob.ljust(end - begin, b"\0")
