"""How good and how expensive a model is on a folder of pictures: whole frames, nothing cropped but the border.

SR is rounded to integers, a border of `scale` pixels is left out, and PSNR is taken on RGB and on luma (BT.601).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classsr.data.pairs import crop_to_multiple, to_eight_bit
from classsr.errors import InputError
from classsr.image import find_pictures, read
from classsr.metrics import luma, psnr
from classsr.resize import resize
from classsr.routing import AUTO
from classsr.upscaler import Upscaled, Upscaler


@dataclass(frozen=True, slots=True)
class Score:
    """Quality and cost on one picture, or their means over several.

    PSNR in dB; `macs`, `macs_hardest` and `cost` as in `Report`; `shares` of the tiles per level; `seconds` from LR in
    memory to SR in memory.
    """

    name: str
    psnr_rgb: float
    psnr_luma: float
    bicubic_rgb: float
    bicubic_luma: float
    shares: tuple[float, ...]
    macs: float
    macs_hardest: float
    cost: float
    seconds: float

    def line(self) -> str:
        """Say it in one line."""
        shares = "/".join(f"{100 * share:.0f}" for share in self.shares)
        return (
            f"{self.name:<24.24} RGB {self.psnr_rgb:.2f} (bicubic {self.bicubic_rgb:.2f})  "
            f"luma {self.psnr_luma:.2f} ({self.bicubic_luma:.2f})  levels {shares} %  "
            f"MACs {self.macs / 1e9:.2f} G of {self.macs_hardest / 1e9:.2f} G  {self.seconds:.3f} s"
        )


def evaluate_folder(
    upscaler: Upscaler,
    hr_folder: Path,
    lr_folder: Path | None,
    *,
    route: str = AUTO,
    budget: str | float | None = None,
    max_loss: float | None = None,
    longest: int | None = None,
) -> Iterator[Score]:
    """Enlarge the LR of every HR picture and compare.

    Args:
        upscaler: the model.
        hr_folder: HR pictures, cropped right and bottom to multiples of the scale.
        lr_folder: LR pictures in the same order of names; made with MATLAB-style bicubic by default.
        route: as for `Upscaler.upscale`.
        budget: as for `Upscaler.upscale`.
        max_loss: as for `Upscaler.upscale`.
        longest: shrink HR pictures to this long side first.

    Raises:
        InputError: a folder is empty, or LR and HR do not match in number or size.

    """
    hr_paths = find_pictures(hr_folder)
    lr_paths: Sequence[Path | None] = [None] * len(hr_paths)
    if lr_folder is not None:
        lr_paths = find_pictures(lr_folder)
        if len(lr_paths) != len(hr_paths):
            raise InputError(
                f"Expected as many pictures in {lr_folder} as in {hr_folder} but got {len(lr_paths)} "
                f"and {len(hr_paths)}."
            )
    scale = upscaler.model.config.scale
    for hr_path, lr_path in zip(hr_paths, lr_paths, strict=True):
        hr = read_hr(hr_path, scale=scale, longest=longest)
        lr = resize(hr, 1 / scale) if lr_path is None else to_eight_bit(read(lr_path).rgb)
        if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            raise InputError(
                f"Expected {lr_path} to be 1/{scale} of {hr_path} but got {lr.shape[1]}x{lr.shape[0]} "
                f"for {hr.shape[1]}x{hr.shape[0]}."
            )
        result = upscaler.upscale(lr, route=route, budget=budget, max_loss=max_loss)
        yield _score(hr_path.stem, result, lr, hr)


def read_hr(path: Path, *, scale: int, longest: int | None = None) -> NDArray[np.uint8]:
    """Read an HR picture, shrink its long side to `longest` if it is longer, and crop it to multiples of `scale`."""
    hr = to_eight_bit(read(path).rgb)
    if longest is not None and max(hr.shape) > longest:
        hr = resize(hr, longest / max(hr.shape))
    return crop_to_multiple(hr, scale)


def _score(name: str, result: Upscaled, lr: NDArray[Any], hr: NDArray[Any]) -> Score:
    report, scale = result.report, result.report.scale
    (rgb, y), (bicubic_rgb, bicubic_y) = (
        _psnr_pair(sr, hr, border=scale) for sr in (result.image, resize(lr, scale))
    )
    return Score(
        name=name,
        psnr_rgb=rgb,
        psnr_luma=y,
        bicubic_rgb=bicubic_rgb,
        bicubic_luma=bicubic_y,
        shares=report.shares,
        macs=report.macs,
        macs_hardest=report.macs_hardest,
        cost=report.cost,
        seconds=report.seconds.total,
    )


def _psnr_pair(sr: NDArray[Any], hr: NDArray[Any], *, border: int) -> tuple[float, float]:
    """Return PSNR on RGB and on luma."""
    on_rgb = psnr(sr, hr, data_range=255, border=border)
    return on_rgb, psnr(luma(sr), luma(hr), data_range=255, border=border)


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean over pictures of every number."""
    means: dict[str, Any] = {"name": f"mean of {len(scores)}"}
    for field in fields(Score)[1:]:
        values = np.array([getattr(score, field.name) for score in scores], np.float64)
        mean = values.mean(axis=0)
        means[field.name] = tuple(mean.tolist()) if mean.ndim else float(mean)
    return Score(**means)
