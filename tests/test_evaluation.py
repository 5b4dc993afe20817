"""Evaluation gives the numbers that one works out by hand, and refuses pictures that are no pairs."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from classsr.costs import by_macs
from classsr.errors import InputError
from classsr.evaluation import Score, evaluate_folder, mean_score
from classsr.model import find_model
from classsr.resize import resize
from classsr.upscaler import Upscaler
from fakes import COLOUR, FakeBackend, enlarged_by_repetition, signing

Array = npt.NDArray[Any]


@pytest.fixture
def upscaler(monkeypatch: pytest.MonkeyPatch) -> Upscaler:
    """A bundled model on a backend that enlarges by repetition."""
    monkeypatch.setattr("classsr.upscaler.open_backend", lambda name, **options: FakeBackend())
    return Upscaler("fsrcnn-x4", costs=by_macs(find_model("fsrcnn-x4").config))


def smooth(height: int, width: int, *, phase: float = 0.0) -> Array:
    """A picture that survives being shrunk."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / 9 + phase + k) * np.cos(y / 7 + k) for k in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def save(folder: Path, **pictures: Array) -> Path:
    folder.mkdir(exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def inside(pixels: Array) -> Array:
    """Without the border of 4, in float."""
    return pixels[4:-4, 4:-4].astype(np.float64)


def luma(pixels: Array) -> Array:
    """BT.601 as MATLAB's documentation of rgb2ycbcr writes it."""
    red, green, blue = np.moveaxis(pixels / 255, 2, 0)
    return np.asarray(16 + 65.481 * red + 128.553 * green + 24.966 * blue)


def expected_psnr(sr: Array, hr: Array) -> tuple[float, float]:
    """scikit-image's PSNR on RGB and on luma."""
    sr, hr = inside(sr), inside(hr)
    on_rgb = peak_signal_noise_ratio(hr, sr, data_range=255)
    return float(on_rgb), float(peak_signal_noise_ratio(luma(hr), luma(sr), data_range=255))


def evaluate(upscaler: Upscaler, hr: Path, lr: Path | None = None, **options: Any) -> list[Score]:  # noqa: ANN401
    return list(evaluate_folder(upscaler, hr, lr, **{"route": "argmax", **options}))


# --- Numbers ---


def test_psnr_is_that_of_scikit_image_inside_a_border_of_four(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    hr = smooth(60, 84)
    lr = resize(hr, 1 / 4)

    (score,) = evaluate(upscaler, save(tmp_path / "hr", wave=hr))

    assert score.name == "wave"
    expected = expected_psnr(enlarged_by_repetition(lr), hr)
    assert (score.psnr_rgb, score.psnr_luma) == pytest.approx(expected)
    bicubic = expected_psnr(resize(lr, 4), hr)
    assert (score.bicubic_rgb, score.bicubic_luma) == pytest.approx(bicubic)


def test_given_lr_pictures_are_used(upscaler: Upscaler, tmp_path: Path) -> None:
    hr, lr = smooth(40, 48), smooth(10, 12, phase=1)

    (score,) = evaluate(upscaler, save(tmp_path / "hr", a=hr), save(tmp_path / "lr", a=lr))

    expected = expected_psnr(enlarged_by_repetition(lr), hr)
    assert (score.psnr_rgb, score.psnr_luma) == pytest.approx(expected)


def test_hr_is_cut_right_and_below_to_a_multiple_of_the_scale(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    hr = smooth(43, 50)

    (score,) = evaluate(upscaler, save(tmp_path / "hr", a=hr))

    whole = hr[:40, :48]
    expected = expected_psnr(enlarged_by_repetition(resize(whole, 1 / 4)), whole)
    assert (score.psnr_rgb, score.psnr_luma) == pytest.approx(expected)


@pytest.mark.parametrize(("longest", "size"), [(48, (32, 48)), (1000, (64, 96))])
def test_hr_is_shrunk_to_the_longest_side_but_never_enlarged(
    upscaler: Upscaler, tmp_path: Path, longest: int, size: tuple[int, int]
) -> None:
    hr = smooth(64, 96)

    (score,) = evaluate(upscaler, save(tmp_path / "hr", a=hr), longest=longest)

    # 24,336 multiply-accumulates per LR pixel: DESIGN.md, section 1.
    assert score.macs_hardest == size[0] * size[1] // 16 * 24_336


def test_cost_and_shares_are_those_of_the_upscaler(upscaler: Upscaler, tmp_path: Path) -> None:
    dark, bright = np.zeros((128, 128, 3), np.uint8), np.full((128, 256, 3), 255, np.uint8)

    (score,) = evaluate(upscaler, save(tmp_path / "hr", a=np.hstack([dark, bright])))

    assert score.shares == pytest.approx((1 / 3, 0, 2 / 3))
    assert score.macs == 36**2 * 10_656 + 38 * 70 * 24_336 + 3 * 3_801_184
    assert score.macs_hardest == 32 * 96 * 24_336
    assert score.seconds > 0


def test_the_route_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "classsr.upscaler.open_backend", lambda name, **options: FakeBackend(signing)
    )
    hr = np.full((32, 32, 3), COLOUR[1], np.uint8)

    (score,) = evaluate(Upscaler("fsrcnn-x4"), save(tmp_path / "hr", a=hr), route="1")

    assert score.shares == pytest.approx((0, 1, 0))
    assert score.psnr_rgb == math.inf


def test_pictures_come_in_the_order_of_their_names(upscaler: Upscaler, tmp_path: Path) -> None:
    folder = save(tmp_path / "hr", b=smooth(16, 16), a=smooth(16, 20), c=smooth(20, 16))

    assert [score.name for score in evaluate(upscaler, folder)] == ["a", "b", "c"]


# --- Pictures that are no pairs ---


def test_as_many_lr_as_hr_pictures_are_expected(upscaler: Upscaler, tmp_path: Path) -> None:
    hr = save(tmp_path / "hr", a=smooth(16, 16), b=smooth(16, 16))
    lr = save(tmp_path / "lr", a=smooth(4, 4))

    with pytest.raises(InputError, match="got 1 and 2"):
        evaluate(upscaler, hr, lr)


@pytest.mark.parametrize("size", [(5, 4), (4, 5), (8, 8), (16, 16)])
def test_an_lr_of_another_size_is_named_with_both_sizes(
    upscaler: Upscaler, tmp_path: Path, size: tuple[int, int]
) -> None:
    hr = save(tmp_path / "hr", a=smooth(16, 16))
    lr = save(tmp_path / "lr", a=smooth(*size))

    with pytest.raises(InputError) as caught:
        evaluate(upscaler, hr, lr)

    assert f"{lr / 'a.png'}" in str(caught.value)
    assert f"{size[1]}x{size[0]} for 16x16" in str(caught.value)


def test_an_empty_folder_is_named(upscaler: Upscaler, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        evaluate(upscaler, tmp_path)


# --- Means and lines ---


def score(name: str, number: float, shares: tuple[float, ...]) -> Score:
    return Score(
        name, number, number + 1, number + 2, number + 3, shares, 2e9, 4e9, number / 50, number / 10
    )


def test_the_mean_is_taken_of_every_number() -> None:
    scores = [score("a", 20, (0.0, 1.0)), score("b", 30, (0.5, 0.5)), score("c", 40, (1.0, 0.0))]

    assert mean_score(scores) == score("mean of 3", 30, (0.5, 0.5))


def test_the_mean_of_one_is_itself() -> None:
    assert mean_score([score("a", 20, (0.25, 0.75))]) == score("mean of 1", 20, (0.25, 0.75))


def test_a_line_tells_quality_shares_cost_and_time() -> None:
    line = score("kodim01", 27, (0.25, 0.75)).line()

    for told in ("kodim01", "RGB 27.00", "luma 28.00", "(bicubic 29.00)", "(30.00)", "25/75 %"):
        assert told in line
    assert "2.00 G of 4.00 G" in line
    assert "2.700 s" in line


# --- Against published numbers ---


@pytest.mark.parametrize(("name", "published"), [("Set5", 28.42), ("Set14", 26.09)])
def test_bicubic_gives_the_published_luma_psnr(
    upscaler: Upscaler, data: Path, name: str, published: float
) -> None:
    folder = data / "benchmark" / name

    mean = mean_score(evaluate(upscaler, folder / "HR", folder / "LR_x4"))

    # Set5: Kim et al., VDSR, CVPR 2016, table 2; Set14: ../shared/REFERENCE.md. LR by MATLAB's imresize in both.
    assert mean.bicubic_luma == pytest.approx(published, abs=0.03)
