"""Transparency: colours under what cannot be seen, which kind of alpha a picture has, and enlarging it.

A network and bicubic interpolation look at colours whether they can be seen or not, and what files hold under fully
transparent pixels (mostly black or white) would come out as a fringe. So these pixels take colours from around first.
Works on arrays; knows nothing of files, tiles or networks.
"""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from classsr.resize import resize

Planes = NDArray[np.float32]
"""(4, H, W): red, green and blue, each times alpha, and alpha; or sums of these over cells."""

HALVINGS = 4
CELL = 2**HALVINGS  # pixels a side of the coarsest cells; rows are cut at their borders
SPREADS = 3  # from cell to cell, so that colours reach 18 pixels at least: networks look 16 far, enlarged alpha 2
MARGIN = (1 + SPREADS) * CELL  # rows above and below that have a say
SPARE = 2  # cells around a window that interpolation needs, one of them to be cut off
WINDOW = (
    256  # pixels a side that are filled at once: twice as fast as 128, which have as wide a margin
)

# Alpha that a colour from coarser cells counts for beside one from finer cells: nothing, unless it stands alone.
FAINT = np.float32(2**-40)

Kind = Literal["constant", "hard", "soft"]
"""Of alpha: one value everywhere; else fully transparent or opaque everywhere; else anything."""


def find_kind(strips: Iterable[NDArray[Any]]) -> Kind:
    """Say which kind of alpha a picture has, given strip by strip; asks for no more strips than it needs."""
    first: Any = None
    is_constant = is_hard = True
    for alpha in strips:
        first = alpha.flat[0] if first is None else first
        is_constant = is_constant and bool((alpha == first).all())
        is_hard = is_hard and bool(((alpha == 0) | (alpha == np.iinfo(alpha.dtype).max)).all())
        if not (is_constant or is_hard):
            return "soft"
    return "constant" if is_constant else "hard"


def enlarge(alpha: NDArray[Any], scale: int, *, margin: int, kind: Kind) -> NDArray[Any]:
    """Enlarge rows of alpha by bicubic interpolation; what is constant or hard stays so.

    Args:
        alpha: (H + 2 margin, W + 2 margin), uint8 or uint16.
        scale: size of the result over size of the input.
        margin: pixels that are cut off afterwards on every side.
        kind: that of the whole picture.

    Returns:
        (scale * H, scale * W); hard alpha is opaque from half of the range on.

    """
    height, width = (scale * (side - 2 * margin) for side in alpha.shape)
    if kind == "constant":
        return np.full((height, width), alpha[0, 0])
    border = scale * margin
    found = resize(alpha, scale)[border : border + height, border : border + width]
    if kind == "soft":
        return found
    limit = np.iinfo(alpha.dtype).max
    return np.where(found > limit // 2, limit, 0).astype(alpha.dtype)


def fill(rgb: NDArray[Any], alpha: NDArray[Any], *, above: int = 0, below: int = 0) -> NDArray[Any]:
    """Give fully transparent pixels colours from the visible ones around; the others keep theirs.

    A transparent pixel takes the average, weighted with alpha and distance, over the finest cells near it (of 2, 4, 8
    or 16 pixels a side) in which something can be seen, whatever colour it had. Far from everything visible, colours
    fade to medium grey. Rows cut anywhere come out as those of the whole picture, if they have the margin.

    Args:
        rgb: rows of a picture (H, W, 3), uint8 or uint16, the first one a multiple of `CELL` below its top.
        alpha: (H, W).
        above: rows in front of those that are wanted: `MARGIN`, or less where the picture begins.
        below: rows behind them: `MARGIN` from the next multiple of `CELL` on, or less where it ends.

    Returns:
        (H - above - below, W, 3), not copied where nothing is transparent.

    """
    rows = slice(above, len(rgb) - below)
    if alpha[rows].all():
        return rgb[rows]
    filled = rgb[rows].copy()
    grey = np.iinfo(rgb.dtype).max // 2 + 1
    for top in range(0, filled.shape[0], WINDOW):
        for left in range(0, filled.shape[1], WINDOW):
            part = filled[top : top + WINDOW, left : left + WINDOW]
            height, width = part.shape[:2]
            is_hidden = alpha[above + top :, left:][:height, :width] == 0
            if not is_hidden.any():
                continue
            planes = _weighted(rgb, alpha, above + top - MARGIN, left - MARGIN)
            if planes is None:
                part[:] = grey
            else:
                colours = _spread(planes, grey).astype(rgb.dtype)
                _put(colours[:, :height, :width], part, is_hidden)
    return filled


def _weighted(rgb: NDArray[Any], alpha: NDArray[Any], top: int, left: int) -> Planes | None:
    """Return the planes of a window and its margin, from this corner on; None where nothing can be seen.

    Beyond the border nothing can be seen.
    """
    side = WINDOW + 2 * MARGIN
    rows, columns = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    seen = alpha[rows, columns]
    if not seen.any():
        return None
    planes = np.zeros((4, side, side), np.float32)
    height, width = seen.shape
    inner = planes[:, rows.start - top :, columns.start - left :][:, :height, :width]
    inner[3] = seen
    np.multiply(rgb[rows, columns].transpose(2, 0, 1), inner[3], out=inner[:3])
    return planes


def _spread(planes: Planes, grey: int) -> NDArray[np.float32]:
    """Return the colours for what is transparent in a window, (3, `WINDOW`, `WINDOW`), to be cut to integers."""
    levels = [planes]
    for _ in range(HALVINGS):
        levels.append(_halved(levels[-1]))
    sums = levels[-1]
    for _ in range(SPREADS):
        sums = np.where(sums[3] == 0, _of_neighbours(sums), sums)
    colours = np.where(sums[3] == 0, np.float32(grey), sums[:3] / np.maximum(sums[3], 1))
    colours = _core(colours, HALVINGS)
    for halvings in range(HALVINGS, 0, -1):
        sums = _core(levels[halvings], halvings)
        sums[:3] += FAINT * colours
        sums[3] += FAINT
        sums = _doubled(sums)
        colours = sums[:3] / sums[3]
    rounded: NDArray[np.float32] = colours[:, SPARE:-SPARE, SPARE:-SPARE] + np.float32(0.5)
    return rounded


def _put(colours: NDArray[Any], rgb: NDArray[Any], where: NDArray[np.bool_]) -> None:
    """Put (3, H, W) into (H, W, 3) in some places; by bits, which is four times as fast as `np.copyto`."""
    taken = np.negative(where.astype(rgb.dtype))  # all bits or none
    kept = ~taken
    for channel in range(3):
        rgb[..., channel] = (rgb[..., channel] & kept) | (colours[channel] & taken)


def _core(planes: Planes, halvings: int) -> Planes:
    """Cut the margin off but for what bilinear interpolation looks at."""
    cut = (MARGIN >> halvings) - SPARE
    return planes[:, cut:-cut, cut:-cut]


def _halved(planes: Planes) -> Planes:
    """Sum up 2 x 2 neighbours."""
    rows = planes[:, 0::2] + planes[:, 1::2]
    halved: Planes = rows[:, :, 0::2] + rows[:, :, 1::2]
    return halved


def _of_neighbours(planes: Planes) -> Planes:
    """Sum up the 3 x 3 around every cell."""
    _, height, width = planes.shape
    padded = np.zeros((4, height + 2, width + 2), np.float32)
    padded[:, 1:-1, 1:-1] = planes
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total: Planes = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    return total


def _doubled(planes: Planes) -> Planes:
    """Interpolate bilinearly to twice the size, times 16, and without the outermost cells."""
    _, height, width = planes.shape
    rows = np.empty((4, 2 * height - 4, width), np.float32)
    inner = 3 * planes[:, 1:-1]
    np.add(inner, planes[:, :-2], out=rows[:, 0::2])
    np.add(inner, planes[:, 2:], out=rows[:, 1::2])
    doubled = np.empty((4, 2 * height - 4, 2 * width - 4), np.float32)
    inner = 3 * rows[:, :, 1:-1]
    np.add(inner, rows[:, :, :-2], out=doubled[:, :, 0::2])
    np.add(inner, rows[:, :, 2:], out=doubled[:, :, 1::2])
    return doubled
