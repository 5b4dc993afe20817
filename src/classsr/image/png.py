"""PNG files: rows filtered by NumPy and deflated by ISA-L, in pieces on all cores (docs/adr/0012-png-in-pieces.md).

After the PNG specification, third edition (W3C, 2025), and RFC 1950.
"""

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyvips
from isal import isal_zlib
from numpy.typing import NDArray

from classsr.image.metadata import Metadata
from classsr.image.vips import value_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"  # not compressed, no language, no translation
PROFILE_NAME = b"ICC profile\0\0"  # and that it is deflated
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
UP = 2  # the filter: every byte less the one above it
PIECE_BYTES = 2**20  # of samples; each is deflated without knowing those before it
LEVEL = 2  # of 0 to 3
RAW = -15  # no header and no checksum around a piece
STREAM_HEAD, STREAM_END = b"\x78\x01", b"\x03\0"  # of RFC 1950; the last block, which is empty
MODULUS = 65_521  # of Adler-32
MOST_THREADS = 8  # which no disk keeps up with


class _Piece(NamedTuple):
    """Some rows as they stand in a file."""

    chunk: bytes
    checksum: int  # Adler-32 of the filtered rows
    length: int  # bytes of them


def save(
    image: pyvips.Image, path: Path, metadata: Metadata, is_broken_off: Callable[[], bool]
) -> None:
    """Write an image of 1 to 4 channels of 8 or 16 bits, whose rows are computed from top to bottom.

    Args:
        image: with the resolution and the ICC profile that it is to keep.
        path: the file, which is written over.
        metadata: what is to stand in it besides.
        is_broken_off: asked before every piece; the file stays incomplete once it says so.

    Raises:
        OSError: the disk is full or refuses.
        pyvips.Error: the image cannot be computed.

    """
    checksum = 1
    with path.open("wb") as file:
        file.write(SIGNATURE + _head(image, metadata) + _chunk(b"IDAT", STREAM_HEAD))
        for piece in _in_parallel(_rows(image, is_broken_off)):
            file.write(piece.chunk)
            checksum = _joined(checksum, piece.checksum, piece.length)
        file.write(_chunk(b"IDAT", STREAM_END + struct.pack(">I", checksum)))
        file.write(_chunk(b"IEND", b""))


def _head(image: pyvips.Image, metadata: Metadata) -> bytes:
    """Return the chunks that stand before the pixels."""
    form = _bytes_per_sample(image) * 8, COLOUR_TYPES[image.bands]
    dots_per_metre = round(1000 * image.xres), round(1000 * image.yres)
    profile = value_of(image, "icc-profile-data")
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, *form, 0, 0, 0)),
        _chunk(b"pHYs", struct.pack(">IIB", *dots_per_metre, 1)),
    ]
    if profile is not None:
        chunks.append(_chunk(b"iCCP", PROFILE_NAME + zlib.compress(profile)))
    if metadata.exif is not None:
        chunks.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        chunks.append(_chunk(b"iTXt", XMP_KEYWORD + metadata.xmp))
    return b"".join(chunks)


def _bytes_per_sample(image: pyvips.Image) -> int:
    return 1 if image.format == "uchar" else 2


def _rows(image: pyvips.Image, is_broken_off: Callable[[], bool]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of some rows and of the one above them, which is zeros at the top: (1 + rows, bytes)."""
    region = pyvips.Region.new(image)
    size = _bytes_per_sample(image)
    row_bytes = image.width * image.bands * size
    step = max(1, PIECE_BYTES // row_bytes)
    above = np.zeros((1, row_bytes), np.uint8)
    for top in range(0, image.height, step):
        count = min(step, image.height - top)
        fetched = np.frombuffer(region.fetch(0, top, image.width, count), f"u{size}")
        samples = fetched.astype(f">u{size}", copy=False).view(np.uint8)
        if is_broken_off():  # what was fetched then may be anything
            return
        rows = np.concatenate([above, samples.reshape(count, row_bytes)])
        yield rows
        above = rows[-1:]


def _in_parallel(parts: Iterator[NDArray[np.uint8]]) -> Iterator[_Piece]:
    """Deflate on all cores, and yield the pieces in order; two for every core are held."""
    cores = min(os.cpu_count() or 1, MOST_THREADS)
    begun: deque[Future[_Piece]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for rows in parts:
            begun.append(pool.submit(_deflated, rows))
            if len(begun) > 2 * cores:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _deflated(rows: NDArray[np.uint8]) -> _Piece:
    """Filter and deflate rows below the first: (1 + rows, bytes)."""
    filtered = np.empty((rows.shape[0] - 1, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = UP
    np.subtract(rows[1:], rows[:-1], out=filtered[:, 1:])
    stream = isal_zlib.compressobj(LEVEL, wbits=RAW)
    deflated = stream.compress(filtered) + stream.flush(isal_zlib.Z_FULL_FLUSH)
    return _Piece(_chunk(b"IDAT", deflated), isal_zlib.adler32(filtered), filtered.size)


def _joined(first: int, second: int, length: int) -> int:
    """Return the Adler-32 of two pieces, one behind the other, from theirs; the second is `length` bytes long."""
    sum_before = first % 2**16 - 1  # of the bytes; the higher half sums these sums up
    low = (sum_before + second % 2**16) % MODULUS
    high = (first // 2**16 + second // 2**16 + length * sum_before) % MODULUS
    return high * 2**16 + low


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = isal_zlib.crc32(content, isal_zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])
