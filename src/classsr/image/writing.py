"""From a picture to a file that is complete or not there at all: whole, or strip by strip from top to bottom."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from classsr.errors import OutputError, UsageError
from classsr.files import check_place, publish, temporary_beside
from classsr.image import png
from classsr.image.containers import embedding
from classsr.image.formats import FORMATS, PNG, TIFF, Format, format_to_write, names
from classsr.image.metadata import fitted
from classsr.image.picture import Header, Picture, Samples
from classsr.image.strips import CHUNK_BYTES, TiffStream, Worker
from classsr.image.vips import interpretation, phrase

logger = logging.getLogger(__name__)

CLASSIC_TIFF_BYTES = 4_000_000_000  # of samples: even noise then ends below the 2**32 of TIFF
PIXELS_PER_MM = 72 / 25.4  # some formats must name a density; 72 dpi is taken for "no claim"


def check_output(path: Path, *, height: int, width: int, has_alpha: bool, overwrite: bool) -> None:
    """Check that a picture of this size can be written to `path`, before anything is computed.

    Raises OutputError when the suffix names no format that is known, the format cannot hold the size or the alpha, the
    folder is missing or closed to writing, or the file exists and `overwrite` is False.
    """
    path = Path(path)
    file_format = format_to_write(path)
    side = max(height, width)
    able = names(
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


def likely_bytes(header: Header, path: Path) -> int:
    """Estimate the size of the file of an enlarged photograph; raise OutputError as `check_output` does.

    16 bits hardly shrink.
    """
    file_format = format_to_write(Path(path))
    if header.depth == 16 and file_format.holds_16_bit:
        return header.height * header.row_bytes
    return int(header.height * header.width * header.channels * file_format.likely_share)


def write(picture: Picture, path: Path, *, overwrite: bool = False) -> None:
    """Write a picture in the format that the suffix of `path` names, complete or not at all.

    PNG and TIFF are lossless and keep 16 bits; JPEG, WebP and AVIF are written with losses that the eye does not see,
    and from 16 bits with a note in the log. A grey picture is stored as one channel where the format and the profile
    allow. Of the metadata, what the format has no place for is named in the log. The file is prepared under a hidden
    name beside `path` and takes its name last, so that no reader ever sees half of it; without `overwrite`, a file that
    appears meanwhile stays as it is.

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
    path: Path,
    header: Header,
    *,
    rows_of: Header | None = None,
    is_alpha_hard: bool = False,
    overwrite: bool = False,
) -> Iterator["PictureWriter"]:
    """Write a picture strip by strip, from top to bottom; the file is the same as that of `write`.

    With `rows_of`, the rows are those of a picture of another size, which is resampled on the way: by Lanczos' windowed
    sinc over three lobes, widened where it shrinks, on the values as they are stored, without going over to linear
    light. That is how pictures are shrunk to train and to measure networks, so that what they restore is undone; and
    in linear light the dark side of an edge would ring visibly. Alpha that is hard, fully transparent or opaque
    everywhere, stays so.

    It takes its name when the block is left with all rows given; left by an exception, it leaves nothing behind. It is
    encoded on a thread of its own meanwhile. Memory: some rows, and 64 MiB of them that wait; the encoders of WebP and
    AVIF hold the whole picture.

    Raises OutputError as `write` does, at the beginning, from `append` or in the end, and UsageError when rows are
    missing in the end.
    """
    source, given = pyvips.SourceCustom(), rows_of or header

    # libvips cannot be given rows, but it reads from whatever behaves like a file.
    def load(worker: Worker) -> pyvips.Image:
        stream = TiffStream(
            worker.take,
            height=given.height,
            width=given.width,
            channels=given.channels,
            itemsize=given.dtype.itemsize,
        )
        source.signal_connect("read", stream.read)
        source.signal_connect("seek", stream.seek)
        options = {"access": "sequential", "fail_on": "error"}
        image = pyvips.Operation.call("tiffload_source", source, **options)
        return _resampled(image, header, is_alpha_hard=is_alpha_hard)

    with _saving(load, header, Path(path), overwrite=overwrite) as worker:
        writer = PictureWriter(given, worker)
        yield writer
        if writer.rows_left:
            raise UsageError(
                f"Expected {given.height} rows for {path} but {writer.rows_left} of them are missing; append them all."
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
    file_format = format_to_write(path)
    if header.depth == 16 and not file_format.holds_16_bit:
        logger.warning(
            "%s: %s holds 8 bits, so the 16 of the picture are rounded", path, file_format.name
        )
    height, width = header.height, header.width
    metadata = fitted(header.metadata, path, file_format, height=height, width=width)
    header = replace(header, metadata=metadata)

    def save(worker: Worker) -> None:
        try:
            with temporary_beside(path) as temporary:
                image = make_image(worker)  # has to live on for its callback
                image.set_progress(True)
                image.signal_connect(
                    "eval", lambda of, _: worker.is_broken_off and of.set_kill(True)
                )
                stored = _to_stored(image, header, file_format)
                if file_format is PNG:
                    png.save(stored, temporary, metadata, lambda: worker.is_broken_off)
                else:
                    _encode(stored, temporary, file_format, header)
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                while worker.take() is not None:  # until the caller leaves the block
                    continue
                if not worker.is_broken_off:
                    publish(temporary, path, overwrite=overwrite)
        except FileExistsError as exc:
            raise OutputError(
                f"{path} has appeared meanwhile; choose another name or allow it with --overwrite."
            ) from exc
        except (pyvips.Error, OSError) as exc:
            # Their locals hold the file open, whose room on the disk then is not free again.
            traceback.clear_frames(exc.__traceback__)
            raise OutputError(
                f"{path} cannot be written ({phrase(exc)}); make room or choose another place."
            ) from exc

    worker = Worker(save)
    try:
        yield worker
        worker.finish()
    finally:
        worker.break_off()


def _resampled(image: pyvips.Image, header: Header, *, is_alpha_hard: bool) -> pyvips.Image:
    """Resample an image to the size of a header; hard alpha is cut at half."""
    across, down = image.width / header.width, image.height / header.height
    if across == down == 1:
        return image
    if (
        header.depth == 16
    ):  # libvips would compute in whole numbers, and lose up to 160 of 65,535 on what is flat
        image = image.cast("float").reduce(across, down, kernel="lanczos3").rint().cast("ushort")
    else:
        image = image.reduce(across, down, kernel="lanczos3")
    if header.has_alpha and is_alpha_hard:
        limit = 2**header.depth - 1
        is_opaque = image[3] > limit // 2  # 0 or 255
        image = image[:3].bandjoin((is_opaque * (limit // 255)).cast(image.format))
    return image


def _encode(image: pyvips.Image, path: Path, file_format: Format, header: Header) -> None:
    """Write an image over `path` by libvips."""
    options = dict(file_format.save_options)
    if file_format is TIFF:
        options["bigtiff"] = header.height * header.row_bytes > CLASSIC_TIFF_BYTES
    with embedding(header.metadata, image, path, file_format) as (target, options["keep"]):
        pyvips.Operation.call(f"{file_format.codec}save_target", image, target, **options)


def _to_stored(image: pyvips.Image, header: Header, file_format: Format) -> pyvips.Image:
    """Return the libvips image, computed strip by strip on demand, that a format is to store."""
    profile_space = (header.profile or b"")[16:20]  # ICC.1:2022, table 17: "data colour space"
    is_grey = header.is_grey and profile_space != b"RGB "  # an RGB profile needs all three
    if is_grey:
        grey = image[:3].bandmean()  # rounds
        image = grey.bandjoin(image[3]) if header.has_alpha else grey
    image = image.copy(
        interpretation=interpretation(is_grey, header.depth),
        xres=PIXELS_PER_MM,
        yres=PIXELS_PER_MM,
    )
    if header.profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", header.profile)
    if profile_space == b"GRAY" and is_grey and not file_format.holds_one_channel:
        image, is_grey = image.icc_transform("srgb", embedded=True, depth=header.depth), False
    if header.depth == 16 and not file_format.holds_16_bit:
        image = (image / 257).rint().cast("uchar").copy(interpretation=interpretation(is_grey, 8))
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
