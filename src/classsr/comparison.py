"""Where methods differ most on one picture: crops side by side, the routing map, heat maps of differences.

Knows pixels only: neither networks nor files, nor how its findings are shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classsr.errors import UsageError
from classsr.metrics import psnr, row_bands
from classsr.routing_map import blend_levels
from classsr.tiles import Box, TileGrid

RGB8 = NDArray[np.uint8]

PLACES = 3
SIDE = 48  # LR pixels of a place: a tile and half of its neighbours
STEP = 16  # LR pixels between the windows looked at: half a tile
LONG_SIDE = 1024  # pixels of a map, at most; for looking at, not for measuring
BAND_ROWS = 64  # LR rows compared at a time, so that only results grow with the picture

# Five colours of matplotlib's inferno (CC0), dark for equal; brightness grows all the way and tells it without hue.
HEAT_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
# The same for all pictures, so that maps can be compared: the most that is told apart, in 8-bit steps.
ERROR_LIMIT = 32.0  # to HR
DIFFERENCE_LIMIT = 8.0  # between two results


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """What one method makes of a place, (h, w, 3); `psnr` against HR in dB, infinite where equal, None for HR."""

    label: str
    pixels: RGB8
    psnr: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A place worth looking at: `box` in LR pixels, the levels of its tiles, and crops of LR, each method and HR."""

    box: Box
    reason: str
    levels: tuple[int, ...]
    crops: tuple[Crop, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """The absolute difference of two pictures, mean of R, G and B, in `HEAT_COLOURS` from 0 to `limit` and above.

    `image` is (h, w, 3), at most `LONG_SIDE` pixels a side. `mean` and `limit` count in 8-bit steps, 0 to 255.
    """

    title: str
    image: RGB8
    mean: float
    limit: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What is to be seen of one picture of `height` x `width` LR pixels.

    `levels` of the tiles, (rows, columns), as the routing map, (h, w, 3) without a legend, shows them.
    """

    height: int
    width: int
    scale: int
    levels: NDArray[np.int64]
    routing_map: RGB8
    heat_maps: tuple[HeatMap, ...]
    places: tuple[Place, ...]


def compare(
    lr: RGB8,
    hr: RGB8,
    methods: Mapping[str, RGB8],
    *,
    routed: str,
    hardest: str,
    levels: NDArray[np.int64],
    grid: TileGrid,
    places: int = PLACES,
    side: int = SIDE,
) -> Comparison:
    """Find the places of a picture where methods differ most, and draw them, its routing and its differences.

    Windows of `side` LR pixels are ranked by the largest difference between two methods' squared errors against HR,
    and the first are taken that lie half a side apart, so that they show different things; then the one where the
    routed result errs most beyond the hardest level, if it does. Squared errors, not dB: a picture's PSNR is made of
    these, while dB differ most where it is flat and nobody sees anything. Where methods do not differ, there are
    fewer places.

    Args:
        lr: (H, W, 3).
        hr: (scale * H, scale * W, 3).
        methods: results by label, each of HR's shape, in the order in which they are to be shown.
        routed: label of the result that `levels` belong to.
        hardest: label of the hardest level everywhere.
        levels: of the tiles, (rows, columns).
        grid: where the tiles lie.
        places: how many are chosen by the difference among all methods.
        side: of a place in LR pixels; a smaller picture is one place.

    Raises:
        UsageError: shapes or types do not match, or a label is missing.

    """
    scale = _check(lr, hr, methods, (routed, hardest))
    windows = TileGrid(lr.shape[0], lr.shape[1], tile=side, step=min(STEP, side))
    errors = {
        label: window_sums(squared_errors(sr, hr, scale), windows) for label, sr in methods.items()
    }
    together = np.stack(list(errors.values()))
    spread = together.max(axis=0) - together.min(axis=0)
    differ = find_places(spread, windows, count=places)
    lost = find_places(errors[routed] - errors[hardest], windows, count=1, taken=differ)

    found = []
    for box in (*differ, *lost):
        crops = _crops(box, lr, hr, methods)
        reason = _loss(crops, routed, hardest) if box in lost else _spread(crops[1:-1])
        found.append(Place(box, reason, _levels_in(box, levels, grid), crops))
    return Comparison(
        height=lr.shape[0],
        width=lr.shape[1],
        scale=scale,
        levels=levels,
        routing_map=blend_levels(_shrunk(methods[routed]), levels, grid),
        heat_maps=(
            draw_heat_map(methods[routed], hr, title=f"{routed} against HR", limit=ERROR_LIMIT),
            draw_heat_map(
                methods[routed],
                methods[hardest],
                title=f"{routed} against {hardest}",
                limit=DIFFERENCE_LIMIT,
            ),
        ),
        places=tuple(found),
    )


def squared_errors(sr: RGB8, hr: RGB8, scale: int) -> NDArray[np.int64]:
    """Sum the squared error over the channels and the `scale` x `scale` pixels of every LR pixel: (H, W)."""
    bands = []
    for rows in row_bands(len(hr), BAND_ROWS * scale):
        squared = np.square(sr[rows].astype(np.int32) - hr[rows])
        cells = squared.reshape(len(squared) // scale, scale, -1, scale, 3)
        bands.append(cells.sum(axis=(1, 3, 4), dtype=np.int64))
    return np.concatenate(bands)


def window_sums(values: NDArray[np.int64], windows: TileGrid) -> NDArray[np.int64]:
    """Sum values (H, W) over every window of a grid: (rows, columns)."""
    height, width = windows.window()
    top, left = windows.tops[:, None], windows.lefts
    total = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    below = total[top + height, left + width] - total[top + height, left]
    sums: NDArray[np.int64] = below - total[top, left + width] + total[top, left]
    return sums


def find_places(
    gaps: NDArray[np.int64], windows: TileGrid, *, count: int, taken: Sequence[Box] = ()
) -> list[Box]:
    """Choose the windows of the largest gaps above 0, largest first, half a window apart from each other and `taken`.

    Args:
        gaps: of every window, (rows, columns); of equal ones the upper left comes first.
        windows: where they lie.
        count: at most so many.
        taken: places chosen before.

    """
    apart = windows.tile // 2
    height, width = windows.window()
    found: list[Box] = []
    for index in np.argsort(-gaps, axis=None, kind="stable").tolist():
        if len(found) == count or gaps.flat[index] <= 0:
            break
        top, left = windows.origin(windows.tiles[index])
        around = Box(top - apart, left - apart, top + height + apart, left + width + apart)
        if not any(_overlap(around, other) for other in (*taken, *found)):
            found.append(Box(top, left, top + height, left + width))
    return found


def draw_heat_map(a: RGB8, b: RGB8, *, title: str, limit: float) -> HeatMap:
    """Draw where two pictures differ, shrunk by averaging to at most `LONG_SIDE` pixels a side.

    Args:
        a: (H, W, 3).
        b: of the same shape.
        title: what is compared.
        limit: the difference that gets the last colour, in 8-bit steps.

    """
    shrink = _shrink(a)
    total, bands = 0.0, []
    for rows in row_bands(len(a), BAND_ROWS * shrink):
        difference = np.abs(a[rows].astype(np.int16) - b[rows]).mean(axis=2, dtype=np.float32)
        total += float(difference.sum(dtype=np.float64))
        bands.append(np.asarray(Image.fromarray(difference).reduce(shrink)))
    share = np.concatenate(bands) / limit
    stops = np.linspace(0, 1, len(HEAT_COLOURS))
    channels = [np.interp(share, stops, channel) for channel in np.transpose(HEAT_COLOURS)]
    image = np.rint(np.stack(channels, axis=2)).astype(np.uint8)
    return HeatMap(title, image, mean=total / (a.shape[0] * a.shape[1]), limit=limit)


def _check(lr: RGB8, hr: RGB8, methods: Mapping[str, RGB8], needed: Sequence[str]) -> int:
    """Check that all belong together and return the scale."""
    scale = len(hr) // len(lr)
    expected = (lr.shape[0] * scale, lr.shape[1] * scale, 3)
    for label, pixels in {"LR": lr, "HR": hr, **methods}.items():
        shape = (*lr.shape[:2], 3) if label == "LR" else expected
        if pixels.dtype != np.uint8 or pixels.shape != shape:
            raise UsageError(
                f"Expected {label} to be {shape} uint8 but got {pixels.shape} {pixels.dtype}."
            )
    missing = [label for label in needed if label not in methods]
    if missing:
        raise UsageError(
            f"Expected results of {', '.join(missing)} but got only {', '.join(methods)}."
        )
    return scale


def _crops(box: Box, lr: RGB8, hr: RGB8, methods: Mapping[str, RGB8]) -> tuple[Crop, ...]:
    """Cut a place out of LR, enlarged by repetition, of every result and of HR."""
    scale = len(hr) // len(lr)
    inside = box.scaled(scale).slices
    reference = hr[inside].copy()  # a view would keep the whole picture in memory
    enlarged = lr[box.slices].repeat(scale, axis=0).repeat(scale, axis=1)
    cut = {"LR enlarged": enlarged, **{label: sr[inside].copy() for label, sr in methods.items()}}
    crops = [
        Crop(label, pixels, psnr(pixels, reference, data_range=255, border=0))
        for label, pixels in cut.items()
    ]
    return (*crops, Crop("HR", reference, None))


def _spread(crops: Sequence[Crop]) -> str:
    """Say how far the results are apart."""
    ranked = sorted(crops, key=lambda crop: crop.psnr or 0.0)
    worst, best = (f"{crop.label} {crop.psnr:.2f} dB" for crop in (ranked[0], ranked[-1]))
    return f"The methods differ most: {worst}, {best}."


def _loss(crops: Sequence[Crop], routed: str, hardest: str) -> str:
    """Say how much the routed result loses to the hardest level."""
    reached = {crop.label: f"{crop.psnr:.2f} dB" for crop in crops[1:-1]}
    return f"{routed} loses most to {hardest}: {reached[routed]} instead of {reached[hardest]}."


def _levels_in(box: Box, levels: NDArray[np.int64], grid: TileGrid) -> tuple[int, ...]:
    """Return the levels of the tiles that a place touches, easiest first."""
    pairs = zip(grid.tiles, levels.ravel().tolist(), strict=True)
    return tuple(sorted({level for tile, level in pairs if _overlap(grid.cell(tile), box)}))


def _overlap(a: Box, b: Box) -> bool:
    """Whether two rectangles have a pixel in common."""
    return a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right


def _shrink(image: RGB8) -> int:
    """Return by how much a picture is shrunk for looking at."""
    longest: int = max(image.shape[:2])
    return math.ceil(longest / LONG_SIDE)


def _shrunk(image: RGB8) -> RGB8:
    return np.asarray(Image.fromarray(image).reduce(_shrink(image)))
