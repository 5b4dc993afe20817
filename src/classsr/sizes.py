"""How large a result is to be, from what a user asks for."""

import math
from dataclasses import dataclass

from classsr.errors import UsageError


@dataclass(frozen=True, slots=True)
class Size:
    """One of these, the proportions of the picture kept; none of them stands for the model's own scale.

    Args:
        scale: of both sides.
        width: of the result, in pixels.
        height: of the result, in pixels.
        box: width and height that the result fits into, as large as can be.

    Raises:
        UsageError: more than one is given, or a number is not above 0.

    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    box: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        given = [
            each for each in (self.scale, self.width, self.height, self.box) if each is not None
        ]
        if len(given) > 1:
            raise UsageError("Expected one of a scale, a width, a height and a box to fit into.")
        for each in given:
            if not all(
                0 < side < math.inf for side in (each if isinstance(each, tuple) else [each])
            ):
                raise UsageError(f"Expected a size above 0 but got {each}.")

    def of(self, width: int, height: int, *, most: int) -> tuple[int, int]:
        """Return width and height of the result for a picture of this width and height, in pixels.

        Args:
            width: of the picture.
            height: of the picture.
            most: scale of the model.

        Raises:
            UsageError: it would be more than `most` times as large as the picture, or smaller.

        """
        factor = float(most)
        if self.scale is not None:
            factor = self.scale
        elif self.width is not None:
            factor = self.width / width
        elif self.height is not None:
            factor = self.height / height
        elif self.box is not None:
            factor = min(self.box[0] / width, self.box[1] / height)
        if not 1 <= factor <= most:
            raise UsageError(
                f"Expected a result of 1 to {most} times the {width} x {height} pixels of the picture but it would be "
                f"{factor:.4g} times; ask for another size."
            )
        return self.width or _rounded(width * factor), self.height or _rounded(height * factor)

    def suffix(self, most: int) -> str:
        """Return what the name of a result says of its size: x4, x2.5, 3000w, 2000h or 3000x2000."""
        if self.width is not None:
            return f"{self.width}w"
        if self.height is not None:
            return f"{self.height}h"
        if self.box is not None:
            return "{}x{}".format(*self.box)
        return f"x{self.scale or most:g}"


OWN_SCALE = Size()
"""The model's scale."""


def box_of(text: str) -> tuple[int, int]:
    """Read a box, such as 3840x2160.

    Raises:
        UsageError: it is none.

    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise UsageError(f"Expected a box such as 3840x2160 but got {text!r}.")
    return int(sides[0]), int(sides[1])


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)
