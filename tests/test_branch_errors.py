"""The errors that stage 2 learns from are those of the branches, at pixels drawn fairly, and belong to what was run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from branches import small_branch
from classsr.data.pairs import Pairs
from classsr.data.patches import Patches, augment, find_patches, read_lr, read_patches
from classsr.training import branch_errors
from classsr.training.branch_errors import BranchErrors, keep
from classsr.training.loop import to_tensor
from pictures import noise, pairs_in_memory

SCALE, SIZE = 2, 6
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
PAIRS = pairs_in_memory([noise(40, 60, 3, seed=1), noise(32, 24, 3, seed=2)], scale=SCALE)


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(branch_errors, "CHUNK", 7)  # several chunks, the last one incomplete
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def places(pairs: Pairs = PAIRS) -> Patches:
    return find_patches(pairs, np.arange(len(pairs.entries)), size=SIZE, step=3)


def two_branches() -> nn.ModuleList:
    return nn.ModuleList([small_branch("bicubic", SCALE), small_branch("compact", SCALE)]).eval()


def errors_in(folder: Path, *, seed: int = 5, precision: str = "32-true") -> BranchErrors:
    return BranchErrors(folder, PAIRS, places(), seed=seed, precision=precision)


def whole_errors(branches: nn.ModuleList) -> np.ndarray:
    """SR - HR at every pixel: (N, M, 3, scale * size, scale * size)."""
    lr, hr = (to_tensor(p, torch.device("cpu")) for p in read_patches(PAIRS, places()))
    with torch.no_grad():
        whole: np.ndarray = torch.stack([branch(lr) - hr for branch in branches], dim=1).numpy()
    return whole


# --- What is kept ---


@given(
    scale=st.integers(1, 4),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    data=st.data(),
)
def test_one_pixel_of_every_cell_is_kept(
    scale: int, height: int, width: int, data: st.DataObject
) -> None:
    hr = torch.rand(2, 3, scale * height, scale * width)
    size = 2 * height * width
    drawn = data.draw(st.lists(st.integers(0, scale**2 - 1), min_size=size, max_size=size))
    kept = torch.tensor(drawn).view(2, 1, 1, height, width)

    found = keep(hr, kept)

    assert found.shape == (2, 3, height, width)
    for n in range(2):
        for y in range(height):
            for x in range(width):
                dy, dx = divmod(int(kept[n, 0, 0, y, x]), scale)
                expected = hr[n, :, scale * y + dy, scale * x + dx]
                assert torch.equal(found[n, :, y, x], expected)


def test_the_errors_are_those_of_the_branches(tmp_path: Path) -> None:
    branches, errors = two_branches(), errors_in(tmp_path)

    errors.compute(branches, FABRIC)

    whole = whole_errors(branches)
    n, m = whole.shape[:2]
    assert errors.values.shape == (n, m, 3, SIZE, SIZE)
    assert n == len(places()) > 20
    # (n, size, size, scale**2, m * 3): all channels of all branches at each pixel of each cell
    cells = whole.reshape(n, m * 3, SIZE, SCALE, SIZE, SCALE).transpose(0, 2, 4, 3, 5, 1)
    cells = cells.reshape(n, SIZE, SIZE, SCALE**2, m * 3)
    found = errors.values.reshape(n, m * 3, SIZE, SIZE).transpose(0, 2, 3, 1)[:, :, :, None]
    hits = np.isclose(cells, found, rtol=0, atol=5e-4).all(axis=-1)  # half precision
    assert hits.any(axis=-1).all()
    # Each of the four pixels of a cell about as often: with 1,000s of cells a deviation of 5 % is many sigmas.
    np.testing.assert_allclose(hits.mean(axis=(0, 1, 2)), 1 / SCALE**2, atol=0.05)


def test_the_mean_over_a_patch_hardly_changes(tmp_path: Path) -> None:
    branches, errors = two_branches(), errors_in(tmp_path)

    errors.compute(branches, FABRIC)

    kept = np.abs(errors.values.astype(np.float64)).mean(axis=(0, 2, 3, 4))
    whole = np.abs(whole_errors(branches)).mean(axis=(0, 2, 3, 4))
    np.testing.assert_allclose(kept, whole, rtol=0.03)


# --- When they are computed ---


def count_runs(branches: nn.ModuleList) -> list[Tensor]:
    """Let the list grow whenever the first branch is run."""
    runs: list[Tensor] = []
    branches[0].register_forward_hook(lambda _module, _inputs, output: runs.append(output))
    return runs


def test_errors_are_computed_once(tmp_path: Path) -> None:
    branches = two_branches()
    errors_in(tmp_path).compute(branches, FABRIC)
    before = (tmp_path / "branch-errors.bin").read_bytes()
    runs = count_runs(branches)

    again = errors_in(tmp_path)
    again.compute(branches, FABRIC)

    assert not runs
    assert again.values.tobytes() == before


@pytest.mark.parametrize("change", ["weights", "seed", "precision", "patches"])
def test_errors_of_something_else_are_computed_again(tmp_path: Path, change: str) -> None:
    branches = two_branches()
    errors_in(tmp_path).compute(branches, FABRIC)
    errors = errors_in(
        tmp_path,
        seed=6 if change == "seed" else 5,
        precision="bf16-mixed" if change == "precision" else "32-true",
    )
    if change == "weights":
        branches[1].get_parameter("body.0.weight").data += 1e-3
    if change == "patches":
        fewer = places().select(np.arange(9))
        errors = BranchErrors(tmp_path, PAIRS, fewer, seed=5, precision="32-true")
    runs = count_runs(branches)

    errors.compute(branches, FABRIC)

    assert runs
    assert len(errors.values) == (9 if change == "patches" else len(places()))


def test_errors_that_were_interrupted_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches = two_branches()
    errors_in(tmp_path / "whole").compute(branches, FABRIC)

    def interrupted(pairs: Pairs, patches: Patches) -> tuple[np.ndarray, np.ndarray]:
        if patches.picture[0] == 1:
            raise KeyboardInterrupt
        return read_patches(pairs, patches)

    monkeypatch.setattr(branch_errors, "read_patches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        errors_in(tmp_path / "broken").compute(branches, FABRIC)
    monkeypatch.setattr(branch_errors, "read_patches", read_patches)
    again = errors_in(tmp_path / "broken")
    again.compute(branches, FABRIC)

    assert again.values.tobytes() == (tmp_path / "whole/branch-errors.bin").read_bytes()


# --- Batches of them ---


def test_a_batch_is_turned_patches_and_the_errors_of_the_same(tmp_path: Path) -> None:
    errors = errors_in(tmp_path)
    errors.compute(two_branches(), FABRIC)

    lr, rows = errors.batch(count=30, iteration=2)

    every = read_lr(PAIRS, places())
    turned = [augment(every, np.full(len(every), symmetry)) for symmetry in range(8)]
    places_of = [
        {n for n in range(len(every)) for patches in turned if np.array_equal(patches[n], each)}
        for each in lr
    ]
    assert len(set.union(*places_of)) > 10
    for candidates, row in zip(places_of, rows, strict=True):
        assert any(np.array_equal(errors.values[n], row) for n in candidates)
    upright = sum(any(np.array_equal(each, patch) for patch in every) for each in lr)
    assert upright < len(lr) / 2  # one in eight is not turned


def test_the_parts_of_several_processes_make_one_batch(tmp_path: Path) -> None:
    errors = errors_in(tmp_path)
    errors.compute(two_branches(), FABRIC)

    lr, rows = errors.batch(count=8, iteration=4)
    parts = [errors.batch(count=8, iteration=4, part=slice(rank, None, 2)) for rank in range(2)]

    for rank, (some_lr, some_rows) in enumerate(parts):
        np.testing.assert_array_equal(some_lr, lr[rank::2])
        np.testing.assert_array_equal(some_rows, rows[rank::2])
    assert not np.array_equal(errors.batch(count=8, iteration=5)[0], lr)
