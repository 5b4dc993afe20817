"""A branch can go on with the patches that a model runs there, and a branch can be left as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classsr.backends import open_backend
from classsr.canvas import to_network
from classsr.checkpoint import load_branch, load_classsr
from classsr.data.pairs import RGB8, Pairs, pack
from classsr.data.patches import Patches, batch, find_patches
from classsr.errors import TrainingError
from classsr.model import find_model
from classsr.networks import BranchSpec, ClassSR
from classsr.prices import LOSS, cheapest_levels
from classsr.routing import predicted_errors
from classsr.tiles import TileGrid, split
from classsr.training import stages
from classsr.training.config import Config
from classsr.training.routed import levels_of
from classsr.training.stages import Experiment
from pictures import write_landscapes

RELEASED = find_model("compact-x4")
BRANCHES = [
    {"network": level.network, "width": level.width, "depth": level.depth}
    for level in RELEASED.config.levels[1:]  # the first is bicubic
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    hr = write_landscapes(tmp_path_factory.mktemp("hr"), 4, 400, 720)
    return pack(hr, tmp_path_factory.mktemp("packed"), scale=4, shrinks=(1.0,))


def experiment(pairs: Pairs, run: Path, **branch: Any) -> Experiment:  # noqa: ANN401 - any value
    """Train the branches of compact-x4 on, as `branch` says."""
    schedule = {"batch": 2, "learning_rate": 1e-4, "start": "compact-x4", "validate_every": 1}
    config = Config.model_validate(
        {
            "name": "on",
            "seed": 1,
            "model": {"scale": 4, "branches": BRANCHES},
            "data": {"validation_pictures": 1},
            "branch": schedule | branch,
        }
    )
    return Experiment(config, pairs, run)


def planned(pairs: Pairs, picture: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Plan the whole tiles of a picture with the released files: (rows, columns)."""
    lr, tile = pairs.lr(picture), RELEASED.config.tile
    rows, columns = lr.shape[0] // tile, lr.shape[1] // tile
    grid = TileGrid(rows * tile, columns * tile, tile=tile, step=tile)
    classifier = open_backend("onnx", precision="f32", threads=1).classifier(RELEASED)
    tiles = split(np.array(lr[: rows * tile, : columns * tile]), grid, grid.tiles, halo=0)
    errors = predicted_errors(classifier(to_network(tiles)), RELEASED.config)
    costs = [float(level.macs_per_pixel) for level in RELEASED.config.levels]
    return cheapest_levels(errors.reshape(rows, columns, -1), costs, LOSS)


@pytest.mark.parametrize("size", [32, 48])
def test_a_patch_goes_where_the_tile_of_its_middle_goes(pairs: Pairs, size: int) -> None:
    patches = find_patches(pairs, np.arange(4), size=size, step=7)
    model = load_classsr(RELEASED.path(RELEASED.config.weights))

    found = levels_of(patches, model, pairs, device="cpu")

    plans = [planned(pairs, picture) for picture in range(4)]
    expected = []
    for picture, y, x in zip(patches.picture, patches.y, patches.x, strict=True):
        row, column = (y + size // 2) // 32, (x + size // 2) // 32
        rows, columns = plans[picture].shape
        expected.append(plans[picture][min(row, rows - 1), min(column, columns - 1)])
    assert len(np.unique(expected)) > 1
    assert np.mean(found == expected) > 0.98  # another runtime's arithmetic may tip a tile


def test_a_model_that_predicts_no_errors_cannot_tell(pairs: Pairs) -> None:
    model = ClassSR([BranchSpec("fsrcnn", width, 4) for width in (4, 5)])

    with pytest.raises(TrainingError, match="a model that predicts errors"):
        levels_of(find_patches(pairs, np.arange(1)), model, pairs, device="cpu")


@pytest.mark.parametrize("level", [1, 3])
def test_a_branch_learns_from_what_it_is_given_only(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    seen: list[Patches] = []

    def recorded(pairs: Pairs, patches: Patches, **which: Any) -> tuple[RGB8, RGB8]:  # noqa: ANN401
        seen.append(patches)
        return batch(pairs, patches, **which)

    monkeypatch.setattr(stages, "batch", recorded)
    own = experiment(pairs, tmp_path, patches="routed", patch_size=40, iterations=1)

    stages.train_branch(own, level)

    everything = own.training_patches(40)
    model = load_classsr(RELEASED.path(RELEASED.config.weights))
    levels = levels_of(everything, model, pairs, device="cpu")
    expected = everything.select(levels == level + 1)
    assert 0 < len(expected) < len(everything)
    for part in ("picture", "y", "x"):
        np.testing.assert_array_equal(getattr(seen[0], part), getattr(expected, part))


def test_a_model_without_the_branch_has_no_patches_for_it(pairs: Pairs, tmp_path: Path) -> None:
    own = experiment(pairs, tmp_path, patches="routed", iterations=1, start="compact-x2")

    with pytest.raises(TrainingError, match="Expected compact width 16 depth 6 for x4 in compact"):
        stages.train_branch(own, 0)


def test_a_branch_for_another_scale_cannot_be_left_as_it_is(pairs: Pairs, tmp_path: Path) -> None:
    own = experiment(pairs, tmp_path, iterations=0, start="compact-x2")

    with pytest.raises(TrainingError, match="Expected compact width 16 depth 6 for x4 in compact"):
        stages.train_branch(own, 0)


def test_no_iterations_leave_a_branch_as_it_is(pairs: Pairs, tmp_path: Path) -> None:
    own = experiment(pairs, tmp_path, iterations=0)

    branch, spec = load_branch(stages.train_branch(own, 1))

    model = load_classsr(RELEASED.path(RELEASED.config.weights))
    assert spec == model.specs[2]
    theirs = model.branches[2].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in branch.state_dict().items())
