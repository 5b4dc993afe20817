"""What the values of a picture mean: conversions to RGB or grey, and to sRGB on request."""

import logging
from pathlib import Path
from typing import Literal, get_args

import pyvips

from classsr.errors import UsageError
from classsr.image.vips import value_of

logger = logging.getLogger(__name__)

Color = Literal["keep", "srgb"]

AS_STORED = ("b-w", "grey16", "srgb", "rgb16", "multiband", "scrgb")
SPACE = slice(16, 20)  # ICC.1:2022, table 17: "data colour space"


def check_color(color: str) -> None:
    """Raise UsageError where there is no such choice."""
    if color not in get_args(Color):
        raise UsageError(f"Expected color to be {' or '.join(get_args(Color))} but got {color!r}.")


def is_converted(image: pyvips.Image, color: Color) -> bool:
    """Return whether `to_rgb_or_grey` makes the values of an image sRGB."""
    return color == "srgb" or image.interpretation not in AS_STORED


def to_rgb_or_grey(
    image: pyvips.Image, path: Path, color: Color
) -> tuple[pyvips.Image, bytes | None]:
    """Convert CMYK, Lab and their like to sRGB, and with `srgb` what has a profile of its own, too.

    Returns:
        The image, computed strip by strip on demand, and the profile that holds for it. Grey that has been converted
        has none, which means the curve of sRGB.

    """
    if image.interpretation not in AS_STORED:
        image = _from_other_space(image)
    elif color == "keep":
        return image, value_of(image, "icc-profile-data")
    elif image.format in ("uchar", "ushort"):  # others are no pictures of ours
        image = _from_profile(image, path)
    is_rgb = color == "srgb" and image.interpretation not in ("b-w", "grey16")
    return image, pyvips.Operation.call("profile_load", "srgb") if is_rgb else None


def _from_other_space(image: pyvips.Image) -> pyvips.Image:
    depth = 16 if image.format in ("ushort", "short") else 8
    if image.interpretation == "cmyk":
        return _transformed(image, depth=depth)
    lab = image.colourspace("lab")  # of the white that ICC means, unlike libvips itself
    return lab.icc_export(output_profile="srgb", intent="relative", depth=depth)


def _from_profile(image: pyvips.Image, path: Path) -> pyvips.Image:
    """Convert an RGB or grey image through its profile, if it has one that applies; grey stays grey."""
    is_grey = image.interpretation in ("b-w", "grey16")
    colours = 1 if is_grey else 3
    values, space = image[:colours], (value_of(image, "icc-profile-data") or b"")[SPACE]
    if is_grey and space == b"RGB ":
        values = values.bandjoin([values, values])
    elif space != (b"GRAY" if is_grey else b"RGB "):
        if value_of(image, "icc-profile-data") is not None:
            logger.warning("%s: its colour profile does not apply, so it is taken for sRGB", path)
        return image
    try:
        values = _transformed(values, depth=8) if image.format == "uchar" else _deep(values)
    except pyvips.Error:
        logger.warning("%s: its colour profile is damaged, so it is taken for sRGB", path)
        return image
    if is_grey:
        values = values[1].copy(interpretation=image.interpretation)  # the three are equal
    return values.bandjoin(image[colours:]) if image.bands > colours else values


def _transformed(image: pyvips.Image, *, depth: int) -> pyvips.Image:
    return image.icc_transform(
        "srgb",
        embedded=True,  # libvips' own profile where the file has none or a wrong one
        intent="relative",
        black_point_compensation=True,
        depth=depth,
    )


def _deep(image: pyvips.Image) -> pyvips.Image:
    """Do the same for 16 bits in two steps, through floating point.

    In one step Little CMS looks the colours up in a coarse table, up to 13 levels of 8 bits away from what it makes of
    8 bits; this way it is 1.2, half a level of which is the rounding to 8.
    """
    options = {"intent": "relative", "black_point_compensation": True}
    floating = image.icc_import(embedded=True, **options)
    return floating.icc_export(output_profile="srgb", depth=16, **options)
