"""How good and how expensive a model is on a folder of pictures.

SR is rounded to integers, a border of `scale` pixels is left out, and PSNR and SSIM are taken on RGB and on luma
(BT.601). An `Upscaler` with the paper's tiling is judged by the paper's protocol: of every picture only what full tiles
of 32 at step 28 cover, the remainder cut from SR and HR alike. Any other is judged on whole frames.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classsr.data.pairs import crop_to_multiple, to_eight_bit
from classsr.engine import PAPER_STEP
from classsr.errors import InputError
from classsr.image import find_pictures, open_picture, read
from classsr.metrics import SSIM_WINDOW, luma, psnr, ssim
from classsr.model import ModelConfig
from classsr.report import peak_mib
from classsr.resize import resize
from classsr.routing import AUTO
from classsr.upscaler import Upscaled, Upscaler

RGB8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Score:
    """Quality and cost on one picture, or their means over several.

    PSNR in dB, infinite where SR equals HR; `shares` of the tiles per level; `macs` and `macs_hardest` as in `Report`,
    overlap and Class-Module counted; `flops` and `flops_hardest` as `paper_flops` counts them; `seconds` from LR in
    memory to SR in memory; `peak_mib` the most memory that the process has held up to then.
    """

    name: str
    psnr_rgb: float
    psnr_luma: float
    ssim_rgb: float
    ssim_luma: float
    shares: tuple[float, ...]
    macs: float
    macs_hardest: float
    flops: float
    flops_hardest: float
    seconds: float
    peak_mib: float | None

    @property
    def cost(self) -> float:
        """Multiply-accumulates as a share of those of the hardest branch over the whole picture without overlap."""
        return self.macs / self.macs_hardest


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One picture, (H, W, 3) uint8 both, as it was compared, what the model made of it, and the score."""

    score: Score
    lr: RGB8
    hr: RGB8
    result: Upscaled


@dataclass(frozen=True, slots=True)
class Pair:
    """Where HR lies, and LR unless it has to be made."""

    hr: Path
    lr: Path | None


def find_pairs(hr_folder: Path, lr_folder: Path | None) -> list[Pair]:
    """Find the pictures of a folder, and for each its LR.

    The LR of baby.png is called baby, babyx4, baby_x4 or baby_LR; that of img_HR.png also img_LR.

    Raises:
        InputError: a folder is missing or empty, or LR and HR do not match in number or name.

    """
    hr_paths = find_pictures(hr_folder)
    if lr_folder is None:
        return [Pair(path, None) for path in hr_paths]
    lr_paths = find_pictures(lr_folder)
    if len(lr_paths) != len(hr_paths):
        raise InputError(
            f"Expected as many pictures in {lr_folder} as in {hr_folder} but got {len(lr_paths)} and {len(hr_paths)}."
        )
    if [path.stem for path in lr_paths] == [path.stem for path in hr_paths]:
        return [Pair(hr, lr) for hr, lr in zip(hr_paths, lr_paths, strict=True)]
    by_name = {_common_name(path): path for path in lr_paths}
    pairs = []
    for hr_path in hr_paths:
        lr_path = by_name.pop(_common_name(hr_path), None)
        if lr_path is None:
            raise InputError(f"Expected the LR of {hr_path} in {lr_folder} but none has its name.")
        pairs.append(Pair(hr_path, lr_path))
    return pairs


def _common_name(path: Path) -> str:
    """Return what LR and HR of one picture are both called."""
    return re.sub(r"(?<=.)[-_ ]?(x\d|lr|hr)$", "", path.stem, flags=re.IGNORECASE)


def evaluate_folder(
    upscaler: Upscaler,
    hr_folder: Path,
    lr_folder: Path | None = None,
    *,
    route: str = AUTO,
    budget: str | float | None = None,
    max_loss: float | None = None,
    longest: int | None = None,
) -> Iterator[Evaluated]:
    """Check that all pictures fit, then enlarge the LR of every HR picture, when its turn comes, and compare.

    Args:
        upscaler: the model; its tiling decides the protocol.
        hr_folder: HR pictures, cropped right and bottom to multiples of the scale.
        lr_folder: LR pictures; made with MATLAB-style bicubic by default.
        route: as for `Upscaler.upscale`.
        budget: as for `Upscaler.upscale`.
        max_loss: as for `Upscaler.upscale`.
        longest: shrink HR pictures to this long side first.

    Raises:
        InputError: a folder is empty, LR and HR do not match in number, name or size, or a picture is too small.

    """
    pairs = find_pairs(hr_folder, lr_folder)
    for pair in pairs:
        _check(pair, upscaler, longest)
    asked: dict[str, Any] = {"route": route, "budget": budget, "max_loss": max_loss}
    # None is held here, so that it can go before the next one comes.
    return (
        _evaluate(pair, upscaler, longest, asked, is_first=number == 0)
        for number, pair in enumerate(pairs)
    )


def _check(pair: Pair, upscaler: Upscaler, longest: int | None) -> None:
    """Check by their headers that LR and HR fit, and that there is something to compare."""
    config = upscaler.model.config
    scale = config.scale
    with open_picture(pair.hr) as opened:
        height, width = opened.header.height, opened.header.width
    if longest is not None and max(height, width) > longest:
        factor = longest / max(height, width)
        height, width = math.ceil(factor * height), math.ceil(factor * width)  # as `resize` does
    height, width = height // scale * scale, width // scale * scale
    least = 2 * scale + SSIM_WINDOW
    if upscaler.tiling == "paper":
        least = max(least, config.tile * scale)
    if min(height, width) < least:
        raise InputError(
            f"Expected at least {least}x{least} pixels to compare in {pair.hr} but got {width}x{height}."
        )
    if pair.lr is None:
        return
    with open_picture(pair.lr) as opened:
        lr_height, lr_width = opened.header.height, opened.header.width
    if (lr_height * scale, lr_width * scale) != (height, width):
        raise InputError(
            f"Expected {pair.lr} to be 1/{scale} of {pair.hr} but got {lr_width}x{lr_height} for {width}x{height}."
        )


def _evaluate(
    pair: Pair, upscaler: Upscaler, longest: int | None, asked: dict[str, Any], *, is_first: bool
) -> Evaluated:
    """Enlarge and compare one picture, which has been checked."""
    config = upscaler.model.config
    scale = config.scale
    hr = read_hr(pair.hr, scale=scale, longest=longest)
    lr = resize(hr, 1 / scale) if pair.lr is None else to_eight_bit(read(pair.lr).rgb)
    if upscaler.tiling == "paper":
        height, width = (full_tiles(side, config.tile)[1] for side in lr.shape[:2])
        lr, hr = lr[:height, :width], hr[: height * scale, : width * scale]
    if is_first:  # which shall not pay for loading the networks
        upscaler.upscale(lr, **asked)
    result = upscaler.upscale(lr, **asked)
    return Evaluated(judge(pair.hr.stem, config, result, hr), lr, hr, result)


def full_tiles(side: int, tile: int) -> tuple[int, int]:
    """Return how many of the paper's tiles fit into a side of so many LR pixels, and how many of them they cover."""
    step = min(PAPER_STEP, tile)
    count = (side - tile) // step + 1
    return count, (count - 1) * step + tile


def paper_flops(config: ModelConfig) -> tuple[float, ...]:
    """Return what the papers print as the FLOPs of each level for one tile, without overlap.

    Two for each multiply-accumulate of the branch. FSRCNN's transposed convolution counts at every HR pixel, as in the
    papers, which is scale**2 times what it takes: 468 M for FSRCNN-56 instead of 50 M.
    """
    return tuple(
        2
        * config.tile**2
        * (level.macs_per_pixel + _overcounted(level.network, level.width, config.scale))
        for level in config.levels
    )


def _overcounted(network: str, width: int | None, scale: int) -> int:
    """Return multiply-accumulates per LR pixel of FSRCNN's 9x9 transposed convolution that are never computed."""
    return (width or 0) * 9 * 9 * 3 * (scale**2 - 1) if network == "fsrcnn" else 0


def read_hr(path: Path, *, scale: int, longest: int | None = None) -> RGB8:
    """Read an HR picture, shrink its long side to `longest` if it is longer, and crop it to multiples of `scale`."""
    hr = to_eight_bit(read(path).rgb)
    if longest is not None and max(hr.shape) > longest:
        hr = resize(hr, longest / max(hr.shape))
    return crop_to_multiple(hr, scale)


def judge(name: str, config: ModelConfig, result: Upscaled, hr: RGB8) -> Score:
    """Compare what a model made of a picture with HR, (H, W, 3) uint8."""
    report, sr = result.report, result.image
    border = config.scale
    flops = paper_flops(config)
    judging = 2 * config.classifier.macs if config.classifier else 0
    luma_sr, luma_hr = luma(sr), luma(hr)
    return Score(
        name=name,
        psnr_rgb=psnr(sr, hr, data_range=255, border=border),
        psnr_luma=psnr(luma_sr, luma_hr, data_range=255, border=border),
        ssim_rgb=ssim(sr, hr, data_range=255, border=border),
        ssim_luma=ssim(luma_sr, luma_hr, data_range=255, border=border),
        shares=report.shares,
        macs=report.macs,
        macs_hardest=report.macs_hardest,
        flops=float(np.dot(report.shares, flops)) + judging * report.judged / sum(report.tiles),
        flops_hardest=flops[-1],
        seconds=report.seconds.total,
        peak_mib=peak_mib(),
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean over pictures of every number; of the memory the most."""
    means: dict[str, Any] = {"name": f"mean of {len(scores)}"}
    for field in fields(Score)[1:-1]:
        values = np.array([getattr(score, field.name) for score in scores], np.float64)
        mean = values.mean(axis=0)
        means[field.name] = tuple(mean.tolist()) if mean.ndim else float(mean)
    peaks = [score.peak_mib for score in scores if score.peak_mib is not None]
    return Score(**means, peak_mib=max(peaks, default=None))
