"""Pictures in and out: file format, bit depth, alpha, colour profile, orientation.

The only importer of pyvips. A file becomes a `Picture`, and a `Picture` becomes a file that is complete or not there
at all; both also strip by strip, for pictures that are larger than the memory. Knows nothing of tiles, networks or
enlarging, and never multiplies alpha into the colours.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from classsr.errors import InputError, OutputError, UsageError
from classsr.files import check_place, publish, temporary_beside
from classsr.strips import CHUNK_BYTES, TiffStream, Worker

logger = logging.getLogger(__name__)

Samples = NDArray[np.uint8] | NDArray[np.uint16]

STRIP_ROWS = 128  # decoded at a time; 64 to 256 are as fast as decoding the whole at once
SIGNATURE_BYTES = 256  # holds the list of brands at the head of an AVIF file
CLASSIC_TIFF_BYTES = 4_000_000_000  # of samples: even noise then ends below the 2**32 of TIFF
PIXELS_PER_MM = 72 / 25.4  # some formats must name a density; 72 dpi is taken for "no claim"
LIBVIPS_MAX_SIDE = 100_000_000
TURNED_BYTES = 256 * 2**20  # of samples: up to here a picture is turned in memory


@dataclass(frozen=True, slots=True)
class Header:
    """A picture without its pixels: what is known before the first row is read or written.

    The fields mean what they mean in a `Picture`; `depth` is in bits per sample.

    Raises UsageError when there are no pixels or the depth is neither 8 nor 16.
    """

    height: int
    width: int
    depth: int = 8
    has_alpha: bool = False
    is_grey: bool = False
    profile: bytes | None = None

    def __post_init__(self) -> None:
        """Check the numbers, so that no later step has to."""
        if min(self.height, self.width) < 1 or self.depth not in (8, 16):
            raise UsageError(
                f"Expected a picture of at least 1 x 1 pixels and 8 or 16 bits but got {self.width} x {self.height} "
                f"and {self.depth}."
            )

    @property
    def channels(self) -> int:
        """Samples of a pixel: red, green, blue and perhaps alpha."""
        return 3 + self.has_alpha

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a sample."""
        return np.dtype(f"uint{self.depth}")

    @property
    def row_bytes(self) -> int:
        """Memory that a row takes."""
        return self.width * self.channels * self.dtype.itemsize

    def scaled(self, scale: int) -> "Header":
        """Return that of the picture enlarged."""
        return replace(self, height=self.height * scale, width=self.width * scale)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture in memory, upright: a whole one, or a strip of its rows.

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

    @property
    def header(self) -> Header:
        """All but the pixels."""
        return Header(
            self.height,
            self.width,
            self.depth,
            has_alpha=self.alpha is not None,
            is_grey=self.is_grey,
            profile=self.profile,
        )

    def rows(self, part: slice) -> "Picture":
        """Return some of its rows, which are not copied."""
        alpha: Any = None if self.alpha is None else self.alpha[part]
        return replace(self, rgb=self.rgb[part], alpha=alpha)

    @staticmethod
    def stacked(strips: Sequence["Picture"]) -> "Picture":
        """Put strips of one picture together, from top to bottom; at least one."""
        if len(strips) == 1:
            return strips[0]
        alphas = [strip.alpha for strip in strips if strip.alpha is not None]
        rgb: Samples = np.concatenate([strip.rgb for strip in strips])
        alpha: Any = np.concatenate(alphas) if alphas else None
        return replace(strips[0], rgb=rgb, alpha=alpha)


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
    and what `open_picture` takes.

    Raises InputError when the file is missing, not readable, of another kind, truncated or damaged, or holds samples
    that are no pictures of 8 or 16 bits.
    """
    with open_picture(path) as reader:
        return reader.rows(reader.header.height)


@contextmanager
def open_picture(path: Path) -> Iterator["PictureReader"]:
    """Open a picture that is then read from top to bottom, as `read` reads it and with the same errors.

    Memory: some hundred rows, whatever the height. A JPEG file is mapped on top of that, and WebP, AVIF, progressive
    JPEG and interlaced PNG are decoded whole first, as these formats want it. A picture that has to be turned is
    decoded whole, too: into memory up to `TURNED_BYTES`, beyond that into an uncompressed file in the folder for
    temporary files, which is mapped and gone in the end. (What is mapped makes room where memory runs short.)
    """
    reader = _open(Path(path))
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
        return Picture(rgb, alpha, header.is_grey, header.profile)

    def close(self) -> None:
        """Let go of the file."""
        self.rows_left, self._region = 0, None

    def _fetch(self, top: int, rows: int) -> Samples:
        """Decode some rows into (rows, W, channels)."""
        width, dtype = self.header.width, self.header.dtype
        samples: Samples = np.frombuffer(self._region.fetch(0, top, width, rows), dtype)
        return samples.reshape(rows, width, self._channels)


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
    check_place(path, overwrite=overwrite)


def write(picture: Picture, path: Path, *, overwrite: bool = False) -> None:
    """Write a picture in the format that the suffix of `path` names, complete or not at all.

    PNG and TIFF are lossless and keep 16 bits; JPEG, WebP and AVIF are written with losses that the eye does not see,
    and from 16 bits with a note in the log. A grey picture is stored as one channel where the format and the profile
    allow. The file is prepared under a hidden name beside `path` and takes its name last, so that no reader ever sees
    half of it; without `overwrite`, a file that appears meanwhile stays as it is.

    Raises OutputError as `check_output` does, and when the disk is full or refuses.
    """

    def wrap(_worker: Worker) -> pyvips.Image:
        image = _wrap(picture.rgb)
        if picture.alpha is not None:
            image = image.bandjoin(_wrap(picture.alpha))
        return image

    # Through `create_picture`, PNG would take up to a tenth longer and JPEG 10 to 30 %.
    with _saving(wrap, picture.header, Path(path), overwrite=overwrite) as worker:
        worker.start()


@contextmanager
def create_picture(
    path: Path, header: Header, *, overwrite: bool = False
) -> Iterator["PictureWriter"]:
    """Write a picture strip by strip, from top to bottom; the file is the same as that of `write`.

    It takes its name when the block is left with all rows given; left by an exception, it leaves nothing behind. It is
    encoded on a thread of its own meanwhile. Memory: some rows, and 64 MiB of them that wait; the encoders of WebP and
    AVIF hold the whole picture.

    Raises OutputError as `write` does, at the beginning, from `append` or in the end, and UsageError when rows are
    missing in the end.
    """
    source = pyvips.SourceCustom()

    # libvips cannot be given rows, but it reads from whatever behaves like a file.
    def load(worker: Worker) -> pyvips.Image:
        stream = TiffStream(
            worker.take,
            height=header.height,
            width=header.width,
            channels=header.channels,
            itemsize=header.dtype.itemsize,
        )
        source.signal_connect("read", stream.read)
        source.signal_connect("seek", stream.seek)
        options = {"access": "sequential", "fail_on": "error"}
        return pyvips.Operation.call("tiffload_source", source, **options)

    with _saving(load, header, Path(path), overwrite=overwrite) as worker:
        writer = PictureWriter(header, worker)
        yield writer
        if writer.rows_left:
            raise UsageError(
                f"Expected {header.height} rows for {path} but {writer.rows_left} of them are missing; append them all."
            )


class PictureWriter:
    """A picture that is written from top to bottom; made by `create_picture`."""

    def __init__(self, header: Header, worker: Worker) -> None:
        self.rows_left = header.height
        self._header, self._worker = header, worker

    def append(self, strip: Picture) -> None:
        """Hand over the next rows, which are copied; wait while more than enough of them are still to be encoded.

        Raises UsageError when the strip does not fit the header, whose `is_grey` and `profile` hold for all strips, or
        is higher than the rows that are left; OutputError when the disk is full or refuses.
        """
        header = self._header
        expected = replace(
            header, height=strip.height, is_grey=strip.is_grey, profile=strip.profile
        )
        if strip.header != expected or strip.height > self.rows_left:
            raise UsageError(
                f"Expected a strip of at most {self.rows_left} rows of {header.width} pixels, {header.depth} bits, "
                f"{'with' if header.has_alpha else 'without'} alpha, but got {strip.height} of {strip.width}, "
                f"{strip.depth} bits, {'without' if strip.alpha is None else 'with'} alpha."
            )
        try:
            self._worker.start()
            step = max(1, CHUNK_BYTES // header.row_bytes)
            for top in range(0, strip.height, step):
                self._worker.hand_over(_interleave(strip, slice(top, top + step)))
        except BaseException:  # part of the strip is missing
            self._worker.break_off()
            raise
        self.rows_left -= strip.height


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


def _open(path: Path) -> PictureReader:
    file_format = _sniff(path)
    with _decoding(path, file_format):
        source = pyvips.Source.new_from_file(os.fsencode(path))
        image = pyvips.Operation.call(
            f"{file_format.codec}load_source", source, access="sequential", fail_on="error"
        )
        _warn_of_pages(image, path)
        image, header = _describe(_upright(image), path)
        return PictureReader(image, header, path, file_format)


@contextmanager
def _decoding(path: Path, file_format: Format) -> Iterator[None]:
    """Translate what goes wrong while a file is decoded."""
    try:
        yield
    except pyvips.Error as exc:
        raise InputError(
            f"{path} cannot be decoded as {file_format.name} ({_phrase(exc)}); it may be truncated or damaged, so get "
            f"or save it again."
        ) from exc
    except MemoryError as exc:
        raise InputError(f"{path} does not fit into memory; cut it into parts first.") from exc


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
    if _metadata(image, "orientation") in (None, 1):
        return image
    sample_bytes = 2 if image.format == "ushort" else 1
    if image.width * image.height * image.bands * sample_bytes <= TURNED_BYTES:
        return image.copy_memory().autorot()
    stored = pyvips.Image.new_temp_file("%s.v")
    image.write(stored)
    return stored.autorot()


def _describe(image: pyvips.Image, path: Path) -> tuple[pyvips.Image, Header]:
    """Convert an upright image to grey or RGB, with or without alpha, of 8 or 16 bits."""
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
    header = Header(image.height, image.width, bits, image.bands > colours, is_grey, profile)
    return _to_full_range(image, bits), header


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


def _metadata(image: pyvips.Image, name: str) -> Any:  # noqa: ANN401 - whatever type it has
    return image.get(name) if image.get_typeof(name) else None


def _format_to_write(path: Path) -> Format:
    try:
        return FORMAT_BY_SUFFIX[path.suffix.lower()]
    except KeyError as exc:
        raise OutputError(
            f"{path} does not end in the suffix of a format that can be written; use {', '.join(FORMAT_BY_SUFFIX)}."
        ) from exc


@contextmanager
def _saving(
    make_image: Callable[[Worker], pyvips.Image], header: Header, path: Path, *, overwrite: bool
) -> Iterator[Worker]:
    """Yield the worker that makes a file of the image; once the block is left, it is complete or not there."""
    check_output(
        path,
        height=header.height,
        width=header.width,
        has_alpha=header.has_alpha,
        overwrite=overwrite,
    )
    file_format = _format_to_write(path)
    if header.depth == 16 and not file_format.holds_16_bit:
        logger.warning(
            "%s: %s holds 8 bits, so the 16 of the picture are rounded", path, file_format.name
        )

    def save(worker: Worker) -> None:
        try:
            with temporary_beside(path) as temporary:
                image = make_image(worker)  # has to live on for its callback
                image.set_progress(True)
                image.signal_connect(
                    "eval", lambda of, _: worker.is_broken_off and of.set_kill(True)
                )
                _encode(_to_stored(image, header, file_format), temporary, file_format, header)
                while worker.take() is not None:  # until the caller leaves the block
                    continue
                if not worker.is_broken_off:
                    publish(temporary, path, overwrite=overwrite)
        except FileExistsError as exc:
            raise OutputError(
                f"{path} has appeared meanwhile; choose another name or allow it with --overwrite."
            ) from exc
        except (pyvips.Error, OSError) as exc:
            raise OutputError(
                f"{path} cannot be written ({_phrase(exc)}); make room or choose another place."
            ) from exc

    worker = Worker(save)
    try:
        yield worker
        worker.finish()
    finally:
        worker.break_off()


def _encode(image: pyvips.Image, path: Path, file_format: Format, header: Header) -> None:
    """Write an image over `path`, down to the disk."""
    options = dict(file_format.save_options)
    if file_format is TIFF:
        options["bigtiff"] = header.height * header.row_bytes > CLASSIC_TIFF_BYTES
    target = pyvips.Target.new_to_file(os.fsencode(path))
    pyvips.Operation.call(f"{file_format.codec}save_target", image, target, **options)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _to_stored(image: pyvips.Image, header: Header, file_format: Format) -> pyvips.Image:
    """Return the libvips image, computed strip by strip on demand, that a format is to store."""
    profile_space = (header.profile or b"")[16:20]  # ICC.1:2022, table 17: "data colour space"
    is_grey = header.is_grey and profile_space != b"RGB "  # an RGB profile needs all three
    if is_grey:
        grey = image[:3].bandmean()  # rounds
        image = grey.bandjoin(image[3]) if header.has_alpha else grey
    image = image.copy(
        interpretation=_interpretation(is_grey, header.depth),
        xres=PIXELS_PER_MM,
        yres=PIXELS_PER_MM,
    )
    if header.profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", header.profile)
    if profile_space == b"GRAY" and is_grey and not file_format.holds_one_channel:
        image, is_grey = image.icc_transform("srgb", embedded=True, depth=header.depth), False
    if header.depth == 16 and not file_format.holds_16_bit:
        image = (image / 257).rint().cast("uchar").copy(interpretation=_interpretation(is_grey, 8))
    return image


def _interleave(picture: Picture, rows: slice) -> memoryview:
    """Copy some rows of a picture to the little-endian bytes of (rows, W, 3 or 4)."""
    rgb = picture.rgb[rows]
    samples = np.empty((*rgb.shape[:2], picture.header.channels), rgb.dtype.newbyteorder("<"))
    samples[..., :3] = rgb
    if picture.alpha is not None:
        samples[..., 3] = picture.alpha[rows]
    return samples.view(np.uint8).reshape(-1).data


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
