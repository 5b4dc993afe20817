"""Patches are slices of the pairs, and a batch is a pure function of seed and iteration, LR and HR turned alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classsr.data.pairs import Pairs
from classsr.data.patches import Patches, augment, batch, find_patches, read_patches
from pictures import block_mean, noise, pairs_in_memory

SIZE, SCALE = 4, 2


def small_pairs() -> Pairs:
    return pairs_in_memory([noise(24, 30, 3, seed=1), noise(16, 12, 3, seed=2)], scale=SCALE)


def both(pairs: Pairs) -> Patches:
    return find_patches(pairs, np.arange(len(pairs.entries)), size=SIZE, step=2)


# --- Where they lie ---


@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    size=st.integers(1, 6),
    step=st.integers(1, 5),
)
def test_patches_are_all_whole_places_on_the_grid(
    height: int, width: int, size: int, step: int
) -> None:
    pairs = pairs_in_memory([noise(height * SCALE, width * SCALE, 3)], scale=SCALE)

    found = find_patches(pairs, np.array([0]), size=size, step=step)

    places = set(zip(found.y.tolist(), found.x.tolist(), strict=True))
    grid = {(y, x) for y in range(height) for x in range(width)}
    assert len(places) == len(found)
    assert places == {
        (y, x)
        for y, x in grid
        if y % step == 0 and x % step == 0 and y + size <= height and x + size <= width
    }


def test_only_the_named_pictures_are_cut() -> None:
    pairs = pairs_in_memory([noise(16, 16, 3, seed=n) for n in range(4)], scale=SCALE)

    found = find_patches(pairs, np.array([3, 1]), size=SIZE, step=4)

    assert found.picture.tolist() == [3] * 4 + [1] * 4


def test_the_papers_patches_are_32_at_every_16() -> None:
    pairs = pairs_in_memory([noise(2 * 64, 2 * 50, 3)], scale=SCALE)

    found = find_patches(pairs, np.array([0]))

    assert found.size == 32
    assert sorted(set(found.y.tolist())) == [0, 16, 32]
    assert sorted(set(found.x.tolist())) == [0, 16]


def test_no_pictures_give_no_patches() -> None:
    lr, hr = read_patches(small_pairs(), find_patches(small_pairs(), np.array([], np.int64)))

    assert (len(lr), len(hr)) == (0, 0)


@pytest.mark.parametrize(
    "index", [np.array([True, False, True, False]), np.array([0, 2])], ids=["mask", "index"]
)
def test_select_picks_by_mask_or_index(index: np.ndarray) -> None:
    picture, y, x = np.arange(12, dtype=np.int32).reshape(3, 4)
    patches = Patches(picture, y, x, 7)

    chosen = patches.select(index)

    assert (chosen.picture.tolist(), chosen.y.tolist(), chosen.x.tolist(), chosen.size) == (
        [0, 2],
        [4, 6],
        [8, 10],
        7,
    )


# --- What they show ---


def test_reading_patches_equals_slicing() -> None:
    pairs = small_pairs()
    patches = both(pairs)

    lr, hr = read_patches(pairs, patches)

    assert len(lr) == len(hr) == len(patches) > 20
    for n in range(len(patches)):
        picture, y, x = (int(a[n]) for a in (patches.picture, patches.y, patches.x))
        np.testing.assert_array_equal(lr[n], pairs.lr(picture)[y : y + 4, x : x + 4])
        np.testing.assert_array_equal(
            hr[n], pairs.hr(picture)[2 * y : 2 * y + 8, 2 * x : 2 * x + 8]
        )


def test_changing_a_patch_leaves_the_pictures_alone() -> None:
    pairs = small_pairs()
    before = pairs.hr_pixels.copy()

    for stack in (*read_patches(pairs, both(pairs)), *draw(pairs)):
        stack[:] = 0

    np.testing.assert_array_equal(pairs.hr_pixels, before)


# --- Batches ---


def draw(
    pairs: Pairs, *, count: int = 64, seed: int = 3, iteration: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    return batch(pairs, both(pairs), count=count, seed=seed, iteration=iteration)


@given(seed=st.integers(0, 2**31), iteration=st.integers(0, 10**6))
def test_a_batch_is_a_pure_function_of_seed_and_iteration(seed: int, iteration: int) -> None:
    pairs = small_pairs()
    first = draw(pairs, count=8, seed=seed, iteration=iteration)
    np.random.default_rng().random()  # whatever happens between
    draw(pairs, count=8, seed=seed + 1, iteration=iteration)

    again = draw(pairs, count=8, seed=seed, iteration=iteration)

    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("change", [{"seed": 4}, {"iteration": 6}, {"seed": 4, "iteration": 4}])
def test_another_seed_or_iteration_gives_another_batch(change: dict[str, int]) -> None:
    assert not np.array_equal(draw(small_pairs())[0], draw(small_pairs(), **change)[0])


@given(seed=st.integers(0, 2**31))
def test_lr_and_hr_of_a_batch_show_the_same(seed: int) -> None:
    lr, hr = draw(small_pairs(), count=16, seed=seed)

    shrunk = np.stack([block_mean(patch, SCALE) for patch in hr])

    np.testing.assert_array_equal(lr, shrunk)


def test_augmenting_reaches_all_eight_symmetries_about_equally() -> None:
    patch = noise(3, 3, 3)
    symmetries = [np.rot90(p, k).tobytes() for p in (patch, patch[::-1]) for k in range(4)]
    stack = np.repeat(patch[None], 800, axis=0)

    turned = augment(stack, np.random.default_rng(0).integers(0, 8, 800))

    counts = [sum(p.tobytes() == symmetry for p in turned) for symmetry in symmetries]
    assert sum(counts) == 800
    assert min(counts) > 60


def test_augmenting_leaves_its_input_alone() -> None:
    lr = noise(50, 3, 3, 3)

    augment(lr, np.arange(50) % 8)

    np.testing.assert_array_equal(lr, noise(50, 3, 3, 3))


@given(processes=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_the_parts_of_a_batch_are_the_batch(processes: int, seed: int) -> None:
    pairs = small_pairs()
    whole = draw(pairs, count=8, seed=seed)

    for process in range(processes):
        part = slice(process, None, processes)
        mine = batch(pairs, both(pairs), count=8, seed=seed, iteration=5, part=part)

        for found, expected in zip(mine, whole, strict=True):
            np.testing.assert_array_equal(found, expected[part])


def test_a_batch_draws_from_all_patches_alike() -> None:
    pairs = pairs_in_memory([np.full((8, 8, 3), n, np.uint8) for n in range(10)], scale=SCALE)

    lr, _ = draw(pairs, count=2000)

    counts = np.bincount(lr[:, 0, 0, 0], minlength=10)
    assert counts.min() > 140
    assert counts.max() < 260
