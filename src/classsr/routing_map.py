"""The routing map: the enlarged picture with the level of every tile in translucent colour, and a legend."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from classsr.image import Picture
from classsr.tiles import TileGrid

# Okabe and Ito's palette, told apart under every common colour blindness; easiest level first.
COLOURS = (
    (0, 114, 178),
    (240, 228, 66),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (0, 0, 0),
)
OPACITY = 0.45
LONG_SIDE = 1600  # pixels; the map is for looking at, not for measuring
LEAST_WIDTH = 480  # pixels, so that the legend fits under a small picture
LINE = 28  # pixels, height of a line of the legend
MARGIN = 8


def draw_routing_map(
    image: NDArray[Any],
    levels: NDArray[np.int64],
    grid: TileGrid,
    labels: tuple[str, ...],
    *,
    scale: int,
) -> Picture:
    """Draw the level of every tile over the enlarged picture.

    Args:
        image: (scale * H, scale * W, 3), uint8 or uint16.
        levels: (rows, columns).
        grid: where the tiles lie, in LR pixels.
        labels: the name of each level.
        scale: size of `image` over size of the grid.

    Returns:
        An 8-bit picture of at most 1,600 pixels a side, legend below.

    """
    eight_bit = image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)
    picture = Image.fromarray(eight_bit)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    colours = np.zeros((grid.height, grid.width, 3), np.uint8)
    for tile, level in zip(grid.tiles, levels.ravel().tolist(), strict=True):
        colours[grid.cell(tile).slices] = COLOURS[level]
    overlay = Image.fromarray(colours).resize(picture.size, Image.Resampling.NEAREST)
    blended = Image.blend(picture, overlay, OPACITY)

    legend = _legend(levels, labels)
    sheet = Image.new(
        "RGB", (max(blended.width, legend.width), blended.height + legend.height), "white"
    )
    sheet.paste(blended, (0, 0))
    sheet.paste(legend, (0, blended.height))
    return Picture(rgb=np.asarray(sheet))


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
