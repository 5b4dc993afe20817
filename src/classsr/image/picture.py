"""A picture in memory: samples, what they mean, and the same without the samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError
from classsr.image.metadata import NO_METADATA, Metadata

Samples = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Header:
    """A picture without its pixels: what is known before the first row is read or written.

    The fields mean what they mean in a `Picture`; `depth` is in bits per sample. What is told in `metadata` does not
    count when headers are compared.

    Raises UsageError when there are no pixels or the depth is neither 8 nor 16.
    """

    height: int
    width: int
    depth: int = 8
    has_alpha: bool = False
    is_grey: bool = False
    profile: bytes | None = None
    metadata: Metadata = field(default=NO_METADATA, compare=False)

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
    one they are sRGB. `metadata` is stored too, with the sizes in its EXIF set right; of a strip it counts nowhere.

    Raises UsageError when shapes or types are others than these.
    """

    rgb: Samples
    alpha: Samples | None = None
    is_grey: bool = False
    profile: bytes | None = None
    metadata: Metadata = NO_METADATA

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
            metadata=self.metadata,
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
