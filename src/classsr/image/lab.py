"""CIELAB of 8 bits in TIFF files, as Photoshop writes it: libvips (8.18) refuses it, so it is loaded as RGB first."""

import struct
from pathlib import Path

import pyvips

from classsr.image import exif

BITS, PHOTOMETRIC, CHANNELS = 258, 262, 277  # tags
RGB, CIELAB = 2, 8  # kinds of PhotometricInterpretation
HEAD_BYTES = 2**16  # more than the entries of a directory take


def lab_as_rgb(path: Path) -> bytes | None:
    """Return the bytes of a TIFF file of 8-bit CIELAB, said to be RGB; None where a file is another.

    The whole file is held in memory.
    """
    with path.open("rb") as file:
        read = exif.reading(file)
        try:
            found = exif.find_values(read, (BITS, PHOTOMETRIC, CHANNELS))
            dialect, first = exif.read_head(read)
            table, _ = exif.read_table(read, dialect, first)
        except ValueError:  # which whoever reads it will find
            return None
        told = {tag: entry.data for tag, entry in found.items() if entry.kind == exif.SHORT}
        numbers = {PHOTOMETRIC: [CIELAB], CHANNELS: [3], BITS: [8, 8, 8]}
        if told != {tag: struct.pack(f"<{len(each)}H", *each) for tag, each in numbers.items()}:
            return None
        content = bytearray(read(0, -1))
    at = content.find(table[PHOTOMETRIC], first, first + HEAD_BYTES)
    struct.pack_into(f"{dialect.order}H", content, at + (12 if dialect.is_big else 8), RGB)
    return bytes(content)


def rgb_as_lab(image: pyvips.Image) -> pyvips.Image:
    """Take three bands of 8 bits for lightness, which is stretched over them, and two signed numbers."""
    lightness, colours = image[0] * (100 / 255), (image[1:3] ^ 128) - 128
    lab = lightness.bandjoin(colours).copy(interpretation="lab")
    lab.remove("icc-profile-data")  # of CIELAB itself
    return lab
