"""Where the training patches lie in the pairs, and how a batch of them is read.

A batch is a pure function of (seed, iteration): training can stop anywhere and go on with the same patches.
"""

from collections.abc import Callable
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
    return read_lr(pairs, patches), _read(pairs.hr, patches, pairs.scale)


def read_lr(pairs: Pairs, patches: Patches) -> RGB8:
    """Read LR alone: (N, size, size, 3)."""
    return _read(pairs.lr, patches, 1)


def _read(picture: Callable[[int], RGB8], patches: Patches, scale: int) -> RGB8:
    """Cut the patches out of pictures that are `scale` times as large as LR."""
    side = scale * patches.size
    out = np.empty((len(patches), side, side, 3), np.uint8)
    places = zip(patches.picture, scale * patches.y, scale * patches.x, strict=True)
    for n, (index, y, x) in enumerate(places):
        out[n] = picture(index)[y : y + side, x : x + side]
    return out


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
    chosen, symmetries = draw(len(patches), count=count, seed=seed, iteration=iteration, part=part)
    lr, hr = read_patches(pairs, patches.select(chosen))
    return augment(lr, symmetries), augment(hr, symmetries)


def draw(
    among: int, *, count: int, seed: int, iteration: int, part: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a batch: which of `among` patches, with replacement, and a symmetry for each; the rows `part` of it."""
    rng = np.random.default_rng((seed, iteration))
    return rng.integers(0, among, count)[part], rng.integers(0, 8, count)[part]
