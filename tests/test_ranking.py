"""Ranking orders patches as scikit-image's PSNR does, cuts equal classes and refuses other pairs."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from classsr.data.pairs import Pairs
from classsr.data.patches import Patches, find_patches, read_patches
from classsr.data.ranking import (
    BORDER,
    PSNR_CEILING,
    Provenance,
    Ranking,
    load_ranking,
    patch_psnr,
    quantile_borders,
    rank,
    save_ranking,
)
from classsr.errors import InputError, UsageError
from classsr.upscaler import Upscaler
from fakes import FakeBackend
from pictures import Array, landscape, noise, pairs_in_memory

SCALE = 2


def nearest(lr: Array) -> Array:
    """A reference upscaler: good where it is calm, bad in gravel."""
    return lr.repeat(SCALE, axis=1).repeat(SCALE, axis=2)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return pairs_in_memory([landscape(80, 240, seed=n) for n in range(2)], scale=SCALE)


@pytest.fixture(scope="module")
def patches(pairs: Pairs) -> Patches:
    return find_patches(pairs, np.array([0, 1]), size=10, step=5)


def ranked(pairs: Pairs, patches: Patches, levels: int = 3) -> Ranking:
    return rank(pairs, patches, nearest, levels=levels, reference_checksum="of the network")


# --- PSNR of a patch ---


@given(seed=st.integers(0, 999), spread=st.integers(1, 120), side=st.integers(9, 20))
def test_patch_psnr_agrees_with_scikit_image(seed: int, spread: int, side: int) -> None:
    hr = noise(3, side, side, 3, seed=seed)
    error = noise(3, side, side, 3, seed=seed + 1) % spread
    sr = np.clip(hr.astype(int) + error + 1, 0, 255).astype(np.uint8)
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]

    found = patch_psnr(sr, hr)

    for n in range(3):
        mse = np.mean((sr[n][inner].astype(float) - hr[n][inner]) ** 2)
        if mse == 0:  # clipped at 255 all over
            assert found[n] == pytest.approx(PSNR_CEILING)
        else:
            expected = peak_signal_noise_ratio(hr[n][inner], sr[n][inner], data_range=255)
            assert found[n] == pytest.approx(expected, abs=1e-4)


def test_patch_psnr_leaves_out_the_border() -> None:
    hr = noise(1, 16, 16, 3)
    sr = hr.copy()
    sr[:, 6:10, 6:10] ^= 255
    spoilt = sr.copy()
    spoilt[:, :BORDER] = 0

    assert patch_psnr(spoilt, hr) == patch_psnr(sr, hr)


def test_an_exact_patch_scores_the_ceiling() -> None:
    (score,) = patch_psnr(noise(1, 12, 12, 3), noise(1, 12, 12, 3))

    assert score == pytest.approx(PSNR_CEILING)


# --- Classes ---


@given(
    scores=st.lists(st.floats(5, 99, width=32), min_size=24, max_size=40, unique=True),
    levels=st.integers(2, 8),
)
def test_quantile_borders_cut_equal_classes(scores: list[float], levels: int) -> None:
    psnr = np.array(scores, np.float32)
    places = np.zeros(len(psnr), np.int32)

    borders = quantile_borders(psnr, [1 / levels] * levels)

    ranking = Ranking(Patches(places, places, places), psnr, borders)
    counts = np.bincount(ranking.levels, minlength=levels)
    assert len(counts) == levels
    assert counts.max() - counts.min() <= 2  # each border takes one more where it meets a patch


def test_the_easier_the_level_the_higher_the_psnr(pairs: Pairs, patches: Patches) -> None:
    ranking = ranked(pairs, patches)

    scores = [ranking.psnr[ranking.levels == level] for level in range(3)]
    assert scores[0].min() > scores[1].max() > scores[1].min() > scores[2].max()


def test_calm_patches_are_easy_and_gravel_is_hard(pairs: Pairs, patches: Patches) -> None:
    ranking = ranked(pairs, patches)

    assert set(ranking.levels[patches.x < 20]) == {0}
    assert set(ranking.levels[patches.x > 95]) == {2}


def test_every_patch_gets_the_psnr_of_its_own_pixels(pairs: Pairs, patches: Patches) -> None:
    lr, hr = read_patches(pairs, patches)

    ranking = rank(pairs, patches, nearest, levels=3, reference_checksum="", chunk=7)

    np.testing.assert_array_equal(ranking.psnr, patch_psnr(nearest(lr), hr))
    assert ranking.patches is patches


def test_borders_in_db_are_respected(pairs: Pairs, patches: Patches) -> None:
    ranking = rank(pairs, patches, nearest, levels=3, borders=[35.0, 27.0], reference_checksum="")

    expected = [0 if db >= 35 else 1 if db >= 27 else 2 for db in ranking.psnr]
    assert ranking.levels.tolist() == expected
    assert ranking.borders == (35.0, 27.0)


def test_a_patch_on_a_border_belongs_to_the_easier_level() -> None:
    place = np.zeros(5, np.int32)
    psnr = np.array([40, 35, 34.9, 27, 26.9], np.float32)

    ranking = Ranking(Patches(place, place, place), psnr, (35.0, 27.0))

    assert ranking.levels.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("shares", [(0.5, 0.25, 0.25), (0.1, 0.1, 0.8), (0.02, 0.98)])
def test_shares_are_respected(pairs: Pairs, patches: Patches, shares: tuple[float, ...]) -> None:
    ranking = rank(
        pairs, patches, nearest, levels=len(shares), shares=shares, reference_checksum=""
    )

    found = np.bincount(ranking.levels, minlength=len(shares)) / len(patches)
    np.testing.assert_allclose(found, shares, atol=1.5 / len(patches))


def test_shares_cannot_be_told_together_with_borders(pairs: Pairs, patches: Patches) -> None:
    with pytest.raises(UsageError, match="shares or borders"):
        rank(
            pairs,
            patches,
            nearest,
            levels=2,
            shares=[0.5, 0.5],
            borders=[30.0],
            reference_checksum="",
        )


def test_the_number_of_shares_is_that_of_the_levels(pairs: Pairs, patches: Patches) -> None:
    with pytest.raises(UsageError, match=r"Expected 3 shares but got \[0\.5, 0\.5\]"):
        rank(pairs, patches, nearest, levels=3, shares=[0.5, 0.5], reference_checksum="")


def test_a_model_in_any_backend_can_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classsr.upscaler.open_backend", lambda name, **options: FakeBackend())
    upscaler = Upscaler()
    pairs = pairs_in_memory([landscape(80, 240)], scale=4)
    patches = find_patches(pairs, np.array([0]), size=10, step=5)

    def by_upscaler(lr: Array) -> Array:
        return np.stack([upscaler.upscale(patch, route="hardest").image for patch in lr])

    ranking = rank(pairs, patches, by_upscaler, levels=3, reference_checksum="", reference="fake")

    lr, hr = read_patches(pairs, patches)
    expected = patch_psnr(lr.repeat(4, axis=1).repeat(4, axis=2), hr)
    np.testing.assert_allclose(ranking.psnr, expected, atol=1e-4)


@pytest.mark.parametrize("borders", [[27.0, 35.0], [35.0], [35.0, 30.0, 25.0]])
def test_borders_that_cannot_be_meant_are_refused(
    pairs: Pairs, patches: Patches, borders: list[float]
) -> None:
    with pytest.raises(UsageError, match="2 falling PSNR borders"):
        rank(pairs, patches, nearest, levels=3, borders=borders, reference_checksum="")


def test_progress_ends_with_all_patches(pairs: Pairs, patches: Patches) -> None:
    seen = []

    rank(
        pairs,
        patches,
        nearest,
        levels=2,
        reference_checksum="",
        chunk=50,
        progress=lambda done, total: seen.append((done, total)),
    )

    assert len(seen) == math.ceil(len(patches) / 50)
    assert seen[0] == (50, len(patches))
    assert seen[-1] == (len(patches), len(patches))


# --- On disk ---


def test_load_undoes_save(pairs: Pairs, patches: Patches, tmp_path: Path) -> None:
    ranking = ranked(pairs, patches)
    save_ranking(ranking, tmp_path / "ranking.npz")

    loaded = load_ranking(tmp_path / "ranking.npz", pairs)

    for name in ("picture", "y", "x"):
        np.testing.assert_array_equal(getattr(loaded.patches, name), getattr(patches, name))
    np.testing.assert_array_equal(loaded.psnr, ranking.psnr)
    np.testing.assert_array_equal(loaded.levels, ranking.levels)
    assert loaded.patches.size == 10
    assert loaded.borders == ranking.borders
    assert loaded.provenance == ranking.provenance
    assert loaded.provenance.reference_checksum == "of the network"


def test_the_name_of_the_reference_is_kept(pairs: Pairs, patches: Patches, tmp_path: Path) -> None:
    ranking = rank(
        pairs, patches, nearest, levels=3, reference_checksum="1234", reference="nearest neighbour"
    )
    save_ranking(ranking, tmp_path / "ranking.npz")

    loaded = load_ranking(tmp_path / "ranking.npz", pairs)

    assert loaded.provenance == Provenance(pairs.checksum, "1234", "nearest neighbour")


def test_a_ranking_from_before_references_had_names_is_read(
    pairs: Pairs, patches: Patches, tmp_path: Path
) -> None:
    path = tmp_path / "ranking.npz"
    save_ranking(ranked(pairs, patches), path)
    with np.load(path) as file:
        content = dict(file)
    meta = json.loads(str(content["meta"]))
    del meta["provenance"]["reference"]
    np.savez(path, **(content | {"meta": np.array(json.dumps(meta))}))

    loaded = load_ranking(path, pairs)

    assert loaded.provenance == Provenance(pairs.checksum, "of the network", "")


def test_the_ranking_of_other_pairs_is_refused(
    pairs: Pairs, patches: Patches, tmp_path: Path
) -> None:
    save_ranking(ranked(pairs, patches), tmp_path / "ranking.npz")
    others = dataclasses.replace(pairs, checksum="another")

    with pytest.raises(InputError, match="made from other pairs"):
        load_ranking(tmp_path / "ranking.npz", others)


def test_a_missing_ranking_names_the_command_that_makes_it(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classsr train rank"):
        load_ranking(tmp_path / "ranking.npz", pairs)


@pytest.mark.parametrize("left", [0, 10, 200])
def test_a_damaged_ranking_is_refused(
    pairs: Pairs, patches: Patches, tmp_path: Path, left: int
) -> None:
    path = tmp_path / "ranking.npz"
    save_ranking(ranked(pairs, patches), path)
    path.write_bytes(path.read_bytes()[:left])

    with pytest.raises(InputError, match="classsr train rank"):
        load_ranking(path, pairs)


def test_saving_leaves_one_file(pairs: Pairs, patches: Patches, tmp_path: Path) -> None:
    for _ in range(2):
        save_ranking(ranked(pairs, patches), tmp_path / "ranking.npz")

    assert [path.name for path in tmp_path.iterdir()] == ["ranking.npz"]
