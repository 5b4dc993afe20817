"""The pictures that are measured on: HR as shipped, LR by MATLAB-style bicubic. Knows no model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classsr.evaluation import read_hr
from classsr.image import find_pictures
from classsr.resize import resize

RGB8 = NDArray[np.uint8]

DATA = Path("../shared/data")

SETS: dict[str, tuple[str, int | None]] = {
    "Kodak24": ("benchmark/Kodak24/HR", None),
    "large/2k": ("large/2k", None),
    "large/4k": ("large/4k", 3840),
    "large/8k": ("large/8k", None),
}
"""Folder of HR pictures, and the long side that they are shrunk to first."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A picture to measure on: (H, W, 3) uint8 RGB, HR `scale` times as large as LR."""

    name: str
    lr: RGB8
    hr: RGB8

    @property
    def pixels(self) -> int:
        """LR pixels."""
        return int(self.lr.shape[0] * self.lr.shape[1])

    def centre(self, height: int, width: int) -> "Subject":
        """Return the middle of the picture, at most so many LR pixels."""
        scale = len(self.hr) // len(self.lr)
        rows, columns = self.lr.shape[:2]
        top, left = max(rows - height, 0) // 2, max(columns - width, 0) // 2
        lr = self.lr[top : top + height, left : left + width]
        bottom, right = top + lr.shape[0], left + lr.shape[1]
        hr = self.hr[scale * top : scale * bottom, scale * left : scale * right]
        return Subject(self.name, np.ascontiguousarray(lr), np.ascontiguousarray(hr))


def subjects(data: Path, name: str, *, pictures: int, scale: int) -> Iterator[Subject]:
    """Read the first pictures by name of a set.

    Args:
        data: the folder of all pictures.
        name: a key of `SETS`.
        pictures: how many; 0 means all.
        scale: size of HR over size of LR.

    """
    folder, longest = SETS[name]
    for path in find_pictures(data / folder)[: pictures or None]:
        hr = read_hr(path, scale=scale, longest=longest)
        yield Subject(path.stem, resize(hr, 1 / scale), hr)
