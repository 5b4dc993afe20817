"""What reading and writing share of libvips."""

import re
from typing import Any

import pyvips

# What says nothing to a person: steps on the way to the error, and libheif's numbers for it.
NOISE = re.compile(r"bad seek|Unknown error|write failed|^\(\d+\.\d+\)$")
PHRASE_CHARACTERS = 120


def value_of(image: pyvips.Image, name: str) -> Any:  # noqa: ANN401 - whatever type it has
    """Return what an image says under a name; None where it says nothing."""
    return image.get(name) if image.get_typeof(name) else None


def forget() -> None:
    """Make libvips drop the results it remembers, which hold files open and decoded pictures in memory."""
    most = pyvips.cache_get_max()
    pyvips.cache_set_max(0)
    pyvips.cache_set_max(most)


def interpretation(is_grey: bool, depth: int) -> str:
    """Return what libvips calls grey or RGB of 8 or 16 bits."""
    if is_grey:
        return "b-w" if depth == 8 else "grey16"
    return "srgb" if depth == 8 else "rgb16"


def phrase(error: pyvips.Error | OSError) -> str:
    """Reduce an error to a few words; of libvips' pile of messages, to the system's or else the last."""
    if isinstance(error, OSError):
        return str(error.strerror or error)
    lines: list[str] = [line.strip() for line in str(error.detail).splitlines()]
    lines = [line for line in lines if line and not NOISE.search(line)]
    if not lines:  # libpng's complaints do not come this far
        return "no reason is given"
    told = next((line for line in lines if line.startswith("system error: ")), lines[-1])
    return told.split(": ", maxsplit=1)[-1][:PHRASE_CHARACTERS].rstrip(".")
