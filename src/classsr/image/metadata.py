"""What is told about a picture beside its pixels: what of it stays true and is kept, and what fits into a file."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, get_args

from classsr.errors import UsageError
from classsr.image import exif, iptc, xmp
from classsr.image.formats import Format

logger = logging.getLogger(__name__)

Policy = Literal["all", "safe", "none"]
Content = TypeVar("Content")
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is told about a picture, each part as its standard stores it.

    `exif` is a TIFF structure, which begins with its byte order; `xmp` is a packet, and `iptc` the data sets of
    IPTC-IIM, all without the wrapping that file formats put around them.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


NO_METADATA = Metadata()


def check_policy(policy: str) -> None:
    """Raise UsageError where there is no such policy."""
    if policy not in get_args(Policy):
        raise UsageError(
            f"Expected metadata to be {', '.join(get_args(Policy))} but got {policy!r}."
        )


def attempt(
    path: Path, part: str, take: Callable[[Content], Part], content: Content | None
) -> Part | None:
    """Return what is taken from a part; None, with a warning in the log, where it is damaged."""
    if content is None:
        return None
    try:
        return take(content)
    except ValueError as exc:
        logger.warning("%s: its %s is damaged and left out (%s)", path, part, exc)
        return None


def warn_of_damage(found: exif.Exif, path: Path) -> None:
    """Say in the log that entries are missing, if they are."""
    if found.damaged:
        logger.warning("%s: %d entries of its EXIF are damaged and left out", path, found.damaged)


def cleaned(
    found: Metadata, path: Path, *, policy: Policy, is_turned: bool, is_srgb: bool
) -> Metadata:
    """Return what stays true of a picture once it is upright and enlarged; what is damaged is left out with a warning.

    Args:
        found: what the file says.
        path: the file, for warnings.
        policy: `safe` leaves out where and with which copy of a camera the picture was taken; `none` leaves out all.
        is_turned: whether the pixels have been turned by the orientation.
        is_srgb: whether the values have been converted to sRGB.

    """
    if policy == "none":
        return NO_METADATA

    def clean_exif(blob: bytes) -> bytes | None:
        kept = exif.from_blob(blob)
        warn_of_damage(kept, path)
        kept = exif.safe(kept) if policy == "safe" else kept
        kept = exif.as_srgb(kept) if is_srgb else kept
        return None if kept.is_empty else exif.to_blob(kept)

    clean_xmp = partial(xmp.cleaned, is_safe=policy == "safe", is_turned=is_turned, is_srgb=is_srgb)
    # Places stand everywhere in the old record; the harmless part of it is in XMP as well.
    record = None if policy == "safe" else found.iptc
    return Metadata(
        attempt(path, "EXIF", clean_exif, found.exif),
        attempt(path, "XMP", clean_xmp, found.xmp),
        attempt(path, "IPTC record", iptc.cleaned, record),
    )


def fitted(
    metadata: Metadata, path: Path, file_format: Format, *, height: int, width: int
) -> Metadata:
    """Return what a file can hold of what is told about a picture of this size; the rest is named in the log."""

    def room_for(part: str, name: str, content: bytes | None) -> bytes | None:
        room = file_format.room.get(part, 0)
        if content is None or len(content) <= room:
            return content
        logger.warning(
            "%s: the %s of the picture, %d bytes, is left out, because %s %s",
            path,
            name,
            len(content),
            file_format.name,
            f"holds at most {room}" if room else "has no place for it",
        )
        return None

    def resize(blob: bytes) -> bytes:
        return exif.to_blob(exif.resized(exif.from_blob(blob), height=height, width=width))

    return Metadata(
        room_for("exif", "EXIF", attempt(path, "EXIF", resize, metadata.exif)),
        room_for("xmp", "XMP", metadata.xmp),
        room_for("iptc", "IPTC record", metadata.iptc),
    )
