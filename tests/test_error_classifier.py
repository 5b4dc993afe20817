"""The Class-Module that predicts errors learns from whole pictures what branches get wrong; others calibrate it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from branches import head_of, parameters, small_branch
from classsr.backends import open_backend
from classsr.checkpoint import load_classsr, load_networks, save_branch, save_classsr
from classsr.data.patches import find_patches, read_lr
from classsr.errors import TrainingError
from classsr.export import export_model
from classsr.model import open_model
from classsr.networks import BranchSpec, ClassSR, ErrorClassifier
from classsr.training import tile_errors
from classsr.training.config import Config, ErrorsConfig, Schedule
from classsr.training.error_classifier import (
    psnr_at_half_cost,
    train_errors,
    with_error_classifier,
)
from classsr.training.loop import to_tensor
from classsr.training.stages import Experiment
from classsr.training.tile_errors import TileErrors, calibrate, measure_tiles, weigh
from pictures import landscape, pairs_in_memory
from test_stages import CONFIG

SCALE = 4
PAIRS = pairs_in_memory([landscape(256, 384, seed=n) for n in range(4)], scale=SCALE)
ALL = np.arange(4)


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def branches() -> nn.ModuleList:
    kinds = ("bicubic", "compact")
    built = nn.ModuleList([small_branch(kind, SCALE) for kind in kinds]).eval()
    for parameter in built.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.05)
    return built


def measured(cache: Path, these: nn.ModuleList, *, precision: str = "32-true") -> TileErrors:
    return measure_tiles(PAIRS, ALL, these, device="cpu", precision=precision, cache=cache)


# --- The network ---


def test_it_is_smaller_than_the_paper_s() -> None:
    assert parameters(ErrorClassifier(3)) < 60_035 / 4


def test_easier_levels_err_by_their_distance_more() -> None:
    classifier = ErrorClassifier(3).eval()
    classifier.gains.copy_(torch.tensor([[0.5, 0.0], [1.0, 0.1]]))
    x = torch.rand(5, 3, 32, 32)

    log_distances, log_error = classifier.estimate(x)
    errors = classifier(x).exp()

    distances, error = log_distances.exp(), log_error.exp()
    torch.testing.assert_close(errors[:, 2:], error)
    torch.testing.assert_close(errors[:, :1], error + 0.5 * distances[:, :1])
    more = distances[:, 1:] * (1 + 0.1 * log_distances[:, 1:])
    torch.testing.assert_close(errors[:, 1:2], torch.maximum(error + more, 0.5 * error))


def test_in_training_it_returns_what_it_learns() -> None:
    classifier = ErrorClassifier(4).train()
    x = torch.rand(2, 3, 32, 32)

    torch.testing.assert_close(classifier(x), torch.cat(classifier.estimate(x), dim=1))


def test_a_flat_tile_is_no_infinity() -> None:
    assert ErrorClassifier(3).eval()(torch.full((1, 3, 32, 32), 0.5)).isfinite().all()


def test_brightness_changes_nothing() -> None:
    classifier = ErrorClassifier(3).eval()
    classifier.filters.weight.data.add_(0.1)
    x = 0.5 * torch.rand(5, 3, 32, 32) * torch.linspace(0, 1, 5).view(-1, 1, 1, 1)

    torch.testing.assert_close(classifier(x + 0.5), classifier(x), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    specs = [BranchSpec("bicubic", None, 4), BranchSpec("fsrcnn", 4, 4)]
    model = ClassSR(specs, ErrorClassifier(2)).eval()
    assert isinstance(model.classifier, ErrorClassifier)
    model.classifier.gains.fill_(0.3)
    x = torch.rand(3, 3, 32, 32)

    save_classsr(model, tmp_path / "a.safetensors")

    found = load_classsr(tmp_path / "a.safetensors").classifier
    assert isinstance(found, ErrorClassifier)
    torch.testing.assert_close(found(x), model.classifier(x), rtol=0, atol=0)


def test_bicubic_comes_first_once() -> None:
    trained = ClassSR([BranchSpec("fsrcnn", 4, 4), BranchSpec("fsrcnn", 5, 4)])

    first = with_error_classifier(trained, bicubic=True)
    again = with_error_classifier(first, bicubic=True)
    without = with_error_classifier(trained, bicubic=False)

    assert [spec.network for spec in first.specs] == ["bicubic", "fsrcnn", "fsrcnn"]
    assert again.specs == first.specs
    assert without.specs == trained.specs
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(first.branches[2](x), trained.branches[1].eval()(x))
    assert not any(parameter.requires_grad for parameter in first.branches.parameters())


# --- What is measured ---


def test_errors_and_distances_are_those_of_the_whole_picture_run(tmp_path: Path) -> None:
    these = branches()

    found = measured(tmp_path / "a.npz", these)

    places = find_patches(PAIRS, ALL)
    assert len(found.errors) == len(found.distances) == len(places)
    for n in (0, 7, len(places) - 1):
        index, y, x = int(places.picture[n]), int(places.y[n]), int(places.x[n])
        lr = to_tensor(PAIRS.lr(index)[None].copy(), torch.device("cpu"))
        hr = to_tensor(PAIRS.hr(index)[None].copy(), torch.device("cpu"))
        with torch.no_grad():
            srs = [branch(F.pad(lr, (20,) * 4, mode="replicate")).clamp(0, 1) for branch in these]
        cut = np.s_[:, :, SCALE * y : SCALE * (y + 32), SCALE * x : SCALE * (x + 32)]
        tiles = [sr[:, :, 80:-80, 80:-80][cut] for sr in srs]
        expected = [float((tile - hr[cut]).square().mean()) for tile in tiles]
        np.testing.assert_allclose(found.errors[n], expected, rtol=1e-4)
        distance = float((tiles[0] - tiles[1]).square().mean())
        np.testing.assert_allclose(found.distances[n], [distance], rtol=1e-4)


def test_errors_are_measured_once_for_the_same_branches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    these, cache = branches(), tmp_path / "a.npz"
    first = measured(cache, these)
    runs: list[int] = []
    whole = tile_errors._picture

    def counted(*args: Any) -> object:  # noqa: ANN401 - passed on
        runs.append(1)
        return whole(*args)

    monkeypatch.setattr(tile_errors, "_picture", counted)
    again = measured(cache, these)

    assert not runs
    np.testing.assert_array_equal(again.errors, first.errors)
    np.testing.assert_array_equal(again.distances, first.distances)
    measured(cache, these, precision="bf16-mixed")
    measured(cache, branches())
    assert len(runs) == 2 * len(ALL)


def test_a_picture_smaller_than_a_tile_has_none(tmp_path: Path) -> None:
    pairs = pairs_in_memory([landscape(100, 300, seed=0), landscape(256, 256, seed=1)], scale=4)

    found = measure_tiles(
        pairs,
        np.arange(2),
        branches(),
        device="cpu",
        precision="32-true",
        cache=tmp_path / "a.npz",
    )

    assert set(found.tiles.picture.tolist()) == {1}
    assert len(found.errors) == len(found.tiles)


# --- Calibration ---


def synthetic(count: int, *, seed: int) -> TileErrors:
    rng = np.random.default_rng(seed)
    distances = np.exp(rng.normal(-9, 1, (count, 2)))
    gains = np.array([[0.9, 0.02], [0.3, -0.05]])
    more = distances * (gains[:, 0] + gains[:, 1] * np.log(distances))
    hardest = np.exp(rng.normal(-8, 1, (count, 1)))
    errors = np.concatenate([hardest + more, hardest], axis=1)
    tiles = find_patches(PAIRS, ALL).select(rng.integers(0, 40, count))
    return TileErrors(tiles, errors.astype(np.float32), distances.astype(np.float32))


def test_calibration_finds_the_gains() -> None:
    tiles = synthetic(2_000, seed=0)

    found = calibrate(np.log(tiles.distances), tiles)

    np.testing.assert_allclose(found, [[0.9, 0.02], [0.3, -0.05]], rtol=1e-2)


@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_what_is_promised_adds_up_to_what_was_measured(noise: float) -> None:
    tiles, random = synthetic(2_000, seed=2), np.random.default_rng(2)
    predicted = np.log(tiles.distances) + random.normal(0, noise, tiles.distances.shape)

    gains = calibrate(predicted.astype(np.float32), tiles)

    weights = weigh(tiles)[:, None]
    promised = np.exp(predicted) * (gains[:, 0] + gains[:, 1] * predicted) * weights
    measured = (tiles.errors[:, :-1] - tiles.errors[:, -1:]) * weights
    np.testing.assert_allclose(promised.sum(axis=0), measured.sum(axis=0), rtol=1e-3)


def test_every_picture_weighs_the_same() -> None:
    tiles = synthetic(500, seed=1)

    weights = weigh(tiles)

    for picture in set(tiles.tiles.picture.tolist()):
        mine = tiles.tiles.picture == picture
        assert (weights[mine] * tiles.errors[mine, -1]).mean() == pytest.approx(1)


@given(seed=st.integers(0, 50))
def test_half_of_the_cost_is_spent_where_it_helps_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = np.sort(rng.random((300, 3)), axis=1)[:, ::-1]
    costs = np.array([0.1, 0.3, 1.0])

    best = psnr_at_half_cost(errors, errors, costs)

    random = psnr_at_half_cost(rng.permutation(errors), errors, costs)
    assert -10 * np.log10(errors[:, 0].mean()) < best < -10 * np.log10(errors[:, -1].mean())
    assert best > random


# --- The stage ---


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """An experiment of which stage 3 is done."""
    config = Config.model_validate(
        CONFIG.model_dump()
        | {
            "data": {"validation_pictures": 1},
            "errors": {
                "schedule": Schedule(
                    optimizer="soap",
                    iterations=60,
                    batch=16,
                    learning_rate=3e-3,
                    validate_every=20,
                    precision="32-true",
                )
            },
        }
    )
    trained = ClassSR(config.model.specs())
    (tmp_path / "joint").mkdir()
    save_classsr(trained, tmp_path / "joint" / "last.safetensors")
    return Experiment(config, PAIRS, tmp_path)


def test_the_stage_learns_and_leaves_the_branches_alone(experiment: Experiment) -> None:
    path = train_errors(experiment)

    model = load_classsr(path)
    trained = load_classsr(experiment.run / "joint" / "last.safetensors")
    assert model.specs[0].network == "bicubic"
    for branch, before in zip(model.branches[1:], trained.branches, strict=True):
        for name, value in before.state_dict().items():
            assert torch.equal(branch.state_dict()[name], value)
    assert isinstance(model.classifier, ErrorClassifier)
    assert not torch.equal(model.classifier.gains, ErrorClassifier(4).gains)
    lines = (experiment.run / "errors" / "metrics.jsonl").read_text().splitlines()
    scores = [line["log_error"] for line in map(json.loads, lines) if "log_error" in line]
    assert len(scores) == 3
    assert scores[-1] < scores[0]


def test_the_stage_can_be_asked_twice(experiment: Experiment) -> None:
    first = train_errors(experiment).read_bytes()

    assert train_errors(experiment).read_bytes() == first


def test_it_can_learn_from_fewer_pictures(experiment: Experiment) -> None:
    errors = experiment.config.errors.model_copy(update={"pictures": 2})
    config = experiment.config.model_copy(update={"errors": errors})

    train_errors(replace(experiment, config=config))

    learned, held = (np.flatnonzero(experiment.held_out() == is_held) for is_held in (False, True))
    ends = learned[[0, -1]]
    for name, pictures in (("learned", ends), ("held-out", held)):
        with np.load(experiment.run / "errors" / f"{name}.npz") as found:
            assert len(found["errors"]) == len(find_patches(PAIRS, pictures))


def with_shrinks(experiment: Experiment, shrinks: list[float]) -> Experiment:
    """The same pictures as copies that were shrunk or enlarged by these factors; the first two of one photograph."""
    names = ["0.png", "0.png", "1.png", "2.png"]
    entries = [
        replace(entry, name=name, shrink=shrink)
        for entry, name, shrink in zip(PAIRS.entries, names, shrinks, strict=True)
    ]
    return replace(experiment, pairs=replace(PAIRS, entries=tuple(entries)))


def test_enlarged_copies_do_not_calibrate(experiment: Experiment) -> None:
    mixed = with_shrinks(experiment, [1.0, 1.5, 1.0, 1.0])
    assert mixed.held_out().tolist() == [True, True, False, False]

    model = load_classsr(train_errors(mixed))

    assert isinstance(model.classifier, ErrorClassifier)
    held = measure_tiles(
        PAIRS,
        np.array([0]),
        model.branches,
        device="cpu",
        precision="32-true",
        cache=experiment.run / "x.npz",
    )
    lr = to_tensor(read_lr(PAIRS, held.tiles), torch.device("cpu"))
    log_distances = model.classifier.estimate(lr)[0].detach().numpy()
    expected = torch.from_numpy(calibrate(log_distances, held)).float()
    torch.testing.assert_close(model.classifier.gains, expected, rtol=1e-3, atol=1e-4)


def test_enlarged_copies_alone_are_refused(experiment: Experiment) -> None:
    with pytest.raises(TrainingError, match="that were not enlarged"):
        train_errors(with_shrinks(experiment, [2.0, 1.5, 1.0, 1.0]))


def test_bicubic_can_be_left_out(experiment: Experiment) -> None:
    errors = experiment.config.errors.model_copy(update={"bicubic": False})
    config = experiment.config.model_copy(update={"errors": errors})

    model = load_classsr(train_errors(replace(experiment, config=config)))

    assert len(model.specs) == len(experiment.config.model.branches)


def test_the_paper_s_class_module_can_be_calibrated_instead(experiment: Experiment) -> None:
    errors = ErrorsConfig(predict="calibration")
    config = experiment.config.model_copy(update={"errors": errors})
    trained = load_classsr(experiment.run / "joint" / "last.safetensors")
    with torch.no_grad():  # sure of itself, by brightness
        head_of(trained).weight.normal_(std=9)
    save_classsr(trained, experiment.run / "joint" / "last.safetensors")

    networks = load_networks(train_errors(replace(experiment, config=config)))

    assert [spec.network for spec in networks.specs] == ["fsrcnn"] * 3
    assert networks.errors is not None
    held = measure_tiles(
        PAIRS,
        np.flatnonzero(experiment.held_out()),
        nn.ModuleList(networks.branches),
        device="cpu",
        precision="32-true",
        cache=experiment.run / "errors" / "held-out.npz",
    )
    lr = to_tensor(read_lr(PAIRS, held.tiles), torch.device("cpu"))
    with torch.no_grad():
        judged = trained.eval().probabilities(lr).numpy()
    for level in range(3):
        weights = judged[:, level] * weigh(held)
        expected = np.average(held.errors, axis=0, weights=weights)
        np.testing.assert_allclose(networks.errors[level], expected, rtol=1e-3)
    model = export_model(
        experiment.run / "errors" / "calibrated.safetensors",
        experiment.run / "model",
        name="calibrated",
        tile=32,
        halos=[2],
    )
    assert model.config.classifier is not None
    assert model.config.classifier.errors == networks.errors
    assert model.config.classifier.predicts == "probabilities"


@pytest.mark.parametrize("left", ["stage 1", "stage 2"])
def test_without_stage_three_it_goes_on_from_the_stage_before(
    experiment: Experiment, left: str
) -> None:
    levels = len(experiment.config.model.branches)
    missing: dict[str, object] = {"joint": None, "branch": experiment.config.branch * levels}
    expected = ClassSR(experiment.config.model.specs())
    if left == "stage 1":
        missing["classifier"] = None
        for level, (branch, spec) in enumerate(zip(expected.branches, expected.specs, strict=True)):
            (experiment.run / f"branch-{level}").mkdir()
            save_branch(branch, spec, experiment.run / f"branch-{level}" / "best.safetensors")
    else:
        (experiment.run / "classifier").mkdir()
        save_classsr(expected, experiment.run / "classifier" / "last.safetensors")
    config = experiment.config.model_copy(update=missing)

    found = load_classsr(train_errors(replace(experiment, config=config)))

    for branch, before in zip(found.branches[1:], expected.branches, strict=True):
        theirs = before.state_dict()
        for name, value in branch.state_dict().items():
            assert torch.equal(value, theirs[name])


def test_an_exported_model_predicts_what_its_network_does(experiment: Experiment) -> None:
    path = train_errors(experiment)

    model = export_model(path, experiment.run / "model", name="predicts", tile=32, halos=[2])

    assert model.config.classifier is not None
    assert model.config.classifier.predicts == "log-errors"
    tiles = np.random.default_rng(0).random((5, 3, 32, 32), np.float32)
    classifier = load_classsr(path).classifier
    with torch.no_grad():
        expected = classifier(torch.from_numpy(tiles)).numpy()
    for name in ("openvino", "onnx", "torch"):
        backend = open_backend(name, precision="f32", threads=1)
        found = backend.classifier(open_model(experiment.run / "model"))(tiles)
        np.testing.assert_allclose(found, expected, atol=1e-3)
