"""What each tile really loses at every level, and predictions of it by others, for the same planner."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classsr.backends import Choice, open_backend
from classsr.canvas import to_network
from classsr.data.pairs import open_pairs
from classsr.metrics import luma
from classsr.model import Model
from classsr.routing import predicted_errors
from classsr.tiles import TileGrid, batches, split
from opponents import enlarge_at
from subjects import RGB8

Floats = NDArray[np.float64]

WHOLE_TILE = (
    192  # LR pixels; with a halo as wide as the network sees, the same as the whole picture at once
)
BATCH = 64  # tiles that are judged at once
SIGMA = 0.8  # LR pixels; of the Gaussian that a high-pass leaves out
LEAST_ENERGY = 1e-3  # of 255 squared; below it all tiles are alike
LEAST_ERROR = 1e-7  # as the Class-Module tells apart
FIT_PICTURES = 80  # of the training pairs: some thousand tiles


@dataclass(frozen=True, slots=True)
class TileSquares:
    """Sums of the squared errors of every tile at every level, and how many values they are of.

    SR is rounded to 8 bits, and a border of the scale is left out, as for PSNR.

    Args:
        sums: (rows, columns, levels), values in [0, 1].
        counts: (rows, columns).

    """

    sums: Floats
    counts: Floats

    @property
    def errors(self) -> Floats:
        """Mean squared error of every tile at every level: (rows, columns, levels)."""
        mean: Floats = self.sums / np.maximum(self.counts, 1)[:, :, None]
        return mean

    def psnr(self, levels: NDArray[np.int64]) -> float:
        """Return the picture's PSNR in dB with its tiles at these levels (rows, columns)."""
        total = np.take_along_axis(self.sums, levels[:, :, None], axis=2).sum()
        return float(10 * np.log10(self.counts.sum() / total))


class Runner:
    """Runs the networks of a model on pictures, without a plan.

    Args:
        model: the released model.
        precision: of the branches.
        threads: processor threads; all by default.

    """

    def __init__(self, model: Model, *, precision: Choice, threads: int | None) -> None:
        backend = open_backend("openvino", precision=precision, threads=threads)
        self.config = model.config
        self._networks = [backend.branch(model, level) for level in range(len(model.config.levels))]
        self._classifier = backend.classifier(model)

    def run_levels(self, lr: RGB8, hr: RGB8) -> TileSquares:
        """Run every level over the whole picture."""
        tile, scale = self.config.tile, self.config.scale
        inner = np.zeros(hr.shape[:2])
        inner[scale:-scale, scale:-scale] = hr.shape[2]
        sums = []
        for network, level in zip(self._networks, self.config.levels, strict=True):
            halo = level.halo if level.receptive_radius is None else level.receptive_radius
            sr = enlarge_at(network, lr, tile=WHOLE_TILE, halo=halo, scale=scale)
            squares = (((sr.astype(np.float32) - hr) / 255) ** 2).sum(axis=2, dtype=np.float64)
            sums.append(tile_sums(squares * (inner > 0), tile * scale))
        return TileSquares(np.stack(sums, axis=2), tile_sums(inner, tile * scale))

    def judge(self, lr: RGB8) -> Floats:
        """Predict the errors of every tile with the Class-Module: (rows, columns, levels)."""
        tile = self.config.tile
        grid = TileGrid(lr.shape[0], lr.shape[1], tile=tile, step=tile)
        judged = [
            self._classifier(to_network(split(lr, grid, tiles, halo=0))).copy()
            for tiles in batches(grid.tiles, BATCH)
        ]
        return predicted_errors(np.concatenate(judged), self.config).reshape(*grid.shape, -1)


def tile_sums(values: Floats, side: int) -> Floats:
    """Sum over squares of this side, smaller at the end: (H, W) -> (rows, columns)."""
    tops, lefts = (np.arange(0, size, side) for size in values.shape)
    sums: Floats = np.add.reduceat(np.add.reduceat(values, tops, axis=0), lefts, axis=1)
    return sums


def high_pass(lr: RGB8, tile: int) -> Floats:
    """Return the logarithm of every tile's mean squared high-pass, luma minus its Gaussian: (rows, columns)."""
    y = luma(lr)
    reach = 4  # five sigmas
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    blurred = np.pad(y, reach, mode="edge")
    height, width = y.shape
    blurred = sum(w * blurred[k : k + height] for k, w in enumerate(weights))
    blurred = sum(w * blurred[:, k : k + width] for k, w in enumerate(weights))
    energy = tile_sums((y - blurred) ** 2, tile) / tile_sums(np.ones_like(y), tile)
    logs: Floats = np.log(energy + LEAST_ENERGY)
    return logs


@dataclass(frozen=True, slots=True)
class HighPassRouter:
    """Predicts log errors from one statistic, a quadratic for every level.

    Args:
        coefficients: (3, levels), the highest power first.
        bias: (levels,), by which the mean error exceeds the exponential of the mean log error.
        domain: of the statistic, as fitted; it is clipped to that.

    """

    coefficients: Floats
    bias: Floats
    domain: tuple[float, float]

    def errors(self, lr: RGB8, tile: int) -> Floats:
        """Predict the errors of every tile: (rows, columns, levels)."""
        x = high_pass(lr, tile).clip(*self.domain)[:, :, None]
        square, linear, constant = self.coefficients
        errors: Floats = np.exp((square * x + linear) * x + constant) * self.bias
        return errors


def fit_high_pass(runner: Runner, pairs: Path) -> HighPassRouter:
    """Fit the router to training pictures, evenly chosen from a packed folder."""
    packed, config = open_pairs(pairs), runner.config
    least = 2 * config.tile
    large = [n for n, entry in enumerate(packed.entries) if min(entry.height, entry.width) >= least]
    statistic, errors = [], []
    for n in large[:: max(len(large) // FIT_PICTURES, 1)]:
        lr, hr = np.array(packed.lr(n)), np.array(packed.hr(n))
        statistic.append(high_pass(lr, config.tile).ravel())
        squares = runner.run_levels(lr, hr)
        errors.append(squares.errors.reshape(-1, len(config.levels)))
    x, y = np.concatenate(statistic), np.concatenate(errors).clip(min=LEAST_ERROR)
    coefficients = np.polyfit(x, np.log(y), 2)
    fitted = np.exp((coefficients[0] * x[:, None] + coefficients[1]) * x[:, None] + coefficients[2])
    bias = np.mean(y / fitted, axis=0)
    return HighPassRouter(coefficients, bias, (float(x.min()), float(x.max())))
