"""Draw the README's figure from the bundled example: python docs/figures.py."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from classsr import Upscaler
from classsr.image import read
from classsr.resize import resize
from classsr.routing_map import draw_routing_map

ROOT = Path(__file__).parent.parent
CROP = (150, 95, 120, 120)  # top, left, height, width in LR pixels: rock, beach and sea
HEIGHT = 480  # pixels of every panel
MARGIN = 6
CAPTION = 26


def main() -> None:
    """Put the same place in bicubic and ClassSR beside the routing map of the whole picture."""
    upscaler = Upscaler()
    scale = upscaler.model.config.scale
    lr = read(ROOT / "examples" / "bay.jpg").rgb
    result = upscaler.upscale(lr)
    labels = tuple(level.label for level in upscaler.model.config.levels)
    levels = draw_routing_map(result.image, result.levels, result.grid, labels)
    top, left, height, width = (scale * value for value in CROP)
    place = (slice(top, top + height), slice(left, left + width))
    panels = [
        ("bicubic", np.asarray(resize(lr, scale))[place]),
        ("ClassSR", result.image[place]),
        ("routing map", levels.rgb),
    ]
    pictures = [Image.fromarray(np.asarray(pixels, np.uint8)) for _, pixels in panels]
    pictures = [
        picture.resize((picture.width * HEIGHT // picture.height, HEIGHT), Image.Resampling.LANCZOS)
        for picture in pictures
    ]
    sheet_width = sum(picture.width + MARGIN for picture in pictures) - MARGIN
    sheet = Image.new("RGB", (sheet_width, HEIGHT + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    x = 0
    for (caption, _), picture in zip(panels, pictures, strict=True):
        sheet.paste(picture, (x, CAPTION))
        draw.text((x + 2, 2), caption, fill="black", font=font)
        x += picture.width + MARGIN
    out = ROOT / "docs" / "images"
    out.mkdir(exist_ok=True)
    sheet.save(out / "bay.png", optimize=True)


if __name__ == "__main__":
    main()
