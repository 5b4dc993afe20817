"""Whether routing holds for pictures that the model was not made for: shares and PSNR by kind of picture.

    python benchmarks/robustness.py --model compact-x4 --out robustness.md

Kinds: photographs as in training; the same with noise, JPEG-compressed or blurred in LR, always against the clean HR;
and drawings, text and charts, which are drawn here, in HR. `lost` is how far the default route stays below the hardest
branch everywhere. Rounding and JPEG are those of 8-bit files.
"""

import argparse
import io
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon
from PIL import Image
from scipy.ndimage import gaussian_filter

from classsr.metrics import psnr
from classsr.model import DEFAULT_MODEL
from classsr.resize import resize
from classsr.upscaler import Upscaler
from machine import describe
from subjects import DATA, RGB8, SETS, Subject, subjects
from tables import head, line

SIZE = (2048, 1280)  # of what is drawn, HR pixels
INCH = 128  # HR pixels
WORDS = ("quick", "brown", "foxes", "jump", "over", "a", "lazy", "dog", "while", "wizards", "box")


def with_noise(lr: RGB8, sigma: float) -> RGB8:
    """Add noise of this standard deviation, of 255."""
    noise = np.random.default_rng(0).normal(0, sigma, lr.shape)
    return np.clip(np.rint(lr + noise), 0, 255).astype(np.uint8)


def as_jpeg(lr: RGB8, quality: int) -> RGB8:
    """Compress and decompress, colours halved as usual."""
    file = io.BytesIO()
    Image.fromarray(lr).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def blurred(lr: RGB8, sigma: float) -> RGB8:
    """Blur by a Gaussian, sigma in LR pixels."""
    values = gaussian_filter(lr.astype(np.float32), (sigma, sigma, 0))
    return np.rint(values).astype(np.uint8)


DAMAGE: Mapping[str, Callable[[RGB8], RGB8]] = {
    "as they are": lambda lr: lr,
    "noise 5": partial(with_noise, sigma=5),
    "noise 15": partial(with_noise, sigma=15),
    "JPEG 90": partial(as_jpeg, quality=90),
    "JPEG 60": partial(as_jpeg, quality=60),
    "JPEG 30": partial(as_jpeg, quality=30),
    "blur 1": partial(blurred, sigma=1),
    "blur 2": partial(blurred, sigma=2),
}


def draw_shapes(figure: Figure, random: np.random.Generator) -> None:
    """Draw flat colours with black outlines."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 16), ylim=(0, 10), facecolor="#cfe8f5")
    axes.axis("off")
    figure.set_facecolor("#cfe8f5")
    for _ in range(60):
        place, colour = random.uniform((0, 0), (16, 10)), tuple(random.uniform(0, 1, 3))
        look = {"facecolor": colour, "edgecolor": "black", "linewidth": random.uniform(1, 4)}
        if random.random() < 0.5:
            axes.add_patch(Ellipse(tuple(place), *random.uniform(0.5, 3, 2), **look))
        else:
            axes.add_patch(Polygon(place + random.normal(0, 1, (5, 2)), **look))


def draw_text(figure: Figure, random: np.random.Generator) -> None:
    """Write a page, black on white."""
    for row in range(36):
        words = " ".join(random.choice(WORDS, 26))
        figure.text(0.05, 0.95 - row * 0.0255, words, fontsize=11, family="serif")


def draw_charts(figure: Figure, random: np.random.Generator) -> None:
    """Draw what screens show of numbers: lines, bars and points with axes and labels."""
    for number, axes in enumerate(figure.subplots(2, 3).flat):
        values = random.normal(0, 1, 40).cumsum()
        if number % 3 == 0:
            axes.plot(values, linewidth=1)
            axes.grid(linewidth=0.5)
        elif number % 3 == 1:
            axes.bar(range(12), np.abs(values[:12]), color="tab:green")
        else:
            axes.scatter(values, random.permutation(values), s=9)
        axes.set_title(" ".join(random.choice(WORDS, 3)))
        axes.set_xlabel(str(random.choice(WORDS)))


DRAWN: Mapping[str, Callable[[Figure, np.random.Generator], None]] = {
    "drawings": draw_shapes,
    "text": draw_text,
    "charts": draw_charts,
}


def drawn(kind: str, seed: int) -> RGB8:
    """Return a drawn picture in HR."""
    figure = Figure(figsize=(SIZE[0] / INCH, SIZE[1] / INCH), dpi=INCH)
    canvas = FigureCanvasAgg(figure)
    DRAWN[kind](figure, np.random.default_rng(seed))
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def kinds(options: argparse.Namespace, scale: int) -> Iterator[tuple[str, list[Subject]]]:
    """Yield every kind by name, and its pictures."""
    clean = list(subjects(options.data, options.set, pictures=options.pictures, scale=scale))
    for name, damage in DAMAGE.items():
        yield name, [Subject(each.name, damage(each.lr), each.hr) for each in clean]
    for name in DRAWN:
        pictures = [drawn(name, seed) for seed in range(options.drawn)]
        yield (
            name,
            [Subject(f"{name} {n}", resize(hr, 1 / scale), hr) for n, hr in enumerate(pictures)],
        )


def row(name: str, pictures: list[Subject], upscaler: Upscaler) -> str:
    """Measure one kind: means over its pictures."""
    scale = upscaler.model.config.scale
    scores: dict[str, list[float]] = {"bicubic": [], "auto": [], "hardest": []}
    tiles = np.zeros(len(upscaler.model.config.levels), np.int64)
    shares, losses = [], []
    for each in pictures:
        routed = upscaler.upscale(each.lr)
        results = {
            "bicubic": resize(each.lr, scale),
            "auto": routed.image,
            "hardest": upscaler.upscale(each.lr, route="hardest").image,
        }
        for way, sr in results.items():
            scores[way].append(psnr(sr, each.hr, data_range=255, border=scale))
        report = routed.report
        tiles += report.tiles
        shares.append(report.macs / report.macs_hardest)
        losses.append(scores["hardest"][-1] - scores["auto"][-1])
    return line(
        name,
        len(pictures),
        *(f"{statistics.fmean(scores[way]):.2f}" for way in scores),
        f"{statistics.fmean(losses):+.3f} (at most {max(losses):+.3f})",
        " / ".join(f"{100 * share:.0f}" for share in tiles / tiles.sum()),
        f"{100 * statistics.fmean(shares):.0f} %",
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="all pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--set", choices=SETS, default="large/2k", help="the photographs")
    parser.add_argument("--pictures", type=int, default=0, help="of the set; 0: all")
    parser.add_argument("--drawn", type=int, default=4, help="pictures of every kind that is drawn")
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    options = parser.parse_args()
    upscaler = Upscaler(options.model)
    made_by = shlex.join(["python", "benchmarks/robustness.py", *sys.argv[1:]])
    lines = [
        f"{upscaler.model.config.name}, photographs of {options.set}. {describe()}\nMade by `{made_by}`.\n",
        *head(
            "kind",
            "pictures",
            "bicubic, dB",
            "routed",
            "hardest",
            "lost by routing",
            "tiles per level, %",
            "MACs of the hardest",
        ),
    ]
    for name, pictures in kinds(options, upscaler.model.config.scale):
        lines.append(row(name, pictures, upscaler))
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
