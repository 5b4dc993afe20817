"""Where the training patches lie in the pairs, and how a batch of them is read.

A batch is a pure function of (seed, iteration): training can stop anywhere and go on with the same patches.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classsr.data.pairs import RGB8, Pairs

LR_PATCH = 32  # the paper's: HR 128 at x4
LR_STEP = 16

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Patches:
    """Places of patches: arrays of shape (N,). `y` and `x` are the upper left corner in LR pixels."""

    picture: Ints
    y: Ints
    x: Ints
    size: int = LR_PATCH

    def __len__(self) -> int:
        return len(self.picture)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "Patches":
        """Return the patches that a mask or an index array picks."""
        return Patches(self.picture[index], self.y[index], self.x[index], self.size)


def find_patches(
    pairs: Pairs, pictures: NDArray[np.int64], *, size: int = LR_PATCH, step: int = LR_STEP
) -> Patches:
    """Lay patches over the named pictures: every `step` LR pixels, only where a whole patch fits."""
    found: list[tuple[int, int, int]] = []
    for picture in pictures.tolist():
        entry = pairs.entries[picture]
        for y in range(0, entry.height - size + 1, step):
            found += [(picture, y, x) for x in range(0, entry.width - size + 1, step)]
    places = np.array(found, np.int32).reshape(-1, 3)
    return Patches(places[:, 0], places[:, 1], places[:, 2], size)


def read_patches(pairs: Pairs, patches: Patches) -> tuple[RGB8, RGB8]:
    """Read LR (N, size, size, 3) and HR (N, scale * size, scale * size, 3)."""
    size, s = patches.size, pairs.scale
    lr = np.empty((len(patches), size, size, 3), np.uint8)
    hr = np.empty((len(patches), s * size, s * size, 3), np.uint8)
    for n, (picture, y, x) in enumerate(zip(patches.picture, patches.y, patches.x, strict=True)):
        lr[n] = pairs.lr(picture)[y : y + size, x : x + size]
        hr[n] = pairs.hr(picture)[s * y : s * (y + size), s * x : s * (x + size)]
    return lr, hr


def augment(pictures: RGB8, symmetries: NDArray[np.int64]) -> RGB8:
    """Turn and mirror each square patch (N, H, H, 3) by one of the eight symmetries, 0 to 7: (N,)."""
    out = np.empty_like(pictures)
    for n, symmetry in enumerate(symmetries.tolist()):
        patch = np.rot90(pictures[n], symmetry % 4)
        out[n] = patch[:, ::-1] if symmetry >= 4 else patch
    return out


def batch(
    pairs: Pairs,
    patches: Patches,
    *,
    count: int,
    seed: int,
    iteration: int,
    part: slice = slice(None),
) -> tuple[RGB8, RGB8]:
    """Draw `count` patches with replacement, augmented: the batch of this iteration, or the rows `part` of it."""
    rng = np.random.default_rng((seed, iteration))
    chosen = rng.integers(0, len(patches), count)[part]
    symmetries = rng.integers(0, 8, count)[part]
    lr, hr = read_patches(pairs, patches.select(chosen))
    return augment(lr, symmetries), augment(hr, symmetries)
