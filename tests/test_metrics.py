"""PSNR, SSIM and luma agree with scikit-image, with MATLAB's formula and with hand-worked values."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from classsr import metrics
from classsr.errors import UsageError
from classsr.metrics import luma, psnr, ssim

Array = npt.NDArray[Any]


def noisy_pair(
    height: int, width: int, channels: int | None = 3, *, seed: int = 0
) -> tuple[Array, Array]:
    """A smooth uint8 reference with structure, and a copy with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    plane = 128 + 60 * np.sin(x / 7) + 50 * np.cos(y / 11)
    hr = plane if channels is None else np.stack([plane + 10 * c for c in range(channels)], axis=2)
    sr = hr + rng.normal(0, 12, hr.shape)
    return sr.clip(0, 255).astype(np.uint8), hr.clip(0, 255).astype(np.uint8)


def reference_ssim(sr: Array, hr: Array, *, data_range: float) -> float:
    value = structural_similarity(
        sr.astype(np.float64),
        hr.astype(np.float64),
        data_range=data_range,
        channel_axis=2 if sr.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )  # its mean leaves out the 5 pixels where the window does not fit
    return float(value)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize(("height", "width"), [(31, 47), (300, 64)])
def test_psnr_agrees_with_scikit_image(
    height: int, width: int, channels: int | None, border: int
) -> None:
    sr, hr = noisy_pair(height, width, channels)
    inner = (slice(border, height - border), slice(border, width - border))

    expected = peak_signal_noise_ratio(hr[inner], sr[inner], data_range=255)

    assert psnr(sr, hr, data_range=255, border=border) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize(("height", "width"), [(31, 47), (300, 64)])
def test_ssim_agrees_with_scikit_image(
    height: int, width: int, channels: int | None, border: int
) -> None:
    sr, hr = noisy_pair(height, width, channels)
    inner = (slice(border, height - border), slice(border, width - border))

    expected = reference_ssim(sr[inner], hr[inner], data_range=255)

    assert ssim(sr, hr, data_range=255, border=border) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window_agrees_with_scikit_image() -> None:
    sr, hr = noisy_pair(11, 11)

    expected = reference_ssim(sr, hr, data_range=255)

    assert ssim(sr, hr, data_range=255, border=0) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_constant_error_is_worked_by_hand() -> None:
    hr = np.full((8, 8), 100, np.uint8)
    sr = hr - np.uint8(5)

    value = psnr(sr, hr, data_range=255, border=0)

    assert value == pytest.approx(20 * math.log10(255 / 5))


def test_psnr_does_not_wrap_around_in_uint8() -> None:
    black = np.zeros((4, 4), np.uint8)
    white = np.full((4, 4), 255, np.uint8)

    assert psnr(black, white, data_range=255, border=0) == pytest.approx(0.0)


def test_psnr_of_uint16_does_not_overflow() -> None:
    black = np.zeros((4, 4, 3), np.uint16)
    white = np.full((4, 4, 3), 65535, np.uint16)

    assert psnr(white, black, data_range=65535, border=0) == pytest.approx(0.0)


def test_equal_images_score_infinite_and_one() -> None:
    _, hr = noisy_pair(20, 20)

    assert psnr(hr, hr, data_range=255, border=0) == math.inf
    assert ssim(hr, hr, data_range=255, border=0) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_border_pixels_do_not_count(metric: Any) -> None:  # noqa: ANN401
    sr, hr = noisy_pair(24, 30)
    spoilt = sr.copy()
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 0, 0, 0

    assert metric(spoilt, hr, data_range=255, border=4) == metric(sr, hr, data_range=255, border=4)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_the_size_of_bands_does_not_change_a_result(
    metric: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sr, hr = noisy_pair(50, 20)
    whole = metric(sr, hr, data_range=255, border=0)

    monkeypatch.setattr(metrics, "BAND_ROWS", 7)

    assert metric(sr, hr, data_range=255, border=0) == pytest.approx(whole, abs=1e-12)


@given(factor=st.floats(0.001, 1000), seed=st.integers(0, 99))
def test_scaling_values_and_range_together_changes_nothing(factor: float, seed: int) -> None:
    sr, hr = noisy_pair(16, 16, None, seed=seed)
    scaled_sr, scaled_hr = sr * factor, hr * factor

    for metric in (psnr, ssim):
        expected = metric(sr, hr, data_range=255, border=0)
        scaled = metric(scaled_sr, scaled_hr, data_range=255 * factor, border=0)
        assert scaled == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((51, 102, 153), 16 + 0.2 * 65.481 + 0.4 * 128.553 + 0.6 * 24.966),
    ],
)
def test_luma_is_matlabs_rgb2ycbcr(rgb: tuple[int, int, int], expected: float) -> None:
    image = np.array([[rgb]], np.uint8)

    assert luma(image)[0, 0] == pytest.approx(expected, abs=1e-9)


def test_luma_agrees_with_scikit_image_without_rounding() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)

    np.testing.assert_allclose(luma(rgb), rgb2ycbcr(rgb)[..., 0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("sr_shape", "hr_shape", "data_range", "border", "message"),
    [
        ((12, 12), (12, 13), 255, 0, r"one shape but got \(12, 12\) and \(12, 13\)"),
        ((12, 12, 3), (12, 12), 255, 0, "one shape"),
        ((12,), (12,), 255, 0, r"\(H, W\) or \(H, W, C\) but got \(12,\)"),
        ((1, 12, 12, 3), (1, 12, 12, 3), 255, 0, r"\(H, W\) or \(H, W, C\)"),
        ((12, 12), (12, 12), 0, 0, "data_range to be positive but got 0"),
        ((12, 12), (12, 12), math.nan, 0, "data_range to be positive but got nan"),
        ((12, 12), (12, 12), 255, -1, "border to be 0 or more pixels but got -1"),
        ((12, 12), (12, 12), 255, 6, "inside a border of 6 but got an image of 12x12"),
        ((0, 12), (0, 12), 255, 0, "but got an image of 12x0"),
        ((12, 12, 0), (12, 12, 0), 255, 0, "Expected pixels"),
    ],
)
def test_what_cannot_be_compared_is_named(
    metric: Any,  # noqa: ANN401
    sr_shape: tuple[int, ...],
    hr_shape: tuple[int, ...],
    data_range: float,
    border: int,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        metric(np.zeros(sr_shape), np.zeros(hr_shape), data_range=data_range, border=border)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    small = np.zeros((10, 40))

    with pytest.raises(UsageError, match=r"at least 11x11 pixels .* but got 40x10"):
        ssim(small, small, data_range=255, border=0)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float64)],
)
def test_luma_refuses_what_is_not_uint8_rgb(image: Array) -> None:
    with pytest.raises(UsageError, match=r"Expected an \(H, W, 3\) uint8 image for luma but got"):
        luma(image)
