"""What reading and writing share of libvips."""

from typing import Any

import pyvips


def metadata(image: pyvips.Image, name: str) -> Any:  # noqa: ANN401 - whatever type it has
    """Return what an image says under a name; None where it says nothing."""
    return image.get(name) if image.get_typeof(name) else None


def interpretation(is_grey: bool, depth: int) -> str:
    """Return what libvips calls grey or RGB of 8 or 16 bits."""
    if is_grey:
        return "b-w" if depth == 8 else "grey16"
    return "srgb" if depth == 8 else "rgb16"


def phrase(error: pyvips.Error | OSError) -> str:
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
