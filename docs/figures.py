"""Draw the figure of the README and that of the default model's limits: python docs/figures.py."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from classsr import Upscaler
from classsr.data.drawn import drawn
from classsr.data.pairs import crop_to_multiple
from classsr.image import read
from classsr.resize import resize
from classsr.routing_map import draw_routing_map

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
CROP = (150, 95, 120, 120)  # top, left, height, width in LR pixels: rock, beach and sea
HEIGHT = 480  # pixels of every panel
LIMITS_CROP = (180, 160, 160, 240)  # in HR pixels
MARGIN = 6
CAPTION = 26

RGB8 = NDArray[np.uint8]
Panel = tuple[str, Image.Image]


def sheet(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Put pictures with captions beside and below each other; all of a row are of one height."""
    width = max(sum(picture.width + MARGIN for _, picture in row) for row in rows) - MARGIN
    height = sum(CAPTION + row[0][1].height for row in rows)
    found = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(found), ImageFont.load_default(size=18)
    y = 0
    for row in rows:
        x = 0
        for caption, picture in row:
            draw.text((x + 2, y + 2), caption, fill="black", font=font)
            found.paste(picture, (x, y + CAPTION))
            x += picture.width + MARGIN
        y += CAPTION + row[0][1].height
    return found


def cut(pixels: NDArray[np.generic], crop: tuple[int, int, int, int]) -> RGB8:
    """Return a place of a picture: top, left, height, width."""
    top, left, height, width = crop
    return np.asarray(pixels[top : top + height, left : left + width], np.uint8)


def bay(upscaler: Upscaler) -> Image.Image:
    """Put the same place in bicubic and ClassSR beside the routing map of the whole picture."""
    scale = upscaler.model.config.scale
    lr = read(ROOT / "examples" / "bay.jpg").rgb
    result = upscaler.upscale(lr)
    labels = tuple(level.label for level in upscaler.model.config.levels)
    levels = draw_routing_map(result.image, result.levels, result.grid, labels)
    top, left, height, width = (scale * value for value in CROP)
    crop = (top, left, height, width)
    panels = {
        "bicubic": cut(resize(lr, scale), crop),
        "ClassSR": cut(result.image, crop),
        "routing map": np.asarray(levels.rgb, np.uint8),
    }
    row = []
    for caption, pixels in panels.items():
        picture = Image.fromarray(pixels)
        size = (picture.width * HEIGHT // picture.height, HEIGHT)
        row.append((caption, picture.resize(size, Image.Resampling.LANCZOS)))
    return sheet([row])


def noisy(lr: RGB8) -> RGB8:
    """Add noise of standard deviation 15."""
    noise = np.random.default_rng(0).normal(0, 15, lr.shape)
    return np.clip(np.rint(lr + noise), 0, 255).astype(np.uint8)


def compressed(lr: RGB8) -> RGB8:
    """Compress as JPEG of quality 30."""
    file = io.BytesIO()
    Image.fromarray(lr).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file).convert("RGB"))


def limits(upscaler: Upscaler) -> Image.Image:
    """Show what the model cannot do: LR, bicubic, ClassSR and the original, a row for each kind of picture."""
    scale = upscaler.model.config.scale
    photograph = crop_to_multiple(np.asarray(read(ROOT / "examples" / "bay.jpg").rgb), scale)
    photograph = np.asarray(photograph, np.uint8)
    small = np.asarray(resize(photograph, 1 / scale), np.uint8)
    text = drawn(1000)
    kinds = {
        "as it should be": (small, photograph),
        "noise of 15": (noisy(small), photograph),
        "JPEG of quality 30": (compressed(small), photograph),
        "small print": (np.asarray(resize(text, 1 / scale), np.uint8), text),
    }
    rows = []
    for kind, (lr, hr) in kinds.items():
        panels = {
            f"LR, {kind}": np.repeat(np.repeat(lr, scale, axis=0), scale, axis=1),
            "bicubic": resize(lr, scale),
            "ClassSR": upscaler.upscale(lr).image,
            "original": hr,
        }
        rows.append(
            [(name, Image.fromarray(cut(pixels, LIMITS_CROP))) for name, pixels in panels.items()]
        )
    return sheet(rows)


def main() -> None:
    """Draw both."""
    upscaler = Upscaler()
    IMAGES.mkdir(exist_ok=True)
    bay(upscaler).save(IMAGES / "bay.png", optimize=True)
    limits(upscaler).save(IMAGES / "limits.png", optimize=True)


if __name__ == "__main__":
    main()
