"""The shipped models are as good as their cards say: PSNR of whole pictures, LR by imresize, a border of the scale."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from classsr.costs import by_macs
from classsr.evaluation import Score, evaluate_folder, mean_score
from classsr.image import find_pictures
from classsr.model import bundled_models, find_model
from classsr.upscaler import Upscaler

pytestmark = pytest.mark.slow

# What the shipped weights reach in luma, in bf16 and in f32, rounded down: nothing may fall below. Bicubic reaches
# 28.43, 26.09, 25.96 and 27.23, a public FSRCNN 30.69, 27.69, 26.98 and 28.26, a public CARN-M 31.82, 28.43, 27.43
# and 28.78.
# At x2 bicubic reaches 33.67 and 30.32, FSRCNN in its paper 37.00 and 32.63.
REACHED = {
    "carn-x4": {"Set5": 31.24, "Set14": 28.01, "BSD100": 27.16, "Kodak24": 28.44},
    "compact-x2": {"Set5": 37.3, "Set14": 33.0},
    "compact-x4": {"Set5": 31.4, "Set14": 28.12, "BSD100": 27.25, "Kodak24": 28.52},
    "fsrcnn-x4": {"Set5": 30.58, "Set14": 27.62, "BSD100": 26.93, "Kodak24": 28.18},
}
LOSS = 0.03  # dB that routing may lose against the hardest branch everywhere
LEAST = 0.05  # share of the tiles that every level gets

every_model_and_set = pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model, sets in REACHED.items() for name in sets]
)

Measure = Callable[[str, str, str], Score]


@pytest.fixture(scope="module")
def measure(data: Path) -> Measure:
    """Mean score of a shipped model on a benchmark at a route."""

    @cache
    def mean(model: str, name: str, route: str) -> Score:
        upscaler, folder = Upscaler(model), data / "benchmark" / name
        shipped = folder / f"LR_x{upscaler.model.config.scale}"
        lr = shipped if shipped.is_dir() else None
        scores = evaluate_folder(upscaler, folder / "HR", lr, route=route)
        return mean_score([each.score for each in scores])

    return mean


def test_every_shipped_model_is_measured() -> None:
    assert (
        sorted([*REACHED, "bicubic"]) == bundled_models()
    )  # which is measured in test_evaluation.py


@every_model_and_set
def test_a_shipped_model_keeps_its_psnr(measure: Measure, model: str, name: str) -> None:
    assert measure(model, name, "auto").psnr_luma >= REACHED[model][name]


@every_model_and_set
def test_routing_loses_next_to_nothing_against_the_hardest_branch(
    measure: Measure, model: str, name: str
) -> None:
    auto, hardest = measure(model, name, "auto"), measure(model, name, "hardest")

    assert auto.psnr_luma >= hardest.psnr_luma - LOSS
    assert auto.psnr_rgb >= hardest.psnr_rgb - LOSS


def test_every_level_of_fsrcnn_x4_is_judged_likeliest_somewhere(data: Path) -> None:
    upscaler = Upscaler("fsrcnn-x4", tiling="paper")  # no tile goes along with its neighbours

    scores = evaluate_folder(upscaler, data / "benchmark" / "Kodak24" / "HR", None, route="argmax")

    assert min(mean_score([each.score for each in scores]).shares) >= LEAST


def test_every_level_of_compact_x4_is_used_where_pictures_have_smooth_parts(
    data: Path, tmp_path: Path
) -> None:
    for path in find_pictures(data / "large" / "4k")[:3]:
        shutil.copy(path, tmp_path)

    # Not by the clock: where a processor runs narrow networks badly, the planner is right to leave them out.
    costs = by_macs(find_model("compact-x4").config)
    scores = evaluate_folder(Upscaler("compact-x4", costs=costs), tmp_path, None, longest=3840)

    shares = mean_score([each.score for each in scores]).shares
    # Integers cost as many multiply-accumulates as floats: where the next level has as many, it is the better one.
    macs = [level.macs_per_pixel for level in find_model("compact-x4").config.levels]
    needed = [share for k, share in enumerate(shares) if macs[k] not in macs[k + 1 :]]
    assert len(needed) == 4
    assert min(needed) >= LEAST
