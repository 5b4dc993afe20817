"""Evaluation gives the numbers that one works out by hand, and refuses pictures that are no pairs."""

import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from classsr.backends.base import Floats
from classsr.checkpoint import save_branch
from classsr.costs import by_macs
from classsr.errors import InputError
from classsr.evaluation import (
    Score,
    evaluate_folder,
    find_pairs,
    full_tiles,
    mean_score,
    paper_flops,
    read_hr,
)
from classsr.export import export_model
from classsr.flops import count_macs
from classsr.foreign import read_foreign
from classsr.model import Level, find_model
from classsr.networks import BranchSpec, build_branch
from classsr.resize import resize
from classsr.upscaler import Upscaler
from fakes import COLOUR, FakeBackend, enlarged_by_repetition, repeat, signing
from research import drawn

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
    given = evaluate_folder(upscaler, hr, lr, **{"route": "argmax", **options})
    return [each.score for each in given]


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


def test_ssim_is_that_of_scikit_image_inside_a_border_of_four(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    hr = smooth(60, 84)
    sr = enlarged_by_repetition(resize(hr, 1 / 4))

    (score,) = evaluate(upscaler, save(tmp_path / "hr", wave=hr))

    # Where its window of 11 fits; scikit-image leaves the rest out too, but only of the mean.
    asked: dict[str, Any] = {
        "data_range": 255,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    on_rgb = structural_similarity(inside(hr), inside(sr), channel_axis=2, **asked)
    on_luma = structural_similarity(luma(inside(hr)), luma(inside(sr)), **asked)
    assert (score.ssim_rgb, score.ssim_luma) == pytest.approx((on_rgb, on_luma), abs=1e-9)


def test_what_was_compared_is_handed_over(upscaler: Upscaler, tmp_path: Path) -> None:
    hr = smooth(43, 50)

    (found,) = evaluate_folder(upscaler, save(tmp_path / "hr", a=hr), route="argmax")

    np.testing.assert_array_equal(found.hr, hr[:40, :48])
    np.testing.assert_array_equal(found.lr, resize(hr[:40, :48], 1 / 4))
    np.testing.assert_array_equal(found.result.image, enlarged_by_repetition(found.lr))


def test_loading_the_networks_is_nobody_s_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = FakeBackend()
    monkeypatch.setattr("classsr.upscaler.open_backend", lambda name, **options: backend)
    folder = save(tmp_path / "hr", a=smooth(40, 40), b=smooth(40, 40))

    evaluate(Upscaler("fsrcnn-x4"), folder, route="hardest")

    assert backend.loaded == [2]
    assert len(backend.calls) == 3  # the first picture twice


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
    assert score.macs == 36**2 * 10_656 + 40 * 72 * 24_336 + 3 * 3_801_184
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
    folder = save(tmp_path / "hr", b=smooth(20, 20), a=smooth(20, 24), c=smooth(24, 20))

    assert [score.name for score in evaluate(upscaler, folder)] == ["a", "b", "c"]


# --- Pictures that are no pairs ---


def test_as_many_lr_as_hr_pictures_are_expected(upscaler: Upscaler, tmp_path: Path) -> None:
    hr = save(tmp_path / "hr", a=smooth(20, 20), b=smooth(20, 20))
    lr = save(tmp_path / "lr", a=smooth(5, 5))

    with pytest.raises(InputError, match="got 1 and 2"):
        evaluate(upscaler, hr, lr)


@pytest.mark.parametrize("size", [(6, 5), (5, 6), (10, 10), (20, 20)])
def test_an_lr_of_another_size_is_named_with_both_sizes(
    upscaler: Upscaler, tmp_path: Path, size: tuple[int, int]
) -> None:
    hr = save(tmp_path / "hr", a=smooth(20, 20))
    lr = save(tmp_path / "lr", a=smooth(*size))

    with pytest.raises(InputError) as caught:
        evaluate(upscaler, hr, lr)

    assert f"{lr / 'a.png'}" in str(caught.value)
    assert f"{size[1]}x{size[0]} for 20x20" in str(caught.value)


@pytest.mark.parametrize("lr", ["a", "ax4", "a_x4", "a-LR", "a_lr"])
@pytest.mark.parametrize("hr", ["a", "a_HR"])
def test_lr_and_hr_are_paired_by_name(tmp_path: Path, hr: str, lr: str) -> None:
    hr_folder = save(tmp_path / "hr", **{hr: smooth(20, 20), "b": smooth(20, 20)})
    lr_folder = save(tmp_path / "lr", **{lr: smooth(5, 5), "b": smooth(5, 5)})

    pairs = find_pairs(hr_folder, lr_folder)

    assert {(pair.hr.stem, pair.lr.stem) for pair in pairs if pair.lr} == {(hr, lr), ("b", "b")}


def test_names_that_are_the_same_need_no_guessing(tmp_path: Path) -> None:
    names = ("photo", "photo_x2")
    hr_folder = save(tmp_path / "hr", **{name: smooth(20, 20) for name in names})
    lr_folder = save(tmp_path / "lr", **{name: smooth(5, 5) for name in names})

    pairs = find_pairs(hr_folder, lr_folder)

    assert [(pair.hr.stem, pair.lr.stem) for pair in pairs if pair.lr] == [(n, n) for n in names]


def test_one_lr_does_not_serve_two_pictures(tmp_path: Path) -> None:
    hr_folder = save(tmp_path / "hr", photo=smooth(20, 20), photo_hr=smooth(20, 20))
    lr_folder = save(tmp_path / "lr", photo_lr=smooth(5, 5), other=smooth(5, 5))

    with pytest.raises(InputError, match=r"LR of .*photo_hr\.png"):
        find_pairs(hr_folder, lr_folder)


def test_what_does_not_fit_is_told_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = FakeBackend()
    monkeypatch.setattr("classsr.upscaler.open_backend", lambda name, **options: backend)
    hr = save(tmp_path / "hr", a=smooth(40, 40), b=smooth(40, 40))
    lr = save(tmp_path / "lr", a=smooth(10, 10), b=smooth(10, 11))

    with pytest.raises(InputError, match=r"b\.png .* got 11x10 for 40x40"):
        evaluate(Upscaler("fsrcnn-x4"), hr, lr, route="hardest")

    assert backend.calls == []


@pytest.mark.parametrize("longest", [37, 48, 95])
def test_the_size_of_a_shrunk_picture_is_known_beforehand(
    upscaler: Upscaler, tmp_path: Path, longest: int
) -> None:
    folder = save(tmp_path / "hr", a=smooth(61, 96))
    hr = read_hr(folder / "a.png", scale=4, longest=longest)
    lr = save(tmp_path / "lr", a=resize(hr, 1 / 4))

    (score,) = evaluate(upscaler, folder, lr, longest=longest)

    assert score.macs_hardest == hr.shape[0] * hr.shape[1] // 16 * 24_336


def test_a_picture_can_go_before_the_next_one_comes(upscaler: Upscaler, tmp_path: Path) -> None:
    folder = save(tmp_path / "hr", a=smooth(40, 40), b=smooth(40, 40))
    found = evaluate_folder(upscaler, folder, route="argmax")

    first = weakref.ref(next(found).hr)

    assert first() is None


def test_an_lr_of_another_name_is_no_pair(upscaler: Upscaler, tmp_path: Path) -> None:
    hr = save(tmp_path / "hr", baby=smooth(20, 20))
    lr = save(tmp_path / "lr", bird=smooth(5, 5))

    with pytest.raises(InputError, match=r"LR of .*baby\.png"):
        evaluate(upscaler, hr, lr)


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
def test_a_picture_without_pixels_to_compare_is_named(
    upscaler: Upscaler, tmp_path: Path, size: tuple[int, int]
) -> None:
    folder = save(tmp_path / "hr", tiny=smooth(*size))

    with pytest.raises(InputError, match=r"at least 19x19 pixels .*tiny\.png but got"):
        evaluate(upscaler, folder)


def test_an_empty_folder_is_named(upscaler: Upscaler, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        evaluate(upscaler, tmp_path)


# --- The paper's protocol ---


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((128, 128), 1, 1),
        ((128 + 111, 128 + 112), 1, 2),
        ((1080, 2040), 9, 18),  # LR 270 x 510, of which 256 x 508
        ((2160, 4096), 19, 36),  # LR 540 x 1024, of which 536 x 1012
    ],
)
def test_only_full_tiles_count(size: tuple[int, int], rows: int, columns: int) -> None:
    height, width = (side // 4 for side in size)

    assert full_tiles(height, 32) == (rows, 32 + 28 * (rows - 1))
    assert full_tiles(width, 32) == (columns, 32 + 28 * (columns - 1))


def test_a_2k_frame_loses_its_border_to_the_paper_s_protocol() -> None:
    kept = full_tiles(270, 32)[1] * full_tiles(510, 32)[1]

    assert 1 - kept / (270 * 510) == pytest.approx(0.056, abs=5e-4)


def vignetting(batch: Floats, level: int) -> Floats:
    """A network that sees where in its window a pixel lies, as zero padding lets real ones do."""
    sr = repeat(batch)
    down = np.linspace(0, 0.3, sr.shape[2], dtype=np.float32)[:, None]
    vignetted: Floats = np.float32(0.7) * sr + down
    return vignetted


def test_the_paper_s_protocol_is_what_a_slow_loop_finds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "classsr.upscaler.open_backend", lambda name, **options: FakeBackend(vignetting)
    )
    hr = smooth(302, 407)  # LR 75 x 101: two tiles down, three across, the rest is cut
    lr = resize(hr[:300, :404], 1 / 4)

    (found,) = evaluate_folder(
        Upscaler("fsrcnn-x4", tiling="paper"), save(tmp_path / "hr", a=hr), route="argmax"
    )

    total, count = np.zeros((4 * 60, 4 * 88, 3)), np.zeros((4 * 60, 4 * 88, 1))
    for top in (0, 28):
        for left in (0, 28, 56):
            tile = np.asarray(lr[top : top + 32, left : left + 32] / 255, np.float32)
            sr = vignetting(tile.transpose(2, 0, 1)[None], 0)[0].transpose(1, 2, 0)
            total[4 * top : 4 * top + 128, 4 * left : 4 * left + 128] += sr
            count[4 * top : 4 * top + 128, 4 * left : 4 * left + 128] += 1
    average = (255 * total / count).round()
    assert np.abs(found.result.image - average).max() <= 1  # where 0.5 is rounded the other way
    kept = hr[: 4 * 60, : 4 * 88]
    np.testing.assert_array_equal(found.hr, kept)
    assert found.score.psnr_rgb == pytest.approx(expected_psnr(average, kept)[0], abs=2e-3)
    assert sum(found.result.report.tiles) == 6


def test_the_paper_s_protocol_needs_a_tile(upscaler: Upscaler, tmp_path: Path) -> None:
    upscaler = Upscaler("fsrcnn-x4", tiling="paper")

    with pytest.raises(InputError, match="at least 128x128 pixels"):
        evaluate(upscaler, save(tmp_path / "hr", a=smooth(124, 200)))


@pytest.mark.parametrize(
    ("network", "printed"),
    [  # million FLOPs as ClassSR prints them for a tile of 32: DESIGN.md, section 1
        ("fsrcnn", {16: 141, 36: 304, 56: 468}),
        ("carn", {36: 380, 52: 772, 64: 1_155}),
        ("srresnet", {36: 1_658, 52: 3_438, 64: 5_194}),
    ],
)
def test_flops_are_those_that_the_papers_print(network: str, printed: dict[int, int]) -> None:
    levels = []
    for width in printed:
        branch = build_branch(BranchSpec(network, width, 4))
        macs = count_macs(branch, 32, 32) // 32**2
        levels.append(Level(network, width, "", 0, macs, None, 4))
    config = replace(find_model("fsrcnn-x4").config, levels=tuple(levels))

    found = [flops / 1e6 for flops in paper_flops(config)]

    assert found == pytest.approx(list(printed.values()), abs=1)


def test_flops_of_a_picture_are_the_mean_over_its_tiles(upscaler: Upscaler, tmp_path: Path) -> None:
    dark, bright = np.zeros((128, 128, 3), np.uint8), np.full((128, 256, 3), 255, np.uint8)

    (score,) = evaluate(upscaler, save(tmp_path / "hr", a=np.hstack([dark, bright])))

    branches = (141.2e6 + 2 * 467.9e6) / 3
    assert score.flops == pytest.approx(branches + 7.6e6, rel=1e-3)  # the Class-Module's 7.6 M
    assert score.flops_hardest == pytest.approx(467.9e6, rel=1e-3)


def test_without_judging_the_class_module_costs_nothing(upscaler: Upscaler, tmp_path: Path) -> None:
    (score,) = evaluate(upscaler, save(tmp_path / "hr", a=smooth(40, 40)), route="hardest")

    assert score.flops == score.flops_hardest


# --- Means ---


def score(name: str, number: float, shares: tuple[float, ...]) -> Score:
    return Score(
        name=name,
        psnr_rgb=number,
        psnr_luma=number + 1,
        ssim_rgb=number / 100,
        ssim_luma=number / 50,
        shares=shares,
        macs=2 * number,
        macs_hardest=4 * number,
        flops=3 * number,
        flops_hardest=5 * number,
        seconds=number / 10,
        peak_mib=number,
    )


def test_the_mean_is_taken_of_every_number_but_the_memory() -> None:
    scores = [score("a", 20, (0.0, 1.0)), score("b", 30, (0.5, 0.5)), score("c", 40, (1.0, 0.0))]

    expected = replace(score("mean of 3", 30, (0.5, 0.5)), peak_mib=40)
    assert mean_score(scores) == expected


def test_the_mean_of_one_is_itself() -> None:
    assert mean_score([score("a", 20, (0.25, 0.75))]) == score("mean of 1", 20, (0.25, 0.75))


def test_memory_that_no_system_tells_has_no_mean() -> None:
    assert mean_score([replace(score("a", 20, (1.0,)), peak_mib=None)]).peak_mib is None


# --- Against published numbers ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published", "within"),
    [("Set5", 28.42, 0.03), ("Set14", 26.05, 0.06), ("BSD100", 25.96, 0.03)],
)
def test_the_model_bicubic_gives_the_published_luma_psnr(
    data: Path, name: str, published: float, within: float
) -> None:
    folder = data / "benchmark" / name
    shipped = folder / "LR_x4"

    found = evaluate(Upscaler("bicubic"), folder / "HR", shipped if shipped.is_dir() else None)

    # Set5 and BSD100: Kim et al., VDSR, CVPR 2016, table 2; Set14: 26.00 to 26.10. LR by MATLAB's imresize.
    assert mean_score(found).psnr_luma == pytest.approx(published, abs=within)


@pytest.mark.parametrize("network", ["fsrcnn", "carn", "srresnet"])
def test_what_was_trained_elsewhere_is_evaluated_like_our_own(network: str, tmp_path: Path) -> None:
    torch.save(drawn(network), tmp_path / "theirs.pth")
    imported = read_foreign(tmp_path / "theirs.pth")
    (spec,) = imported.specs
    save_branch(imported.model, spec, tmp_path / "branch.safetensors")
    export_model(
        tmp_path / "branch.safetensors", tmp_path / "model", name="theirs", tile=32, halos=[4]
    )
    hr = smooth(64, 80)

    (score,) = evaluate(Upscaler(str(tmp_path / "model")), save(tmp_path / "hr", a=hr))

    lr = resize(hr, 1 / 4)
    x = torch.from_numpy(np.pad(lr, ((4, 4), (4, 4), (0, 0)), mode="edge") / np.float32(255))
    with torch.no_grad():
        sr = imported.model(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0).clamp(0, 1).numpy()
    expected = expected_psnr((255 * sr[16:-16, 16:-16]).round(), hr)
    assert score.psnr_rgb == pytest.approx(expected[0], abs=0.05)
