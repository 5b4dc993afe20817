"""Every stage trains what it should, on the patches that it may see, and can be interrupted.

The stages run with FSRCNNs of a few channels on generated landscapes; how well they do is no matter here.
"""

import dataclasses
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from branches import head_of, randomise
from classsr.checkpoint import load_branch, load_classsr, save_branch, save_classsr
from classsr.data.pairs import RGB8, Pairs, pack
from classsr.data.patches import Patches, batch, draw, read_patches
from classsr.data.ranking import Ranking, patch_psnr
from classsr.errors import InputError, ModelError, TrainingError, UsageError
from classsr.model import find_model, sha256
from classsr.networks import BranchSpec, ClassSR, build_branch
from classsr.training import branch_errors, stages
from classsr.training.config import BranchSchedule, Config, LossWeights, RankingConfig, RoutedConfig
from classsr.training.loop import to_tensor
from classsr.training.losses import average_loss, class_loss
from classsr.training.stages import BEST, LAST, Experiment, classsr_losses
from pictures import write_landscapes

CPU = torch.device("cpu")
ALL = slice(None)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order, so that equal work gives equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    theirs = expected.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in found.state_dict().items())


def schedule(iterations: int, validate_every: int, learning_rate: float = 1e-2) -> dict[str, Any]:
    return {
        "iterations": iterations,
        "batch": 4,
        "learning_rate": learning_rate,
        "validate_every": validate_every,
        "precision": "32-true",
    }


CONFIG = Config.model_validate(
    {
        "name": "tiny",
        "seed": 3,
        "model": {
            "scale": 4,
            "branches": [{"network": "fsrcnn", "width": width} for width in (4, 5, 6)],
        },
        "data": {"validation_pictures": 2, "validation_patches": 10},
        "reference": {
            "branch": {"network": "fsrcnn", "width": 4},
            "schedule": schedule(60, 20),
        },
        "branch": schedule(4, 2),
        "classifier": schedule(6, 2, 1e-3),
        "joint": schedule(6, 2, 1e-3),
    }
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    hr = write_landscapes(tmp_path_factory.mktemp("hr"), 6, 192, 320)
    return pack(hr, tmp_path_factory.mktemp("packed"), scale=4, shrinks=(1.0, 0.8))


@dataclass
class Reads:
    """Which patches each stage trained on and which it was validated on."""

    training: dict[str, list[Patches]] = field(default_factory=dict)
    validation: dict[str, list[Patches]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A run through all stages and what they read."""

    experiment: Experiment
    reads: Reads


STAGES: dict[str, Callable[[Experiment], object]] = {
    "reference": stages.train_reference,
    "rank": stages.rank_patches,
    "branch-0": lambda experiment: stages.train_branch(experiment, 0),
    "branch-1": lambda experiment: stages.train_branch(experiment, 1),
    "branch-2": lambda experiment: stages.train_branch(experiment, 2),
    "classifier": stages.train_classifier,
    "joint": stages.train_joint,
}
TRAINED = [name for name in STAGES if name != "rank"]


@pytest.fixture(scope="module")
def finished(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    experiment = Experiment(CONFIG, pairs, tmp_path_factory.mktemp("run"))
    reads = Reads()
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in STAGES.items():
            reads.training[name], reads.validation[name] = [], []

            def recorded_batch(
                pairs: Pairs,
                patches: Patches,
                *,
                _seen: list[Patches] = reads.training[name],
                **options: Any,  # noqa: ANN401
            ) -> tuple[Any, Any]:
                _seen.append(patches)
                return batch(pairs, patches, **options)

            def recorded_read(
                pairs: Pairs, patches: Patches, *, _seen: list[Patches] = reads.validation[name]
            ) -> tuple[Any, Any]:
                _seen.append(patches)
                return read_patches(pairs, patches)

            def recorded_run(
                pairs: Pairs, patches: Patches, *, _seen: list[Patches] = reads.training[name]
            ) -> tuple[Any, Any]:
                _seen.append(patches)
                return read_patches(pairs, patches)

            patch.setattr(stages, "batch", recorded_batch)
            patch.setattr(branch_errors, "read_patches", recorded_run)
            patch.setattr(stages, "read_patches", recorded_read)
            stage(experiment)
    return Finished(experiment, reads)


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Experiment:
    """The finished run, to be changed at will."""
    shutil.copytree(finished.experiment.run, tmp_path / "run")
    return replace(finished.experiment, run=tmp_path / "run")


def names(experiment: Experiment, patches: Patches) -> set[str]:
    return {experiment.pairs.entries[picture].name for picture in patches.picture.tolist()}


def held_out_names() -> set[str]:
    """The two of six names with the lowest SHA-256."""
    every = sorted(
        (hashlib.sha256(f"{n:02}.png".encode()).hexdigest(), f"{n:02}.png") for n in range(6)
    )
    return {name for _, name in every[:2]}


def test_pictures_are_held_out_with_all_their_copies(finished: Finished) -> None:
    experiment = finished.experiment

    held_out = experiment.held_out()

    marked = {
        (e.name, e.shrink)
        for e, held in zip(experiment.pairs.entries, held_out, strict=True)
        if held
    }
    assert marked == {(name, shrink) for name in held_out_names() for shrink in (1.0, 0.8)}


def test_the_choice_of_held_out_pictures_outlives_a_new_picture(
    finished: Finished, tmp_path: Path
) -> None:
    hr = write_landscapes(tmp_path / "hr", 6, 40, 40)
    shutil.copy(hr / "00.png", hr / "another.png")
    more = replace(finished.experiment, pairs=pack(hr, tmp_path / "packed", scale=4, shrinks=(1,)))

    held_out = more.held_out()

    now = {entry.name for entry, held in zip(more.pairs.entries, held_out, strict=True) if held}
    assert len(now & held_out_names()) >= 1
    assert now <= held_out_names() | {"another.png"}


@pytest.mark.parametrize("stage", TRAINED)
def test_no_stage_trains_on_a_held_out_picture(finished: Finished, stage: str) -> None:
    trained = finished.reads.training[stage]

    assert trained
    for patches in trained:
        assert len(patches)
        assert not names(finished.experiment, patches) & held_out_names()


@pytest.mark.parametrize("stage", TRAINED)
def test_every_stage_is_validated_on_held_out_pictures_at_full_size(
    finished: Finished, stage: str
) -> None:
    experiment = finished.experiment
    (validated,) = finished.reads.validation[stage]

    assert 1 <= len(validated) <= CONFIG.data.validation_patches
    assert names(experiment, validated) <= held_out_names()
    assert {experiment.pairs.entries[p].shrink for p in validated.picture.tolist()} == {1.0}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_branch_sees_the_patches_of_its_class_only(finished: Finished, level: int) -> None:
    ranking = finished.experiment.ranking()
    places = zip(ranking.patches.picture, ranking.patches.y, ranking.patches.x, strict=True)
    level_of = dict(zip(places, ranking.levels.tolist(), strict=True))

    reads = finished.reads
    for seen in (reads.training[f"branch-{level}"], reads.validation[f"branch-{level}"]):
        patches = seen[0]
        found = zip(patches.picture, patches.y, patches.x, strict=True)
        assert {level_of[place] for place in found} == {level}


def with_branch(experiment: Experiment, run: Path, **more: object) -> Experiment:
    """The same experiment, but for how its branches are trained."""
    branch = BranchSchedule.model_validate(schedule(4, 2) | more)
    config = experiment.config.model_copy(update={"branch": (branch,)})
    return replace(experiment, config=config, run=run)


def test_a_branch_can_learn_from_larger_patches_of_every_class(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_branch(finished.experiment, tmp_path, patches="all", patch_size=40)
    trained, validated = [], []

    def recorded(
        pairs: Pairs, patches: Patches, *, count: int, seed: int, iteration: int, part: slice
    ) -> tuple[RGB8, RGB8]:
        trained.append(patches)
        return batch(pairs, patches, count=count, seed=seed, iteration=iteration, part=part)

    def recorded_read(pairs: Pairs, patches: Patches) -> tuple[RGB8, RGB8]:
        validated.append(patches)
        return read_patches(pairs, patches)

    monkeypatch.setattr(stages, "batch", recorded)
    monkeypatch.setattr(stages, "read_patches", recorded_read)

    stages.train_branch(experiment, 0)

    expected = experiment.training_patches(40)
    assert {patches.size for patches in trained} == {40}
    assert not names(experiment, expected) & held_out_names()
    assert np.array_equal(trained[0].picture, expected.picture)
    assert {(len(p), p.size) for p in validated} == {(CONFIG.data.validation_patches, 32)}


def test_a_taught_branch_learns_what_its_teacher_makes_and_is_judged_by_hr(
    finished: Finished, tmp_path: Path
) -> None:
    still = {"learning_rate": 1e-30, "final_learning_rate": 0.0}
    source, teacher = (finished.experiment.run / f"branch-{level}" / BEST for level in (0, 2))
    asked = {"patches": "all", "start": str(source), "teacher": str(teacher)}
    untaught = with_branch(
        finished.experiment, tmp_path / "hr", patches="all", start=str(source), **still
    )
    experiment = with_branch(finished.experiment, tmp_path / "taught", **asked, **still)

    stages.train_branch(untaught, 0)
    stages.train_branch(experiment, 0)

    iterations, seed = experiment.config.branch[0].iterations, experiment.config.seed
    network, master = load_branch(source)[0], load_branch(teacher)[0]
    patches = experiment.training_patches()
    lr, _ = batch(experiment.pairs, patches, count=4, seed=seed, iteration=iterations - 1, part=ALL)
    with torch.no_grad():
        x = to_tensor(lr, CPU)
        expected = (network(x) - master(x).clamp(0, 1)).abs().mean()
    lines = metrics(tmp_path / "taught" / "branch-0")
    noted = [line["loss"] for line in lines if "loss" in line]
    assert noted == [pytest.approx(float(expected), rel=1e-4)]
    scores = [line["psnr"] for line in lines if "psnr" in line]
    by_hr = [line["psnr"] for line in metrics(tmp_path / "hr" / "branch-0") if "psnr" in line]
    assert scores == by_hr


def test_a_teacher_of_another_scale_is_refused(finished: Finished, tmp_path: Path) -> None:
    experiment = with_branch(finished.experiment, tmp_path, patches="all", teacher="compact-x2")

    with pytest.raises(TrainingError, match="a teacher at scale 4 but compact-x2 is at 2"):
        stages.train_branch(experiment, 0)


@pytest.mark.parametrize("loss", ["l1", "l2", "rmse"])
def test_a_branch_learns_by_the_loss_that_is_asked_for(
    finished: Finished, tmp_path: Path, loss: str
) -> None:
    still = {"learning_rate": 1e-30, "final_learning_rate": 0.0}
    source = finished.experiment.run / "branch-0" / BEST
    asked = {"patches": "all", "start": str(source), "loss": loss}
    experiment = with_branch(finished.experiment, tmp_path, **asked, **still)

    stages.train_branch(experiment, 0)

    iterations = experiment.config.branch[0].iterations
    network, _ = load_branch(source)
    patches, seed = experiment.training_patches(), experiment.config.seed
    lr, hr = batch(
        experiment.pairs, patches, count=4, seed=seed, iteration=iterations - 1, part=ALL
    )
    with torch.no_grad():
        error = (network(to_tensor(lr, CPU)) - to_tensor(hr, CPU)).double()
    squares = (error**2).mean(dim=(1, 2, 3))
    expected = {
        "l1": error.abs().mean(),
        "l2": squares.mean(),
        "rmse": (squares + 1e-6).sqrt().mean(),
    }[loss]
    noted = [line["loss"] for line in metrics(tmp_path / "branch-0") if "loss" in line]
    assert noted == [pytest.approx(float(expected), rel=1e-4)]


@pytest.mark.parametrize(
    "sizes",
    [
        {"network": "fsrcnn", "width": 4},
        {"network": "compact", "width": 4, "depth": 1},
        {"network": "carn", "width": 4},
        {"network": "srresnet", "width": 4},
        {"network": "rcan", "width": 16},
    ],
    ids=lambda sizes: str(sizes["network"]),
)
def test_every_network_trains_in_bf16(
    finished: Finished, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    asked = {
        "model": {"scale": 4, "branches": [sizes] * 2},
        "branch": schedule(2, 2) | {"precision": "bf16-mixed", "patches": "all"},
    }
    config = Config.model_validate(CONFIG.model_dump() | asked)

    path = stages.train_branch(replace(finished.experiment, config=config, run=tmp_path), 0)

    torch.manual_seed(config.seed)
    fresh = build_branch(config.model.specs()[0]).state_dict()
    trained = load_branch(path)[0].state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in trained.items())
    assert all(bool(value.isfinite().all()) for value in trained.values())


def test_a_branch_can_be_saved_with_the_weights_that_bf16_ran(
    finished: Finished, tmp_path: Path
) -> None:
    asked = {"patches": "all", "precision": "bf16-mixed"}
    plain = with_branch(finished.experiment, tmp_path / "plain", **asked)
    rounded = with_branch(finished.experiment, tmp_path / "rounded", **asked, round_weights=True)

    trained, saved = (load_file(stages.train_branch(each, 0)) for each in (plain, rounded))

    assert not all(torch.equal(saved[name], trained[name]) for name in trained)
    assert all(torch.equal(saved[name], trained[name].bfloat16().float()) for name in trained)
    kept = torch.load(tmp_path / "rounded" / "branch-0" / "state.pt")["module"]
    assert all(torch.equal(kept[name], trained[name]) for name in trained)


@pytest.mark.parametrize("file", ["branch-1/best.safetensors", "joint/last.safetensors"])
def test_a_branch_can_go_on_from_another_run(finished: Finished, tmp_path: Path, file: str) -> None:
    source = finished.experiment.run / file
    with_ranking = tmp_path / "run"
    with_ranking.mkdir()
    shutil.copy(finished.experiment.run / "ranking.npz", with_ranking)
    still = {"learning_rate": 1e-30, "final_learning_rate": 0.0}
    experiment = with_branch(finished.experiment, with_ranking, start=str(source), **still)

    path = stages.train_branch(experiment, 1)

    before = load_branch(source)[0] if "branch" in file else load_classsr(source).branches[1]
    assert_same(load_branch(path)[0], before)


def test_a_branch_for_another_scale_gives_all_but_what_makes_the_output(
    finished: Finished, tmp_path: Path
) -> None:
    spec = BranchSpec("compact", 4, 2, depth=1)
    other = build_branch(spec)
    save_branch(other, spec, tmp_path / "x2.safetensors")
    still = schedule(4, 2) | {"learning_rate": 1e-30, "final_learning_rate": 0.0}
    asked = {
        "model": {"scale": 4, "branches": [{"network": "compact", "width": 4, "depth": 1}] * 2},
        "branch": still | {"patches": "all", "start": str(tmp_path / "x2.safetensors")},
    }
    config = Config.model_validate(CONFIG.model_dump() | asked)

    path = stages.train_branch(replace(finished.experiment, config=config, run=tmp_path), 0)

    branch, _ = load_branch(path)
    theirs = other.state_dict()
    fresh = [name for name, value in branch.named_parameters() if value.shape != theirs[name].shape]
    assert fresh == ["body.4.weight", "body.4.bias", "enlarge.enlarge.weight"]
    for name, value in branch.named_parameters():
        assert name in fresh or torch.equal(value, theirs[name])


def test_a_branch_of_integers_starts_from_the_same_network_in_floats(
    finished: Finished, tmp_path: Path
) -> None:
    spec = BranchSpec("compact", 4, 4, depth=1)
    other = build_branch(spec)
    randomise(other)
    save_branch(other, spec, tmp_path / "floats.safetensors")
    still = schedule(4, 2) | {"learning_rate": 1e-30, "final_learning_rate": 0.0}
    integers = {"network": "compact-int8", "width": 4, "depth": 1}
    asked = {
        "model": {"scale": 4, "branches": [integers] * 2},
        "branch": still | {"patches": "all", "start": str(tmp_path / "floats.safetensors")},
    }
    config = Config.model_validate(CONFIG.model_dump() | asked)

    path = stages.train_branch(replace(finished.experiment, config=config, run=tmp_path), 0)

    branch, _ = load_branch(path)
    theirs = other.state_dict()
    steps = {name: value for name, value in branch.state_dict().items() if name not in theirs}
    assert set(steps) == {"body.2.log_step", "body.2.calibrated"}
    assert steps["body.2.calibrated"]
    in_floats = build_branch(spec)
    in_floats.load_state_dict({name: branch.state_dict()[name] for name in theirs})
    x = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(in_floats(x), other(x), rtol=1e-4, atol=1e-4)


def test_a_branch_goes_on_only_from_one_of_its_sizes(finished: Finished, tmp_path: Path) -> None:
    source = finished.experiment.run / "branch-1" / BEST
    experiment = with_branch(finished.experiment, tmp_path, patches="all", start=str(source))

    with pytest.raises(TrainingError, match=r"Expected fsrcnn width 4 in .* has fsrcnn width 5"):
        stages.train_branch(experiment, 0)


@pytest.mark.parametrize(
    ("stage", "train"),
    [
        ("reference", stages.train_reference),
        ("classifier", stages.train_classifier),
        ("joint", stages.train_joint),
    ],
)
def test_a_stage_that_the_config_leaves_out_cannot_be_trained(
    copy: Experiment, stage: str, train: Callable[[Experiment], Path]
) -> None:
    config = copy.config.model_copy(update={stage: None})

    with pytest.raises(UsageError, match=rf"Expected \[{stage}\] in the config, which leaves"):
        train(replace(copy, config=config))


def test_the_other_stages_see_every_training_patch(finished: Finished) -> None:
    everything = len(finished.experiment.training_patches())

    for stage in ("reference", "joint"):
        assert {len(patches) for patches in finished.reads.training[stage]} == {everything}
    assert sum(map(len, finished.reads.training["classifier"])) == everything


def test_stage_two_can_do_with_fewer_patches(copy: Experiment) -> None:
    shutil.rmtree(copy.run / "classifier")
    data = CONFIG.data.model_copy(update={"classifier_patches": 7})

    stages.train_classifier(replace(copy, config=CONFIG.model_copy(update={"data": data})))

    kept = (copy.run / "classifier" / "branch-errors.bin").stat().st_size
    assert kept == 7 * 3 * 3 * 32 * 32 * 2  # patches, levels, channels, LR pixels, bytes


def test_the_ranking_is_that_of_the_reference_network(finished: Finished) -> None:
    experiment = finished.experiment

    ranking = experiment.ranking()

    every = len(experiment.training_patches()) + len(experiment.validation_patches())
    assert len(ranking.psnr) == every
    assert np.ptp(np.bincount(ranking.levels)) <= 2
    reference = experiment.run / "reference" / BEST
    assert ranking.provenance.reference_checksum == sha256(reference)
    network, _ = load_branch(reference)
    with torch.no_grad():
        for n in (0, every // 2, every - 1):
            lr, hr = read_patches(experiment.pairs, ranking.patches.select(np.array([n])))
            sr = network(to_tensor(lr, CPU)).clamp(0, 1)
            error = 255 * (sr - to_tensor(hr, CPU))[:, :, 4:-4, 4:-4]
            expected = 20 * math.log10(255) - 10 * float(error.square().mean().log10())
            assert ranking.psnr[n] == pytest.approx(expected, abs=0.05)  # rounded to 8 bits there


def test_a_reference_that_overshoots_is_clipped_not_wrapped(copy: Experiment) -> None:
    reference = copy.run / "reference" / BEST
    network, spec = load_branch(reference)
    with torch.no_grad():
        network.get_parameter("upsample.bias").fill_(1000.0)
    save_branch(network, spec, reference)

    ranking = stages.rank_patches(copy)

    _, hr = read_patches(copy.pairs, ranking.patches)
    np.testing.assert_allclose(ranking.psnr, patch_psnr(np.full_like(hr, 255), hr), atol=1e-4)


def psnr_of(network: nn.Module, experiment: Experiment, n: int, ranking: Ranking) -> float:
    """PSNR of one ranked patch in float, border of 4 left out."""
    lr, hr = read_patches(experiment.pairs, ranking.patches.select(np.array([n])))
    with torch.no_grad():
        sr = network(to_tensor(lr, CPU)).clamp(0, 1)
    error = 255 * (sr - to_tensor(hr, CPU))[:, :, 4:-4, 4:-4]
    return 20 * math.log10(255) - 10 * float(error.square().mean().log10())


@pytest.mark.parametrize(
    ("file", "sizes"),
    [("branch-1/best.safetensors", "fsrcnn width 5"), ("joint/last.safetensors", "fsrcnn width 6")],
)
def test_any_checkpoint_can_rank_at_its_hardest_level(
    copy: Experiment, file: str, sizes: str
) -> None:
    shutil.rmtree(copy.run / "reference")
    path = copy.run / file

    ranking = stages.rank_patches(copy, str(path))

    branch = file.startswith("branch")
    network = load_branch(path)[0] if branch else load_classsr(path).branches[-1]
    for n in (0, len(ranking.psnr) - 1):
        assert ranking.psnr[n] == pytest.approx(psnr_of(network, copy, n, ranking), abs=0.05)
    kept = copy.ranking().provenance
    assert kept.reference_checksum == sha256(path)
    assert kept.reference == f"{sizes}, {path}"
    assert kept.pairs_checksum == copy.pairs.checksum


@pytest.mark.parametrize("spelling", ["fsrcnn-x4", str(find_model("fsrcnn-x4").folder)])
def test_a_released_model_can_rank_before_anything_is_trained(
    finished: Finished, tmp_path: Path, spelling: str
) -> None:
    experiment = replace(finished.experiment, run=tmp_path / "not yet" / "run")

    ranking = stages.rank_patches(experiment, spelling)

    weights = find_model("fsrcnn-x4").path("model.safetensors")
    hardest = load_classsr(weights).branches[-1]
    for n in (0, len(ranking.psnr) - 1):
        assert ranking.psnr[n] == pytest.approx(psnr_of(hardest, experiment, n, ranking), abs=0.05)
    kept = experiment.ranking().provenance
    assert kept.reference_checksum == sha256(weights)
    assert kept.reference == f"fsrcnn width 56, {spelling}"


def test_without_a_name_the_runs_own_reference_ranks(finished: Finished) -> None:
    kept = finished.experiment.ranking().provenance

    assert kept.reference == "fsrcnn width 4, reference/best.safetensors"


@pytest.mark.parametrize("name", ["gone.safetensors", "no-such-model"])
def test_a_reference_that_does_not_exist_is_named(finished: Finished, name: str) -> None:
    with pytest.raises(ModelError, match=name):
        stages.rank_patches(finished.experiment, name)


def test_a_reference_of_another_scale_is_refused(finished: Finished, tmp_path: Path) -> None:
    spec, path = BranchSpec("fsrcnn", 4, 2), tmp_path / "x2.safetensors"
    save_branch(build_branch(spec), spec, path)

    with pytest.raises(TrainingError, match=r"scale 4 but .*x2\.safetensors is at 2"):
        stages.rank_patches(finished.experiment, str(path))


@pytest.mark.parametrize("cut", [{"shares": (0.2, 0.3, 0.5)}, {"borders": (31.0, 24.0)}])
def test_classes_are_cut_as_the_config_says(
    copy: Experiment, cut: dict[str, tuple[float, ...]]
) -> None:
    config = CONFIG.model_copy(update={"ranking": RankingConfig.model_validate(cut)})

    ranking = stages.rank_patches(replace(copy, config=config))

    if "borders" in cut:
        assert ranking.borders == (31.0, 24.0)
    else:
        found = np.bincount(ranking.levels, minlength=3) / len(ranking.psnr)
        np.testing.assert_allclose(found, cut["shares"], atol=2 / len(ranking.psnr))


def test_the_reference_learns(finished: Finished) -> None:
    scores = [
        line["psnr"] for line in metrics(finished.experiment.run / "reference") if "psnr" in line
    ]

    assert len(scores) == 3
    assert scores[-1] > scores[0] + 0.3  # dB


@pytest.mark.parametrize("name", [BEST, LAST])
def test_stage_two_leaves_the_branches_untouched(finished: Finished, name: str) -> None:
    run = finished.experiment.run

    model = load_classsr(run / "classifier" / name)

    for level, branch in enumerate(model.branches):
        assert_same(branch, load_branch(run / f"branch-{level}" / BEST)[0])


def test_stage_two_trains_the_classifier(finished: Finished) -> None:
    torch.manual_seed(CONFIG.seed)
    fresh = ClassSR(CONFIG.model.specs()).classifier.state_dict()

    trained = load_classsr(finished.experiment.run / "classifier" / LAST).classifier

    assert not any(torch.equal(value, fresh[name]) for name, value in trained.state_dict().items())


def test_stage_three_trains_everything(finished: Finished) -> None:
    run = finished.experiment.run
    before = load_classsr(run / "classifier" / LAST).state_dict()

    after = load_classsr(run / "joint" / LAST).state_dict()

    assert not [name for name, value in after.items() if torch.equal(value, before[name])]


def test_stage_three_begins_where_stage_two_ended(copy: Experiment) -> None:
    (copy.run / "classifier" / BEST).unlink()  # early in stage 2, and of no matter here
    shutil.rmtree(copy.run / "joint")
    assert CONFIG.joint is not None
    standstill = CONFIG.joint.model_copy(
        update={"learning_rate": 1e-9, "final_learning_rate": 1e-9}
    )

    stages.train_joint(replace(copy, config=CONFIG.model_copy(update={"joint": standstill})))

    before = load_classsr(copy.run / "classifier" / LAST).state_dict()
    after = load_classsr(copy.run / "joint" / LAST).state_dict()
    for name, value in after.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)


def interrupted_batch(
    pairs: Pairs,
    patches: Patches,
    *,
    iteration: int,
    **options: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    if iteration == 3:
        raise KeyboardInterrupt
    return batch(pairs, patches, iteration=iteration, **options)


def interrupted_draw(among: int, *, iteration: int, **options: Any) -> tuple[Any, Any]:  # noqa: ANN401
    if iteration == 3:
        raise KeyboardInterrupt
    return draw(among, iteration=iteration, **options)


@pytest.mark.parametrize("stage", ["reference", "branch-1", "classifier", "joint"])
def test_an_interrupted_stage_ends_as_if_it_had_not_been(
    copy: Experiment, finished: Finished, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy.run / stage)

    monkeypatch.setattr(stages, "batch", interrupted_batch)
    monkeypatch.setattr(branch_errors, "draw", interrupted_draw)
    with pytest.raises(KeyboardInterrupt):
        STAGES[stage](copy)
    monkeypatch.undo()
    torch.manual_seed(999)  # the state of torch's generator does not matter

    STAGES[stage](copy)

    for name in (BEST, LAST):
        found = load_file(copy.run / stage / name)
        expected = load_file(finished.experiment.run / stage / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_validation_of_stages_two_and_three_reports_the_share_of_every_level(
    finished: Finished,
) -> None:
    for stage in ("classifier", "joint"):
        lines = [line for line in metrics(finished.experiment.run / stage) if "psnr" in line]

        assert len(lines) == 3
        for line in lines:
            assert sum(line[f"share_{level}"] for level in range(3)) == pytest.approx(1)


def test_the_reported_psnr_is_that_of_the_checkpoint(finished: Finished) -> None:
    experiment = finished.experiment
    model = load_classsr(experiment.run / "joint" / LAST)
    (validated,) = finished.reads.validation["joint"]
    lr, hr = (to_tensor(p, CPU) for p in read_patches(experiment.pairs, validated))
    with torch.no_grad():
        error = model(lr)[0].clamp(0, 1) - hr

    expected = -10 * float(error[:, :, 4:-4, 4:-4].square().mean().log10())

    assert metrics(experiment.run / "joint")[-1]["psnr"] == pytest.approx(expected, abs=1e-3)


def routed(experiment: Experiment, margin: float) -> Experiment:
    """The same run, its third stage on the routed output and still to be done."""
    shutil.rmtree(experiment.run / "joint")
    config = experiment.config.model_copy(update={"routed": RoutedConfig(margin=margin)})
    return dataclasses.replace(experiment, config=config)


def test_a_routed_stage_three_leaves_the_classifier_but_for_the_margin(copy: Experiment) -> None:
    before = load_classsr(copy.run / "classifier" / LAST)

    stages.train_joint(routed(copy, 0.5))

    after = load_classsr(copy.run / "joint" / LAST)
    lead = head_of(after).bias - head_of(before).bias
    torch.testing.assert_close(lead, torch.tensor([0.0, 0.0, 0.5]))
    head_of(after).bias.data = head_of(before).bias.data
    assert_same(after.classifier, before.classifier)


def test_a_branch_that_is_given_nothing_learns_nothing_when_routed(copy: Experiment) -> None:
    before = load_classsr(copy.run / "classifier" / LAST)

    stages.train_joint(routed(copy, 1e6))  # everything goes to the hardest

    after = load_classsr(copy.run / "joint" / LAST)
    for level in range(2):
        assert_same(after.branches[level], before.branches[level])
    hardest = after.branches[2].state_dict()
    assert not any(torch.equal(v, hardest[k]) for k, v in before.branches[2].state_dict().items())


def test_an_interrupted_routed_stage_applies_its_margin_once(
    copy: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = routed(copy, 0.5)
    whole = dataclasses.replace(experiment, run=copy.run.with_name("whole"))
    shutil.copytree(copy.run, whole.run)
    stages.train_joint(whole)

    monkeypatch.setattr(stages, "batch", interrupted_batch)
    with pytest.raises(KeyboardInterrupt):
        stages.train_joint(experiment)
    monkeypatch.undo()

    stages.train_joint(experiment)

    found, expected = (load_classsr(e.run / "joint" / LAST) for e in (experiment, whole))
    assert_same(found, expected)


@pytest.fixture
def collapsed(copy: Experiment) -> Experiment:
    """A run whose Class-Module is certain of level 0 on every patch, before stage 3."""
    shutil.rmtree(copy.run / "joint")
    model = load_classsr(copy.run / "classifier" / LAST)
    with torch.no_grad():
        head_of(model).bias.copy_(torch.tensor([1000.0, 0.0, 0.0]))
    save_classsr(model, copy.run / "classifier" / LAST)
    return copy


def test_a_level_that_gets_almost_nothing_is_reported(
    collapsed: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "classsr"):
        stages.train_joint(collapsed)

    said = [record.getMessage() for record in caplog.records]
    assert "level 1 gets only 0.0 % of the patches" in said
    assert "level 2 gets only 0.0 % of the patches" in said


def test_a_saturated_class_module_starts_afresh_and_learns(
    collapsed: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    stages.train_joint(collapsed)

    assert "2: level 0 is certain on every patch (saturation); it starts afresh" in caplog.text
    last = metrics(collapsed.run / "joint")[-1]
    assert last["confidence"] < 0.99


def test_a_collapse_can_be_made_to_stop_the_stage(collapsed: Experiment) -> None:
    config = collapsed.config.model_copy(update={"on_collapse": "stop"})

    with pytest.raises(TrainingError, match=r"iteration 2 level 0 is certain on every patch"):
        stages.train_joint(dataclasses.replace(collapsed, config=config))


def test_the_losses_are_added_with_their_weights() -> None:
    hr, sr = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    probabilities = torch.rand(5, 3).softmax(dim=1)

    losses = classsr_losses((sr, probabilities), hr, LossWeights())

    parts = ((sr - hr).abs().mean(), class_loss(probabilities), average_loss(probabilities))
    expected = 2000 * parts[0] + 1 * parts[1] + 6 * parts[2]
    torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close((losses["l1"], losses["class_loss"], losses["average_loss"]), parts)


# --- What cannot start ---


def open_on(device: str, folder: Path) -> Experiment:
    config = Path(__file__).parents[1] / "configs" / "smoke.toml"
    pack(write_landscapes(folder / "hr", 1, 40, 40), folder / "packed", scale=4)
    return stages.open_experiment(config, folder / "packed", folder / "run", device=device)


def test_training_takes_cuda_where_there_is_any(tmp_path: Path) -> None:
    experiment = open_on("auto", tmp_path)

    assert experiment.device == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(UsageError, match=rf"Expected a device among cpu.* but got '{device}'"):
        open_on(device, tmp_path)


def test_pairs_of_another_scale_are_refused(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="pairs at scale 4 but these are at 2"):
        Experiment(CONFIG, replace(pairs, scale=2), tmp_path)


def test_holding_out_every_picture_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    greedy = CONFIG.data.model_copy(update={"validation_pictures": 6})
    experiment = Experiment(CONFIG.model_copy(update={"data": greedy}), pairs, tmp_path)

    with pytest.raises(TrainingError, match="more than 6 pictures but got 6"):
        stages.train_reference(experiment)


def test_pictures_too_small_for_a_patch_are_refused(tmp_path: Path) -> None:
    hr = write_landscapes(tmp_path / "hr", 4, 100, 100)
    small = pack(hr, tmp_path / "packed", scale=4)

    with pytest.raises(TrainingError, match="train and validate on but got 0 and 0"):
        stages.train_reference(Experiment(CONFIG, small, tmp_path / "run"))


@pytest.mark.parametrize("level", [-1, 3])
def test_a_level_that_does_not_exist_is_refused(copy: Experiment, level: int) -> None:
    with pytest.raises(TrainingError, match=f"from 0 to 2 but got {level}"):
        stages.train_branch(copy, level)


@pytest.mark.parametrize(
    ("stage", "needs", "error"),
    [
        ("rank", "reference", ModelError),
        ("branch-1", "ranking.npz", InputError),
        ("classifier", "branch-2", ModelError),
        ("joint", "classifier", ModelError),
    ],
)
def test_a_stage_without_what_it_needs_names_it(
    copy: Experiment, stage: str, needs: str, error: type[Exception]
) -> None:
    (copy.run / needs).rename(copy.run / "elsewhere")

    with pytest.raises(error, match=needs):
        STAGES[stage](copy)
