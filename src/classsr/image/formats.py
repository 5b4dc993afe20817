"""The file formats: how their files begin, what they can hold, and with which options they are written."""

import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classsr.errors import InputError, OutputError
from classsr.files import is_folder

SIGNATURE_BYTES = 256  # holds the list of brands at the head of an AVIF file
LIBVIPS_MAX_SIDE = 100_000_000
AMPLE = 2**30
LIBPNG_CHUNK_BYTES = 8_000_000  # larger ones are refused by libpng's readers
LIBEXIF_BYTES = 64_000  # it ends at 64 KiB and has entries of its own


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: how its files begin, which libvips operations read and write it, and what it can hold."""

    name: str
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes]
    codec: str  # libvips' name for it; `png` is written without libvips
    max_side: int
    holds_alpha: bool = True
    holds_16_bit: bool = False
    holds_one_channel: bool = True
    likely_share: float = 0.5  # of the bytes of all samples; ample for an enlarged photograph
    room: Mapping[str, int] = field(default_factory=dict)  # bytes for each part of `Metadata`
    save_options: Mapping[str, Any] = field(default_factory=dict)


# Save options, by the clock on two busy cores: mean of six pictures of 6.3 megapixels, half photographs, half enlarged.
# TIFF: deflate at level 6 0.41 s, 5.3 MB; enlarged, level 3 takes a third to a half of that and 4 to 12 % more room.
# LZW 0.20 s, 5.8 MB, but tifffile cannot read it unaided. JPEG 0.02 s, WebP 0.7 s. AVIF: effort 0 0.5 s, effort 2 four
# times that for 2 % less. The lossy ones keep photographs within 43 to 47 dB.
PNG = Format(
    name="PNG",
    suffixes=(".png",),
    signature=re.compile(rb"\x89PNG\r\n\x1a\n"),
    codec="png",
    max_side=LIBVIPS_MAX_SIDE,
    holds_16_bit=True,
    room={"exif": LIBPNG_CHUNK_BYTES, "xmp": LIBPNG_CHUNK_BYTES - 22},
)
JPEG = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg"),
    signature=re.compile(rb"\xff\xd8\xff"),
    codec="jpeg",
    max_side=65_500,
    holds_alpha=False,
    likely_share=0.25,
    room={"exif": 65_527, "xmp": 65_504, "iptc": 65_500},  # 65,533, less what begins a segment
    save_options={"Q": 95, "subsample_mode": "off"},
)
WEBP = Format(
    name="WebP",
    suffixes=(".webp",),
    signature=re.compile(rb"RIFF....WEBP", re.DOTALL),
    codec="webp",
    max_side=16_383,
    holds_one_channel=False,
    likely_share=0.2,
    room={"exif": LIBEXIF_BYTES, "xmp": AMPLE},
    save_options={"Q": 95, "smart_subsample": True, "effort": 2},
)
TIFF = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    signature=re.compile(rb"II[*+]\0|MM\0[*+]"),
    codec="tiff",
    max_side=LIBVIPS_MAX_SIDE,
    holds_16_bit=True,
    room={"exif": AMPLE, "xmp": AMPLE, "iptc": AMPLE},
    save_options={"compression": "deflate", "level": 3, "predictor": "horizontal"},
)
AVIF = Format(
    name="AVIF",
    suffixes=(".avif",),
    signature=re.compile(rb"....ftyp(?:....)*avif", re.DOTALL),
    codec="heif",
    max_side=16_384,  # of libvips' writer; the format itself ends at 65,536, and such files are read
    holds_one_channel=False,
    likely_share=0.2,
    room={"exif": LIBEXIF_BYTES, "xmp": AMPLE},
    save_options={"compression": "av1", "Q": 90, "effort": 0, "subsample_mode": "off"},
)
FORMATS = (PNG, JPEG, WEBP, TIFF, AVIF)
FORMAT_BY_SUFFIX = {
    suffix: file_format for file_format in FORMATS for suffix in file_format.suffixes
}


def format_of(path: Path) -> Format:
    """Return the format of a file from how it begins, so that libvips never tries its other readers on it.

    Raises InputError when the file is missing, not readable, no regular file, empty or of another kind.
    """
    try:
        mode = path.stat().st_mode
        # A pipe without a writer would be waited for, and a device may have no end.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(
                f"{path} is a pipe or a device, not a file; save the picture to a file first."
            )
        with path.open("rb") as file:
            head = file.read(SIGNATURE_BYTES)
    except OSError as exc:
        raise InputError(
            f"{path} cannot be read ({exc.strerror or exc}); name a picture file that exists and may be read."
        ) from exc
    if not head:
        raise InputError(f"{path} is empty; get or save it again.")
    for file_format in FORMATS:
        if file_format.signature.match(head):
            return file_format
    raise InputError(f"{path} is not a {names(FORMATS)} file; convert it to one of these first.")


def format_to_write(path: Path) -> Format:
    """Return the format that the suffix of a file names; raise OutputError where it names none."""
    try:
        return FORMAT_BY_SUFFIX[path.suffix.lower()]
    except KeyError as exc:
        raise OutputError(
            f"{path} does not end in the suffix of a format that can be written; use {', '.join(FORMAT_BY_SUFFIX)}."
        ) from exc


def find_pictures(folder: Path) -> list[Path]:
    """List the picture files of a folder by name, sub-folders left out.

    Raises InputError when there is no such folder or no picture in it.
    """
    if not is_folder(folder):
        raise InputError(
            f"Expected a folder of pictures but {folder} is none; name one that exists."
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMAT_BY_SUFFIX)
    if not paths:
        raise InputError(f"{folder} holds no {names(FORMATS)} file; name a folder that does.")
    return paths


def names(formats: Iterable[Format]) -> str:
    """List formats as `PNG, WebP or TIFF`."""
    return " or ".join(", ".join(file_format.name for file_format in formats).rsplit(", ", 1))
