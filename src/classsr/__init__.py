"""Enlarge pictures four times, spending computation only where a picture is hard.

>>> import classsr
>>> result = classsr.upscale("photo.jpg")
>>> result.image.shape, result.report.shares

Importing this package loads neither a runtime nor torch; the names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classsr.errors import (
        BackendError,
        ClassSRError,
        InputError,
        ModelError,
        OutputError,
        TrainingError,
        UsageError,
    )
    from classsr.image import Picture
    from classsr.report import Report, Seconds
    from classsr.upscaler import Upscaled, Upscaler, upscale

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "ClassSRError",
    "InputError",
    "ModelError",
    "OutputError",
    "Picture",
    "Report",
    "Seconds",
    "TrainingError",
    "Upscaled",
    "Upscaler",
    "UsageError",
    "__version__",
    "upscale",
]

_HOME = {
    "Picture": "classsr.image",
    **dict.fromkeys(("Report", "Seconds"), "classsr.report"),
    **dict.fromkeys(("Upscaled", "Upscaler", "upscale"), "classsr.upscaler"),
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'classsr' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "classsr.errors")), name)


def __dir__() -> list[str]:
    return __all__
