"""What every branch gets wrong on the tiles of whole pictures, as they are run in use: with their real neighbours.

From this the Class-Module that predicts errors learns. All tiles of a picture come from one run of every branch.
"""

import hashlib
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from classsr.data.pairs import RGB8, Pairs
from classsr.data.patches import LR_PATCH, LR_STEP, Patches, find_patches
from classsr.files import write_whole
from classsr.training.loop import to_tensor

MARGIN = 16  # LR pixels by which a picture's edge is repeated, so that no zeros are seen beyond it
SAY_EVERY = 100  # pictures

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TileErrors:
    """Tiles and, for each, mean squares over its HR pixels, RGB in [0, 1].

    `errors` (N, levels) are those of SR - HR, `distances` (N, levels - 1) those of SR less the hardest branch's SR.
    """

    tiles: Patches
    errors: Floats
    distances: Floats

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "TileErrors":
        """Return the tiles that a mask or an index array picks."""
        return TileErrors(self.tiles.select(index), self.errors[index], self.distances[index])


def measure_tiles(
    pairs: Pairs,
    pictures: NDArray[np.int64],
    branches: nn.ModuleList,
    *,
    device: str,
    precision: str,
    cache: Path,
) -> TileErrors:
    """Run every branch over whole pictures, unless the file `cache` holds the errors of these branches already.

    Args:
        pairs: where the pixels are.
        pictures: which of them.
        branches: easiest first, in eval mode.
        device: where to run them.
        precision: "32-true" or "bf16-mixed".
        cache: an .npz file.

    """
    tiles = find_patches(pairs, pictures)
    about = _about(pairs, pictures, branches, precision)
    if cache.exists():
        with np.load(cache) as held:
            if str(held["about"]) == about:
                return TileErrors(tiles, held["errors"], held["distances"])
    branches = branches.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    errors, distances = [], []
    half = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")
    for done, picture in enumerate(pictures.tolist(), start=1):
        with torch.inference_mode(), half:
            found = _picture(pairs.lr(picture), pairs.hr(picture), branches, torch.device(device))
        errors.append(found[0])
        distances.append(found[1])
        if done % SAY_EVERY == 0 or done == len(pictures):
            logger.info("%d/%d pictures through every branch", done, len(pictures))
    measured = TileErrors(tiles, np.concatenate(errors), np.concatenate(distances))
    packed = io.BytesIO()
    np.savez(packed, about=about, errors=measured.errors, distances=measured.distances)
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_whole(cache, packed.getvalue())
    return measured


def _about(pairs: Pairs, pictures: NDArray[np.int64], branches: nn.ModuleList, how: str) -> str:
    """Return what the errors belong to."""
    weights = hashlib.sha256()
    for value in branches.state_dict().values():
        weights.update(value.cpu().numpy().tobytes())
    of = hashlib.sha256(pictures.tobytes()).hexdigest()
    return json.dumps([weights.hexdigest(), of, pairs.checksum, how])


def _picture(
    lr: RGB8, hr: RGB8, branches: nn.ModuleList, device: torch.device
) -> tuple[Floats, Floats]:
    """Return errors and distances of the tiles of one picture, in the order of `find_patches`."""
    scale = len(hr) // len(lr)
    if min(lr.shape[:2]) < LR_PATCH:
        return np.empty((0, len(branches)), np.float32), np.empty(
            (0, len(branches) - 1), np.float32
        )
    x = F.pad(to_tensor(np.array(lr[None]), device), (MARGIN,) * 4, mode="replicate")
    target = to_tensor(np.array(hr[None]), device)
    border = scale * MARGIN
    outputs = [branch(x)[:, :, border:-border, border:-border].float() for branch in branches]
    outputs = [output.clamp(0, 1) for output in outputs]
    errors = [_mean_squares(output - target, scale) for output in outputs]
    distances = [_mean_squares(output - outputs[-1], scale) for output in outputs[:-1]]
    return torch.stack(errors, 1).cpu().numpy(), torch.stack(distances, 1).cpu().numpy()


def _mean_squares(difference: Tensor, scale: int) -> Tensor:
    """Return the mean square over every tile: (1, 3, H, W) -> (tiles,)."""
    squares = difference.square().mean(dim=1, keepdim=True)
    return F.avg_pool2d(squares, scale * LR_PATCH, stride=scale * LR_STEP).flatten()


def weigh(tiles: TileErrors) -> NDArray[np.float64]:
    """Weight tiles so that every picture counts the same relative to its own error, as PSNR does: (N,)."""
    hardest = tiles.errors[:, -1].astype(np.float64)
    _, picture = np.unique(tiles.tiles.picture, return_inverse=True)
    mean = np.bincount(picture, hardest) / np.bincount(picture)
    weights: NDArray[np.float64] = 1 / np.maximum(mean, 1e-7)[picture]
    return weights


def calibrate(log_distances: Floats, tiles: TileErrors) -> NDArray[np.float64]:
    """Fit how much more an easier level errs for its predicted distance d: d (a + b log d).

    By least squares, a tile's error divided by the root of its distance: as if the squared deviation grew with the
    distance. So what all tiles err more adds up to what was measured, and the few hard tiles do not decide alone.

    Args:
        log_distances: predicted (N, levels - 1).
        tiles: the same tiles, held out of the training.

    Returns:
        a and b of every level but the hardest: (levels - 1, 2).

    """
    weights = weigh(tiles)
    gains = []
    for level in range(log_distances.shape[1]):
        log = log_distances[:, level].astype(np.float64)
        root = np.sqrt(np.exp(log) * weights)
        terms = root[:, None] * np.stack([np.ones_like(log), log], axis=1)
        more = (tiles.errors[:, level] - tiles.errors[:, -1]) * weights
        gains.append(np.linalg.lstsq(terms, more / root)[0])
    return np.array(gains)
