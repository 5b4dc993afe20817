"""Pictures in and out: file format, bit depth, alpha, colour profile, orientation.

The only importer of pyvips. A file becomes a `Picture`, and a `Picture` becomes a file that is complete or not there
at all. Knows nothing of tiles, networks or enlarging, and never multiplies alpha into the colours.
"""

import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from classsr.errors import InputError, OutputError, UsageError

logger = logging.getLogger(__name__)

Samples = NDArray[np.uint8] | NDArray[np.uint16]

STRIP_ROWS = 128  # decoded at a time; 64 to 256 are as fast as decoding the whole at once
SIGNATURE_BYTES = 256  # holds the list of brands at the head of an AVIF file
CLASSIC_TIFF_BYTES = 4_000_000_000  # of samples: even noise then ends below the 2**32 of TIFF
PIXELS_PER_MM = 72 / 25.4  # some formats must name a density; 72 dpi is taken for "no claim"
LIBVIPS_MAX_SIDE = 100_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A whole picture in memory, upright.

    `rgb` is (H, W, 3), uint8 in [0, 255] or uint16 in [0, 65535]. `alpha` is (H, W) of the same type, 0 where nothing
    is to be seen, and is not multiplied into `rgb`. `is_grey` says that the source had one colour channel: the three
    are equal, and `write` stores one again. `profile` is the ICC profile that gives the values their meaning; without
    one they are sRGB.

    Raises UsageError when shapes or types are others than these.
    """

    rgb: Samples
    alpha: Samples | None = None
    is_grey: bool = False
    profile: bytes | None = None

    def __post_init__(self) -> None:
        """Check shapes and types, so that no later step has to."""
        rgb, alpha = self.rgb, self.alpha
        if rgb.dtype not in (np.uint8, np.uint16):
            raise UsageError(f"Expected rgb to be uint8 or uint16 but got {rgb.dtype}; convert it.")
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise UsageError(f"Expected rgb to be (H, W, 3), not empty, but got {rgb.shape}.")
        if alpha is not None and (alpha.dtype, alpha.shape) != (rgb.dtype, rgb.shape[:2]):
            raise UsageError(
                f"Expected alpha to be {rgb.dtype} {rgb.shape[:2]} but got {alpha.dtype} {alpha.shape}."
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.rgb.shape[1])

    @property
    def depth(self) -> int:
        """Bits per sample: 8 or 16."""
        return 8 * int(self.rgb.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: how its files begin, which libvips operations read and write it, and what it can hold."""

    name: str
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes]
    codec: str  # libvips' name for it
    max_side: int
    holds_alpha: bool = True
    holds_16_bit: bool = False
    holds_one_channel: bool = True
    save_options: Mapping[str, Any] = field(default_factory=dict)


# Save options, by the clock on two busy cores: mean of six pictures of 6.3 megapixels, half photographs, half enlarged.
# PNG: level 2 and the `up` filter 0.11 s, 5.3 MB; level 1 unfiltered 0.11 s, 10.8 MB; libvips' default (level 6,
# unfiltered) 0.20 s, 8.4 MB; level 6 with `up` 0.33 s, 4.7 MB. TIFF: deflate 0.41 s, 5.3 MB; LZW 0.20 s, 5.8 MB, but
# tifffile cannot read it unaided. JPEG 0.02 s, WebP 0.7 s. AVIF: effort 0 0.5 s, effort 2 four times that for 2 % less.
# The lossy ones keep photographs within 43 to 47 dB.
PNG = Format(
    name="PNG",
    suffixes=(".png",),
    signature=re.compile(rb"\x89PNG\r\n\x1a\n"),
    codec="png",
    max_side=LIBVIPS_MAX_SIDE,
    holds_16_bit=True,
    save_options={"compression": 2, "filter": "up"},
)
JPEG = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg"),
    signature=re.compile(rb"\xff\xd8\xff"),
    codec="jpeg",
    max_side=65_500,
    holds_alpha=False,
    save_options={"Q": 95, "subsample_mode": "off"},
)
WEBP = Format(
    name="WebP",
    suffixes=(".webp",),
    signature=re.compile(rb"RIFF....WEBP", re.DOTALL),
    codec="webp",
    max_side=16_383,
    holds_one_channel=False,
    save_options={"Q": 95, "smart_subsample": True, "effort": 2},
)
TIFF = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    signature=re.compile(rb"II[*+]\0|MM\0[*+]"),
    codec="tiff",
    max_side=LIBVIPS_MAX_SIDE,
    holds_16_bit=True,
    save_options={"compression": "deflate", "predictor": "horizontal"},
)
AVIF = Format(
    name="AVIF",
    suffixes=(".avif",),
    signature=re.compile(rb"....ftyp(?:....)*avif", re.DOTALL),
    codec="heif",
    max_side=16_384,  # of libvips' writer; the format itself ends at 65,536, and such files are read
    holds_one_channel=False,
    save_options={"compression": "av1", "Q": 90, "effort": 0, "subsample_mode": "off"},
)
FORMATS = (PNG, JPEG, WEBP, TIFF, AVIF)
FORMAT_BY_SUFFIX = {
    suffix: file_format for file_format in FORMATS for suffix in file_format.suffixes
}


def read(path: Path) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF or AVIF file, whatever its name, turned upright by its EXIF orientation.

    8-bit files give uint8, files with more bits uint16 over the full range. Palettes, CMYK and Lab become RGB (CMYK
    through its own profile, which then no longer applies and is left out); any other embedded profile is kept and the
    values are left alone. Of several pages or frames the first is read, with a warning in the log. Memory: the result
    and a strip of rows; twice the result where the picture has to be turned.

    Raises InputError when the file is missing, not readable, of another kind, truncated or damaged, or holds samples
    that are no pictures of 8 or 16 bits.
    """
    path = Path(path)
    file_format = _sniff(path)
    try:
        source = pyvips.Source.new_from_file(os.fsencode(path))
        image = pyvips.Operation.call(
            f"{file_format.codec}load_source", source, access="sequential", fail_on="error"
        )
        _warn_of_pages(image, path)
        return _decode(_upright(image), path)
    except pyvips.Error as exc:
        raise InputError(
            f"{path} cannot be decoded as {file_format.name} ({_phrase(exc)}); it may be truncated or damaged, so get "
            f"or save it again."
        ) from exc
    except MemoryError as exc:
        raise InputError(f"{path} does not fit into memory; cut it into parts first.") from exc


def check_output(path: Path, *, height: int, width: int, has_alpha: bool, overwrite: bool) -> None:
    """Check that a picture of this size can be written to `path`, before anything is computed.

    Raises OutputError when the suffix names no format that is known, the format cannot hold the size or the alpha, the
    folder is missing or closed to writing, or the file exists and `overwrite` is False.
    """
    path = Path(path)
    file_format = _format_to_write(path)
    side = max(height, width)
    able = _names(
        other
        for other in FORMATS
        if other.max_side >= side and (other.holds_alpha or not has_alpha)
    )
    if has_alpha and not file_format.holds_alpha:
        raise OutputError(
            f"{path} would lose the transparency of the picture, which {file_format.name} cannot hold; use {able}."
        )
    if side > file_format.max_side:
        raise OutputError(
            f"{path} would be {width} x {height} pixels, but {file_format.name} ends at {file_format.max_side} a side; "
            f"use {able or 'a smaller picture'}."
        )
    _check_place(path, overwrite=overwrite)


def write(picture: Picture, path: Path, *, overwrite: bool = False) -> None:
    """Write a picture in the format that the suffix of `path` names, complete or not at all.

    PNG and TIFF are lossless and keep 16 bits; JPEG, WebP and AVIF are written with losses that the eye does not see,
    and from 16 bits with a note in the log. A grey picture is stored as one channel where the format and the profile
    allow. The file is prepared under a hidden name beside `path` and takes its name last, so that no reader ever sees
    half of it; without `overwrite`, a file that appears meanwhile stays as it is.

    Raises OutputError as `check_output` does, and when the disk is full or refuses.
    """
    path = Path(path)
    check_output(
        path,
        height=picture.height,
        width=picture.width,
        has_alpha=picture.alpha is not None,
        overwrite=overwrite,
    )
    file_format = _format_to_write(path)
    if picture.depth == 16 and not file_format.holds_16_bit:
        logger.warning(
            "%s: %s holds 8 bits, so the 16 of the picture are rounded", path, file_format.name
        )
    try:
        with _interrupts_held() as interrupted, _temporary_beside(path) as temporary:
            _encode(picture, temporary, file_format, interrupted)
            if not interrupted():
                _publish(temporary, path, overwrite=overwrite)
    except FileExistsError as exc:
        raise OutputError(
            f"{path} has appeared meanwhile; choose another name or allow it with --overwrite."
        ) from exc
    except (pyvips.Error, OSError) as exc:
        raise OutputError(
            f"{path} cannot be written ({_phrase(exc)}); make room or choose another place."
        ) from exc


def find_pictures(folder: Path) -> list[Path]:
    """List the picture files of a folder by name, sub-folders left out.

    Raises InputError when there is no such folder or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(
            f"Expected a folder of pictures but {folder} is none; name one that exists."
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMAT_BY_SUFFIX)
    if not paths:
        raise InputError(f"{folder} holds no {_names(FORMATS)} file; name a folder that does.")
    return paths


def _sniff(path: Path) -> Format:
    """Return the format of a file from how it begins; never let libvips try its other readers on it."""
    try:
        with path.open("rb") as file:
            head = file.read(SIGNATURE_BYTES)
    except OSError as exc:
        raise InputError(
            f"{path} cannot be read ({_phrase(exc)}); name a picture file that exists and may be read."
        ) from exc
    if not head:
        raise InputError(f"{path} is empty; get or save it again.")
    for file_format in FORMATS:
        if file_format.signature.match(head):
            return file_format
    raise InputError(f"{path} is not a {_names(FORMATS)} file; convert it to one of these first.")


def _warn_of_pages(image: pyvips.Image, path: Path) -> None:
    pages = _metadata(image, "n-pages") or 1
    if pages > 1:
        logger.warning("%s has %d pages or frames; only the first is read", path, pages)


def _upright(image: pyvips.Image) -> pyvips.Image:
    """Turn an image by its EXIF orientation; turning needs all rows, so they are decoded first."""
    is_turned = _metadata(image, "orientation") not in (None, 1)
    return image.copy_memory().autorot() if is_turned else image


def _decode(image: pyvips.Image, path: Path) -> Picture:
    """Decode an upright libvips image."""
    image, profile = _to_rgb_or_grey(image)
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
    rgb, alpha = _fetch(_to_full_range(image, bits), colours, bits)
    return Picture(rgb, alpha, is_grey, profile)


def _to_rgb_or_grey(image: pyvips.Image) -> tuple[pyvips.Image, bytes | None]:
    """Convert CMYK, Lab and their like to sRGB; return the image and the profile that still applies to it."""
    if image.interpretation in ("b-w", "grey16", "srgb", "rgb16", "multiband", "scrgb"):
        return image, _metadata(image, "icc-profile-data")
    is_deep = image.format in ("ushort", "short")
    if image.interpretation != "cmyk":
        return image.colourspace("rgb16" if is_deep else "srgb"), None
    return image.icc_transform(
        "srgb",
        embedded=True,  # libvips' own profile where the file has none or a wrong one
        intent="relative",
        black_point_compensation=True,
        depth=16 if is_deep else 8,
    ), None


def _to_full_range(image: pyvips.Image, bits: int) -> pyvips.Image:
    """Stretch 10 and 12 bits, which libvips puts into the upper bits of 16, to the full range by repeating them."""
    used = _metadata(image, "bits-per-sample") or bits
    return image | (image >> used) if bits == 16 and 8 < used < 16 else image


def _fetch(image: pyvips.Image, colours: int, bits: int) -> tuple[Samples, Samples | None]:
    """Decode strip by strip into (H, W, 3) and, where there is one band more than `colours`, (H, W)."""
    dtype: np.dtype[Any] = np.dtype(f"uint{bits}")
    height, width, bands = image.height, image.width, image.bands
    rgb: Samples = np.empty((height, width, 3), dtype)
    alpha: Samples | None = np.empty((height, width), dtype) if bands > colours else None
    region = pyvips.Region.new(image)
    for top in range(0, height, STRIP_ROWS):
        rows = min(STRIP_ROWS, height - top)
        strip = np.frombuffer(region.fetch(0, top, width, rows), dtype).reshape(rows, width, bands)
        rgb[top : top + rows] = strip[..., :colours]  # one grey channel fills all three
        if alpha is not None:
            alpha[top : top + rows] = strip[..., colours]
    return rgb, alpha


def _metadata(image: pyvips.Image, name: str) -> Any:  # noqa: ANN401 - whatever type it has
    return image.get(name) if image.get_typeof(name) else None


def _format_to_write(path: Path) -> Format:
    try:
        return FORMAT_BY_SUFFIX[path.suffix.lower()]
    except KeyError as exc:
        raise OutputError(
            f"{path} does not end in the suffix of a format that can be written; use {', '.join(FORMAT_BY_SUFFIX)}."
        ) from exc


def _check_place(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be put at `path`."""
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(
            f"{path} cannot be written because the folder {folder} does not exist; create it first."
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a picture file.")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(
            f"{path} exists already; choose another name or allow it with --overwrite."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path} cannot be written because the folder {folder} is closed to writing; choose another."
        )


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back until the end, and tell whether it came.

    Raised where libvips happens to call back into Python, KeyboardInterrupt would be printed and forgotten.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # others are not interrupted
        yield came.is_set
        return
    previous = signal.signal(signal.SIGINT, lambda *_: came.set())
    try:
        yield came.is_set
    except pyvips.Error:
        if not came.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, previous)
    if came.is_set():
        raise KeyboardInterrupt


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Create an empty hidden file beside `path`, and see to it that it is gone in the end."""
    # Not made from the name of `path`, which may already be as long as a file system allows.
    temporary = path.with_name(f".classsr-{secrets.token_hex(8)}.part")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _encode(
    picture: Picture, path: Path, file_format: Format, interrupted: Callable[[], bool]
) -> None:
    """Write a picture over `path`, down to the disk; give up at the next strip when interrupted."""
    options = dict(file_format.save_options)
    if file_format is TIFF:
        alpha_bytes = 0 if picture.alpha is None else picture.alpha.nbytes
        options["bigtiff"] = picture.rgb.nbytes + alpha_bytes > CLASSIC_TIFF_BYTES
    target = pyvips.Target.new_to_file(os.fsencode(path))
    stored = _to_stored(picture, file_format)
    stored.set_progress(True)
    stored.signal_connect("eval", lambda image, _: interrupted() and image.set_kill(True))
    pyvips.Operation.call(f"{file_format.codec}save_target", stored, target, **options)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _to_stored(picture: Picture, file_format: Format) -> pyvips.Image:
    """Return the libvips image, computed strip by strip on demand, that a format is to store."""
    image = _wrap(picture.rgb)
    profile_space = (picture.profile or b"")[16:20]  # ICC.1:2022, table 17: "data colour space"
    if picture.is_grey and profile_space != b"RGB ":  # an RGB profile needs all three
        image = image.bandmean()  # rounds
    is_grey = image.bands == 1
    if picture.alpha is not None:
        image = image.bandjoin(_wrap(picture.alpha))
    image = image.copy(
        interpretation=_interpretation(is_grey, picture.depth),
        xres=PIXELS_PER_MM,
        yres=PIXELS_PER_MM,
    )
    if picture.profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", picture.profile)
    if profile_space == b"GRAY" and is_grey and not file_format.holds_one_channel:
        image, is_grey = image.icc_transform("srgb", embedded=True, depth=picture.depth), False
    if picture.depth == 16 and not file_format.holds_16_bit:
        image = (image / 257).rint().cast("uchar").copy(interpretation=_interpretation(is_grey, 8))
    return image


def _wrap(samples: Samples) -> pyvips.Image:
    """Return a libvips image that looks at an (H, W) or (H, W, 3) array without copying it."""
    height, width, *bands = samples.shape
    kind = "uchar" if samples.itemsize == 1 else "ushort"
    contiguous: NDArray[Any] = np.ascontiguousarray(samples)
    return pyvips.Image.new_from_memory(contiguous, width, height, *(bands or [1]), kind)


def _interpretation(is_grey: bool, depth: int) -> str:
    if is_grey:
        return "b-w" if depth == 8 else "grey16"
    return "srgb" if depth == 8 else "rgb16"


def _publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name in one step; without `overwrite`, raise FileExistsError where it is taken."""
    if overwrite:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links (exFAT, some network drives): take the name, then the place
        path.touch(exist_ok=False)
        temporary.replace(path)


def _names(formats: Iterable[Format]) -> str:
    """List formats as `PNG, WebP or TIFF`."""
    return " or ".join(", ".join(file_format.name for file_format in formats).rsplit(", ", 1))


def _phrase(error: pyvips.Error | OSError) -> str:
    """Reduce an error to a few words; of libvips' pile of messages, to the system's or else the last."""
    if isinstance(error, OSError):
        return str(error.strerror or error)
    lines: list[str] = [
        line.strip()
        for line in str(error.detail).splitlines()
        if not any(noise in line for noise in ("bad seek", "Unknown error", "write failed"))
    ]
    lines = [line for line in lines if line] or [str(error.message)]
    told = next((line for line in lines if line.startswith("system error: ")), lines[-1])
    return told.split(": ", maxsplit=1)[-1][:100].rstrip(".")
