"""The shipped model is as good as the README says: luma PSNR of whole pictures, LR by imresize, border of 4."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from classsr.evaluation import Score, evaluate_folder, mean_score
from classsr.upscaler import Upscaler

pytestmark = pytest.mark.slow

# A public FSRCNN of the same size reaches 30.69, 27.69, 26.98 and 28.26, bicubic 28.43, 26.09, 25.96 and 27.23.
# What the shipped weights reach in bf16 and in f32, rounded down: nothing may fall below.
REACHED = {"Set5": 30.55, "Set14": 27.57, "BSD100": 26.9, "Kodak24": 28.15}
LOSS = 0.03  # dB that routing may lose against the hardest branch everywhere
LEAST = 0.05  # share of the tiles that every level gets

Measure = Callable[[str, str], Score]


@pytest.fixture(scope="module")
def measure(data: Path) -> Measure:
    """Mean score of the shipped model on a benchmark at a route."""
    upscaler = Upscaler()

    @cache
    def mean(name: str, route: str) -> Score:
        folder = data / "benchmark" / name
        shipped = folder / "LR_x4"
        lr = shipped if shipped.is_dir() else None
        scores = evaluate_folder(upscaler, folder / "HR", lr, route=route)
        return mean_score(list(scores))

    return mean


@pytest.mark.parametrize("name", REACHED)
def test_the_shipped_model_keeps_its_psnr(measure: Measure, name: str) -> None:
    assert measure(name, "auto").psnr_luma >= REACHED[name]


@pytest.mark.parametrize("name", REACHED)
def test_routing_loses_next_to_nothing_against_the_hardest_branch(
    measure: Measure, name: str
) -> None:
    auto, hardest = measure(name, "auto"), measure(name, "hardest")

    assert auto.psnr_luma >= hardest.psnr_luma - LOSS
    assert auto.psnr_rgb >= hardest.psnr_rgb - LOSS


def test_every_level_is_used(measure: Measure) -> None:
    assert min(measure("Kodak24", "auto").shares) >= LEAST
