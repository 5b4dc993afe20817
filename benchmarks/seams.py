"""Whether seams show or can be measured: routed results against whole-picture runs put together by the same levels.

    python benchmarks/seams.py --pictures 4 --out seams.md --picture seams.png

The reference runs every level once over the whole picture and takes each block, with its feather, from there: what
differs is only that the engine's windows end after their halo. Differences and errors are means of |values of 255|:
within 2 HR pixels of where levels meet, of where blocks of one level meet, of other borders of tiles, where nothing is
put together, and elsewhere.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classsr.backends import Backend, open_backend
from classsr.canvas import PlacedCanvas, to_network
from classsr.image import Header, Picture, write
from classsr.model import DEFAULT_MODEL, Model
from classsr.phases import shuffled
from classsr.planner import Plan
from classsr.tiles import pad_edges
from classsr.upscaler import Upscaler
from machine import describe
from subjects import DATA, RGB8, SETS, Subject, subjects
from tables import head, line

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

NEAR = 2  # HR pixels to each side of a border
ZONES = ("levels meet", "blocks of one level meet", "tiles of one block meet", "elsewhere")
CROP = 120  # HR pixels to a side of the picture's panels
SPOT = 32  # HR pixels to a side of what differs most, in their middle
MAGNIFIED = 4
AMPLIFIED = 32  # times the difference
GAP = 8  # pixels between panels


@dataclass(frozen=True, slots=True)
class Compared:
    """A result and its reference, and the zones (H, W) of `ZONES`."""

    ours: RGB8
    reference: RGB8
    hr: RGB8
    zones: tuple[Mask, ...]

    def sums(self) -> NDArray[np.float64]:
        """Sum up over zones: rows of values, |ours - reference|, |ours - HR|, |reference - HR|: (zones, 4)."""
        pairs = [(self.ours, self.reference), (self.ours, self.hr), (self.reference, self.hr)]
        differences = [np.abs(a.astype(np.int16) - b).sum(axis=2) for a, b in pairs]
        return np.array(
            [
                [3 * zone.sum(), *(difference[zone].sum() for difference in differences)]
                for zone in self.zones
            ],
            np.float64,
        )


class Reference:
    """Puts pictures together from whole-picture runs of every level.

    Args:
        model: the released model.
        backend: what runs it.

    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self._config = model.config
        self._networks = [backend.branch(model, level) for level in range(len(model.config.levels))]

    def enlarge(self, lr: RGB8, plan: Plan) -> RGB8:
        """Enlarge a picture by the levels, blocks and feathers of a plan."""
        scale = self._config.scale
        height, width = lr.shape[:2]
        whole = {level: self._run(lr, level) for level in np.unique(plan.levels).tolist()}
        canvas = PlacedCanvas(plan.grid, plan.levels, Header(height, width), scale=scale)
        strips = []
        for band in plan.bands:
            canvas.begin(band.rows)
            for group in band.groups:
                halo = self._config.levels[group.level].halo
                for block in group.blocks:
                    top, left = (scale * side for side in plan.grid.origin(block))
                    size = plan.grid.window(*block[2:].tolist())
                    high, wide = (scale * (side + 2 * halo) for side in size)
                    window = whole[group.level][:, top : top + high, left : left + wide]
                    canvas.add(window[None].copy(), block[None], halo)
            strips.append(canvas.finish())
        return np.concatenate(strips)

    def _run(self, lr: RGB8, level: int) -> Floats:
        """Run one level over the whole picture: (3, H, W) with the level's halo on every side, in [0, 1]."""
        info, scale = self._config.levels[level], self._config.scale
        radius = info.halo if info.receptive_radius is None else info.receptive_radius
        padded = pad_edges(lr, halo=info.halo + radius)
        sr = shuffled(self._networks[level](to_network(padded[None])))[0]
        inner: Floats = sr[:, scale * radius : -scale * radius, scale * radius : -scale * radius]
        return inner.copy()


def find_zones(plan: Plan, scale: int) -> tuple[Mask, ...]:
    """Return the zones of `ZONES` for a plan: masks over the enlarged picture, no pixel in two of them."""
    blocks = np.empty(plan.grid.shape, np.int64)
    groups = [group for band in plan.bands for group in band.groups]
    for number, block in enumerate(np.concatenate([group.blocks for group in groups])):
        row, column, rows, columns = block.tolist()
        blocks[row : row + rows, column : column + columns] = number
    tiles = np.arange(blocks.size).reshape(blocks.shape)
    zones: list[Mask] = []
    taken = np.zeros((plan.grid.height * scale, plan.grid.width * scale), bool)
    for numbers in (plan.levels, blocks, tiles):
        zones.append(near_borders(numbers, plan.grid.tile * scale, taken.shape) & ~taken)
        taken |= zones[-1]
    return *zones, ~taken


def near_borders(numbers: NDArray[np.int64], side: int, shape: tuple[int, ...]) -> Mask:
    """Mark what is near borders between tiles of other numbers: tiles (rows, columns) of this side -> (H, W)."""
    near = np.zeros(shape, bool)
    for row, column in np.argwhere(numbers[1:] != numbers[:-1]).tolist():
        below, left = (row + 1) * side, column * side
        near[below - NEAR : below + NEAR, left : left + side] = True
    for row, column in np.argwhere(numbers[:, 1:] != numbers[:, :-1]).tolist():
        top, right = row * side, (column + 1) * side
        near[top : top + side, right - NEAR : right + NEAR] = True
    return near


def compare(
    upscaler: Upscaler, reference: Reference, subject: Subject, max_loss: float | None
) -> Compared:
    """Enlarge a picture and put its reference together."""
    plans: list[Plan] = []
    ours = upscaler.upscale(subject.lr, planned=plans.append, max_loss=max_loss)
    (plan,) = plans
    return Compared(
        ours.image,
        reference.enlarge(subject.lr, plan),
        subject.hr,
        find_zones(plan, upscaler.model.config.scale),
    )


def rows(precision: str, sums: NDArray[np.float64]) -> Iterator[str]:
    """Sum up zones over all pictures."""
    for zone, (count, difference, ours, reference) in zip(ZONES, sums.tolist(), strict=True):
        if count:
            share = f"{100 * count / sums[:, 0].sum():.1f} %"
            means = (difference / count, ours / count, reference / count)
            more = f"{100 * (ours / reference - 1):+.2f} %"
            yield line(precision, zone, share, *(f"{mean:.4f}" for mean in means), more)


HEAD = head(
    "precision",
    "within 2 pixels of where",
    "of the pixels",
    "ours - reference",
    "ours - HR",
    "reference - HR",
    "more error",
)


def panels(compared: Compared) -> RGB8:
    """Put a crop of ours and of the reference beside their difference, where that is largest near borders of blocks."""
    difference = np.abs(compared.ours.astype(np.int16) - compared.reference)
    near = difference.sum(axis=2) * (compared.zones[0] | compared.zones[1])
    totals = near.cumsum(axis=0).cumsum(axis=1)
    windows = totals[SPOT:, SPOT:] + totals[:-SPOT, :-SPOT]
    windows -= totals[SPOT:, :-SPOT] + totals[:-SPOT, SPOT:]
    spot = np.unravel_index(int(windows.argmax()), windows.shape)
    top, left = (
        min(max(int(at) + (SPOT - CROP) // 2, 0), side - CROP)
        for at, side in zip(spot, near.shape, strict=True)
    )
    place = (slice(top, top + CROP), slice(left, left + CROP))
    shown = (AMPLIFIED * difference[place]).clip(0, 255).astype(np.uint8)
    crops = [compared.ours[place], compared.reference[place], shown]
    gap = np.full((CROP * MAGNIFIED, GAP, 3), 255, np.uint8)
    large = [crop.repeat(MAGNIFIED, axis=0).repeat(MAGNIFIED, axis=1) for crop in crops]
    return np.concatenate([large[0], gap, large[1], gap, large[2]], axis=1)


def parse() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="all pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--set", choices=SETS, default="large/2k")
    parser.add_argument("--pictures", type=int, default=4, help="of the set; 0: all")
    parser.add_argument("--max-loss", type=float, help="dB; what the route auto takes by default")
    parser.add_argument(
        "--tiling", choices=("halo", "exact"), default="halo", help="of the upscaler"
    )
    parser.add_argument("--threads", type=int, help="all cores by default")
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    parser.add_argument("--picture", type=Path, help="show the largest difference in this file")
    return parser.parse_args()


def main() -> None:
    """Measure, print and draw."""
    options = parse()
    made_by = shlex.join(["python", "benchmarks/seams.py", *sys.argv[1:]])
    table: list[str] = []
    for precision in ("f32", "bf16"):
        setting = {"precision": precision, "threads": options.threads}
        upscaler = Upscaler(options.model, tiling=options.tiling, **setting)
        model = upscaler.model
        reference = Reference(model, open_backend("openvino", **setting))
        pictures = subjects(
            options.data, options.set, pictures=options.pictures, scale=model.config.scale
        )
        sums = np.zeros((len(ZONES), 4))
        worst: tuple[float, RGB8] | None = None
        for subject in pictures:
            compared = compare(upscaler, reference, subject, options.max_loss)
            found = compared.sums()
            sums += found
            seam = found[:2, 1].sum() / max(found[:2, 0].sum(), 1)
            if worst is None or seam > worst[0]:
                worst = seam, panels(compared)
            print(f"{precision}, {subject.name}: {seam:.4f} where blocks meet", file=sys.stderr)
        table += rows(precision, sums)
        if options.picture is not None and worst is not None:
            write(Picture(worst[1]), options.picture, overwrite=True)
    about = f"{model.config.name} on {options.set}. {describe()}\nMade by `{made_by}`."
    text = "\n".join(["# Seams\n", about + "\n", *HEAD, *table])
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
