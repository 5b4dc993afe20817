"""The routing map: the enlarged picture with the level of every tile in translucent colour, and a legend."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from classsr.image import Picture
from classsr.tiles import TileGrid

# Okabe and Ito's palette; the first four are told apart under every common colour blindness. Easiest level first.
COLOURS = (
    (0, 114, 178),
    (240, 228, 66),
    (213, 94, 0),
    (0, 0, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 158, 115),
    (230, 159, 0),
)
OPACITY = 0.45
LONG_SIDE = 1600  # pixels; the map is for looking at, not for measuring
LEAST_WIDTH = 480  # pixels, so that the legend fits under a small picture
LINE = 28  # pixels, height of a line of the legend
MARGIN = 8


class Preview:
    """A small copy of a picture that comes in strips from top to bottom: at most 1,600 pixels a side.

    Args:
        height: of the picture.
        width: of the picture.

    """

    def __init__(self, height: int, width: int) -> None:
        self._shrink = math.ceil(max(height, width) / LONG_SIDE)
        self._strips: list[NDArray[np.uint8]] = []
        self._left = np.empty((0, width, 3), np.uint8)

    def add(self, strip: NDArray[Any]) -> None:
        """Take the next rows, (h, W, 3), uint8 or uint16."""
        eight_bit = strip if strip.dtype == np.uint8 else (strip // 257).astype(np.uint8)
        rows = np.concatenate([self._left, eight_bit])
        whole = len(rows) // self._shrink * self._shrink
        if whole:
            self._strips.append(np.asarray(Image.fromarray(rows[:whole]).reduce(self._shrink)))
        self._left = rows[whole:]

    @property
    def image(self) -> NDArray[np.uint8]:
        """The small copy of what has come so far."""
        left = (
            [np.asarray(Image.fromarray(self._left).reduce(self._shrink))]
            if len(self._left)
            else []
        )
        return np.concatenate([*self._strips, *left])


def draw_routing_map(
    image: NDArray[np.uint8],
    levels: NDArray[np.int64],
    grid: TileGrid,
    labels: tuple[str, ...],
) -> Picture:
    """Draw the level of every tile over the enlarged picture.

    Args:
        image: of any size.
        levels: (rows, columns).
        grid: where the tiles lie, in LR pixels.
        labels: the name of each level.

    Returns:
        An 8-bit picture of at most 1,600 pixels a side, legend below.

    """
    picture = Image.fromarray(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    blended = Image.fromarray(blend_levels(np.asarray(picture), levels, grid))

    legend = _legend(levels, labels)
    sheet = Image.new(
        "RGB", (max(blended.width, legend.width), blended.height + legend.height), "white"
    )
    sheet.paste(blended, (0, 0))
    sheet.paste(legend, (0, blended.height))
    return Picture(rgb=np.asarray(sheet))


def blend_levels(
    image: NDArray[np.uint8], levels: NDArray[np.int64], grid: TileGrid
) -> NDArray[np.uint8]:
    """Lay the translucent colour of every tile's level over the enlarged picture, (H, W, 3), at its size."""
    picture = Image.fromarray(image)
    colours = np.zeros((grid.height, grid.width, 3), np.uint8)
    for tile, level in zip(grid.tiles, levels.ravel().tolist(), strict=True):
        colours[grid.cell(tile).slices] = COLOURS[level]
    overlay = Image.fromarray(colours).resize(picture.size, Image.Resampling.NEAREST)
    return np.asarray(Image.blend(picture, overlay, OPACITY))


def _legend(levels: NDArray[np.int64], labels: tuple[str, ...]) -> Image.Image:
    """Draw one line per level: its colour, name and share of the tiles."""
    legend = Image.new("RGB", (LEAST_WIDTH, LINE * len(labels) + MARGIN), "white")
    draw = ImageDraw.Draw(legend)
    font = ImageFont.load_default(size=16)
    for level, label in enumerate(labels):
        top = MARGIN + LINE * level
        box = (MARGIN, top, MARGIN + LINE - MARGIN, top + LINE - MARGIN)
        draw.rectangle(box, fill=COLOURS[level], outline="black")
        share = 100 * float(np.mean(levels == level))
        text = f"level {level}: {label}, {share:.0f} % of the tiles"
        draw.text((LINE + 2 * MARGIN, top), text, fill="black", font=font)
    return legend
