"""The stages by name: what each trains, on which patches, with which loss, and where its files lie.

run/
├── reference/      the network that ranks, trained on all patches
├── ranking.npz     PSNR and level of every patch
├── branch-0/ ...   stage 1: each branch on the patches of its level
├── classifier/     stage 2: the Class-Module, branches frozen
├── joint/          stage 3: everything together
└── errors/         last: a Class-Module that predicts errors (see `error_classifier`)
"""

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from classsr.checkpoint import (
    load_branch,
    load_classsr,
    load_hardest,
    load_networks,
    save_branch,
    save_classsr,
)
from classsr.data.pairs import RGB8, Pairs, open_pairs
from classsr.data.patches import LR_PATCH, Patches, batch, find_patches, read_patches
from classsr.data.ranking import Ranking, Upscale, load_ranking, rank, save_ranking
from classsr.errors import TrainingError, UsageError
from classsr.flops import count_macs
from classsr.model import find_model, sha256
from classsr.networks import BranchSpec, Classifier, ClassSR, Compact, build_branch
from classsr.networks.branch import BRANCHES, sizes
from classsr.training.branch_errors import BranchErrors
from classsr.training.collapse import collapse, health, start_afresh
from classsr.training.config import BranchSchedule, Config, LossWeights, load_config
from classsr.training.loop import Task, to_tensor, train
from classsr.training.losses import average_loss, class_loss, from_all_processes, rmse_loss
from classsr.training.routed import levels_of

BEST = "best.safetensors"
LAST = "last.safetensors"
CHUNK = 64  # patches enlarged at once outside training
PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "rmse": rmse_loss,
}
SCARCE = 0.05  # a level that gets less than this share is reported

Section = TypeVar("Section")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A config, the pairs it trains on and the folder its files go to."""

    config: Config
    pairs: Pairs
    run: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.pairs.scale != self.config.model.scale:
            raise TrainingError(
                f"Expected pairs at scale {self.config.model.scale} but these are at {self.pairs.scale}."
            )

    def held_out(self) -> NDArray[np.bool_]:
        """Mark the pairs of the validation pictures: those whose names have the lowest SHA-256."""
        names = sorted(
            {entry.name for entry in self.pairs.entries},
            key=lambda name: hashlib.sha256(name.encode()).hexdigest(),
        )
        count = self.config.data.validation_pictures
        if count >= len(names):
            raise TrainingError(f"Expected more than {count} pictures but got {len(names)}.")
        chosen = set(names[:count])
        return np.array([entry.name in chosen for entry in self.pairs.entries])

    def training_patches(self, size: int = LR_PATCH) -> Patches:
        """Return all patches of the training pictures and their shrunk copies, every half of `size` LR pixels."""
        return find_patches(self.pairs, np.flatnonzero(~self.held_out()), size=size, step=size // 2)

    def validation_patches(self) -> Patches:
        """Return the patches of the validation pictures at full size."""
        full = np.array([entry.shrink == 1.0 for entry in self.pairs.entries])
        return find_patches(self.pairs, np.flatnonzero(self.held_out() & full))

    def ranking(self) -> Ranking:
        """Load the ranking of the training and validation patches."""
        return load_ranking(self.run / "ranking.npz", self.pairs)


def open_experiment(
    config: Path, pairs: Path, run: Path, *, device: str = "auto", threads: int | None = None
) -> Experiment:
    """Read a config and open its pairs.

    Args:
        config: a TOML file.
        pairs: a packed folder.
        run: where the files of the run go.
        device: "cpu", "cuda", "mps" or "auto": CUDA where PyTorch finds it, else the CPU.
        threads: what PyTorch uses of the processor, all by default.

    Raises:
        UsageError: the config is wrong, or there is no such device.
        InputError: the pairs are missing or damaged.
        TrainingError: config and pairs do not fit.

    """
    if threads is not None:
        torch.set_num_threads(threads)
    return Experiment(load_config(config), open_pairs(pairs), run, _find_device(device))


def _find_device(device: str) -> str:
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if device == "auto":
        return "cuda" if found["cuda"] else "cpu"
    if not found.get(device):
        usable = ", ".join(name for name, there in found.items() if there)
        raise UsageError(f"Expected a device among {usable} but got {device!r}.")
    return device


def _asked(section: Section | None, name: str) -> Section:
    """Return a section of the config; raise UsageError where it is missing, and the stage left out with it."""
    if section is None:
        raise UsageError(f"Expected [{name}] in the config, which leaves this stage out.")
    return section


def train_reference(experiment: Experiment) -> Path:
    """Train the network that ranks the patches, on all of them."""
    config = experiment.config
    section = _asked(config.reference, "reference")
    spec = section.branch.spec(config.model.scale)
    torch.manual_seed(config.seed)
    task = _branch_task(
        experiment,
        spec,
        experiment.training_patches(),
        experiment.validation_patches(),
        count=section.schedule.batch,
        seed=config.seed,
    )
    folder = experiment.run / "reference"
    return train(task, section.schedule, folder=folder, device=experiment.device)


def rank_patches(experiment: Experiment, reference: str | None = None) -> Ranking:
    """Rank the training and validation patches by a trained network and write `ranking.npz`.

    Args:
        experiment: which patches, and where the classes are cut.
        reference: a checkpoint, or a released model's name or folder, of which the hardest branch ranks; by default the
            network of `train_reference`.

    Raises:
        ModelError: there is no such network, or it is damaged.
        TrainingError: it enlarges by another factor.

    """
    own = experiment.run / "reference" / BEST
    path = own if reference is None else _weights(reference)
    network, spec = load_hardest(path)
    if spec.scale != experiment.pairs.scale:
        raise TrainingError(
            f"Expected a reference at scale {experiment.pairs.scale} but {reference or path} is at {spec.scale}."
        )

    def progress(done: int, total: int) -> None:
        if done % (CHUNK * 200) == 0 or done == total:
            logger.info("%d/%d patches ranked", done, total)

    train_set, validation_set = experiment.training_patches(), experiment.validation_patches()
    both = Patches(
        np.concatenate([train_set.picture, validation_set.picture]),
        np.concatenate([train_set.y, validation_set.y]),
        np.concatenate([train_set.x, validation_set.x]),
    )
    config = experiment.config
    ranking = rank(
        experiment.pairs,
        both,
        _as_upscale(network, experiment.device),
        levels=len(config.model.branches),
        shares=config.ranking.shares,
        borders=config.ranking.borders,
        reference_checksum=sha256(path),
        reference=f"{_sizes_in_words(spec)}, {reference or f'reference/{BEST}'}",
        chunk=CHUNK,
        progress=progress,
    )
    experiment.run.mkdir(parents=True, exist_ok=True)
    save_ranking(ranking, experiment.run / "ranking.npz")
    logger.info("class borders: %s dB", ", ".join(f"{border:.2f}" for border in ranking.borders))
    return ranking


def _weights(name: str) -> Path:
    """Find the weights that a checkpoint's path, or a released model's name or folder, stands for."""
    if name.endswith(".safetensors") or Path(name).is_file():
        return Path(name)
    model = find_model(name)
    return model.path(model.config.weights)


def _as_upscale(network: nn.Module, device: str) -> Upscale:
    """Let a network enlarge pictures of 8 bits."""
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def upscale(lr: RGB8) -> RGB8:
        with torch.inference_mode():
            sr = network(to_tensor(lr, torch.device(device)))
        pixels: RGB8 = (sr.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pixels

    return upscale


def _sizes_in_words(spec: BranchSpec) -> str:
    return " ".join([spec.network, *(f"{name} {size}" for name, size in sizes(spec).items())])


def train_branch(experiment: Experiment, level: int) -> Path:
    """Stage 1: train the branch of one level, on the patches of its class or on all, unless it has nothing to learn."""
    config = experiment.config
    if not 0 <= level < len(config.model.branches):
        raise TrainingError(
            f"Expected a level from 0 to {len(config.model.branches) - 1} but got {level}."
        )
    folder, spec = experiment.run / f"branch-{level}", config.model.specs()[level]
    if not any(p.requires_grad for p in build_branch(spec).parameters()):
        logger.info("%s has nothing to learn", spec.network)
        folder.mkdir(parents=True, exist_ok=True)
        save_branch(build_branch(spec), spec, folder / BEST)
        return folder / BEST
    schedule = config.branch_schedule(level)
    if schedule.iterations == 0:
        assert schedule.start is not None
        folder.mkdir(parents=True, exist_ok=True)
        branch = build_branch(spec)
        _start_from(branch, _same_branch(schedule.start, spec, exact=True))
        save_branch(branch, spec, folder / BEST)
        return folder / BEST
    train_set, validation_set = _branch_patches(experiment, level, schedule)
    torch.manual_seed(config.seed + level)
    task = _branch_task(
        experiment,
        spec,
        train_set,
        validation_set,
        count=schedule.batch,
        seed=config.seed + level,
        pixel_loss=schedule.loss,
    )
    if schedule.start is not None:
        _start_from(task.module, _same_branch(schedule.start, spec))
    if isinstance(task.module, Compact):
        task = replace(task, prepare=partial(_calibrate, task.module, task.batch))
    if schedule.teacher is not None:
        task = _taught(task, schedule, experiment)
    if schedule.round_weights:
        task = replace(task, save=lambda module, path: save_branch(_rounded(module), spec, path))
    return train(task, schedule, folder=folder, device=experiment.device)


def _calibrate(
    branch: Compact, batch: Callable[[int, slice], tuple[RGB8, NDArray[Any]]], fabric: Fabric
) -> None:
    """Prepare fresh convolutions of integers by the first batch, the whole of it in every process."""
    lr, _ = batch(0, slice(None))
    branch.calibrate(to_tensor(lr, fabric.device))


def _rounded(branch: nn.Module) -> nn.Module:
    """Return a copy with the weights that mixed precision runs: all of them rounded to bf16, kept as float32."""
    branch = copy.deepcopy(branch)
    for weights in branch.parameters():
        weights.data = weights.data.bfloat16().float()
    return branch


def _taught(task: Task, schedule: BranchSchedule, experiment: Experiment) -> Task:
    """Let a branch learn what another network makes of LR instead of HR; it is still judged by HR.

    What nobody can know from LR is in HR but not in that, so that the gradients are less noisy.

    Raises:
        ModelError: there is no such network, or it is damaged.
        TrainingError: it enlarges by another factor.

    """
    assert schedule.teacher is not None
    network, spec = load_hardest(_weights(schedule.teacher))
    scale, device = experiment.config.model.scale, experiment.device
    if spec.scale != scale:
        raise TrainingError(
            f"Expected a teacher at scale {scale} but {schedule.teacher} is at {spec.scale}."
        )
    teacher = network.requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    half = torch.autocast(device, torch.bfloat16, enabled=schedule.precision == "bf16-mixed")

    def loss(module: nn.Module, x: Tensor, _target: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), half:
            taught = teacher(x).float().clamp(0, 1)
        return task.loss(module, x, taught)

    return replace(task, loss=loss)


def _branch_patches(
    experiment: Experiment, level: int, schedule: BranchSchedule
) -> tuple[Patches, Patches]:
    """Return what a branch learns from, and what it is validated on."""
    if schedule.patches != "class":
        both = experiment.training_patches(schedule.patch_size), experiment.validation_patches()
        if schedule.patches == "all":
            return both
        return _routed(experiment, level, both[0]), _routed(experiment, level, both[1])
    ranking = experiment.ranking()
    mine = ranking.levels == level
    held_out = experiment.held_out()[ranking.patches.picture]
    return ranking.patches.select(mine & ~held_out), ranking.patches.select(mine & held_out)


def _routed(experiment: Experiment, level: int, patches: Patches) -> Patches:
    """Return the patches that the model which a branch starts from runs with that branch."""
    spec, start = (
        experiment.config.model.specs()[level],
        experiment.config.branch_schedule(level).start,
    )
    assert start is not None
    model = load_classsr(_weights(start))
    found = [each for each in _with_plain_form(spec) if each in model.specs]
    if not found:
        raise TrainingError(f"Expected {_sizes_in_words(spec)} for x{spec.scale} in {start}.")
    levels = levels_of(patches, model, experiment.pairs, device=experiment.device)
    mine = levels == model.specs.index(found[0])
    logger.info("%d of %d patches go to %s", mine.sum(), len(patches), _sizes_in_words(spec))
    return patches.select(mine)


def _with_plain_form(spec: BranchSpec) -> list[BranchSpec]:
    """Return these sizes, and those of the network that this one is a form of."""
    plain = BRANCHES[spec.network].form_of
    return [spec] if plain is None else [spec, replace(spec, network=plain)]


def _same_branch(name: str, spec: BranchSpec, *, exact: bool = False) -> nn.Module:
    """Load a branch of these sizes from a checkpoint or a released model.

    Args:
        name: of the model, or the checkpoint's path.
        spec: the sizes.
        exact: whether neither one for another scale will do nor the same network in floats for one in integers.

    """
    networks = load_networks(_weights(name))
    for each in [spec] if exact else _with_plain_form(spec):
        for found, branch in zip(networks.specs, networks.branches, strict=True):
            if (found if exact else replace(found, scale=spec.scale)) == each:
                return branch
    if exact:
        raise TrainingError(f"Expected {_sizes_in_words(spec)} for x{spec.scale} in {name}.")
    has = ", ".join(_sizes_in_words(found) for found in networks.specs)
    raise TrainingError(f"Expected {_sizes_in_words(spec)} in {name} but it has {has}.")


def _start_from(branch: nn.Module, other: nn.Module) -> None:
    """Take the other's weights; one for another scale has no layer that makes the output, which starts afresh."""
    mine = branch.state_dict()
    fitting = {
        name: weights
        for name, weights in other.state_dict().items()
        if name in mine and weights.shape == mine[name].shape
    }
    branch.load_state_dict(mine | fitting)


def of_stage_one(experiment: Experiment) -> ClassSR:
    """Return the branches of stage 1, frozen, with a fresh Class-Module."""
    model = ClassSR(experiment.config.model.specs())
    for level, branch in enumerate(model.branches):
        trained, _ = load_branch(experiment.run / f"branch-{level}" / BEST)
        branch.load_state_dict(trained.state_dict())
    model.freeze_branches()
    return model


def train_classifier(experiment: Experiment) -> Path:
    """Stage 2: train the Class-Module on all patches, the branches of stage 1 frozen."""
    schedule = _asked(experiment.config.classifier, "classifier")
    torch.manual_seed(experiment.config.seed)
    folder = experiment.run / "classifier"
    task = classifier_task(experiment, of_stage_one(experiment), folder)
    return train(task, schedule, folder=folder, device=experiment.device)


def train_joint(experiment: Experiment) -> Path:
    """Stage 3: train the branches and the Class-Module together, or the branches on what they are given.

    It goes on from the end of stage 2, not from its best PSNR: early in that stage most patches go to the hardest
    branch, which is good for PSNR and for nothing else.
    """
    schedule = _asked(experiment.config.joint, "joint")
    model = load_classsr(experiment.run / "classifier" / LAST)
    routed = experiment.config.routed
    if routed is not None:
        model.freeze_classifier()
        assert isinstance(model.classifier, Classifier)
        model.classifier.head.bias.data[-1] += routed.margin
    task = joint_task(experiment, model, count=schedule.batch)
    folder = experiment.run / "joint"
    return train(task, schedule, folder=folder, device=experiment.device)


def _branch_task(
    experiment: Experiment,
    spec: BranchSpec,
    patches: Patches,
    validation: Patches,
    *,
    count: int,
    seed: int,
    pixel_loss: str = "l1",
) -> Task:
    if not len(patches) or not len(validation):
        raise TrainingError(
            f"Expected patches to train and validate on but got {len(patches)} and {len(validation)}; "
            "change validation_pictures or add pictures."
        )
    pairs = experiment.pairs
    measured = evenly(len(validation), experiment.config.data.validation_patches)
    lr, hr = read_patches(pairs, validation.select(measured))

    def loss(network: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"loss": PIXEL_LOSSES[pixel_loss](network(x).float(), target)}

    def validate(network: nn.Module) -> dict[str, float]:
        squared = [_squared_error(network(x), y) for x, y in _chunks(lr, hr, experiment.device)]
        return {"psnr": _psnr(squared)}

    return Task(
        module=build_branch(spec),
        batch=lambda iteration, part: batch(
            pairs, patches, count=count, seed=seed, iteration=iteration, part=part
        ),
        loss=loss,
        validate=validate,
        save=lambda module, path: save_branch(module, spec, path),
    )


def classifier_task(experiment: Experiment, model: ClassSR, folder: Path) -> Task:
    """Return what stage 2 does: train the Class-Module on the errors of the frozen branches, which `folder` keeps."""
    config, patches = experiment.config, experiment.training_patches()
    schedule = _asked(config.classifier, "classifier")
    errors = BranchErrors(
        folder,
        experiment.pairs,
        patches.select(evenly(len(patches), config.data.classifier_patches)),
        seed=config.seed,
        precision=schedule.precision,
    )

    def loss(network: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        error, probabilities = network(x, target)
        return classsr_losses((error, probabilities), torch.zeros_like(error), config.loss)

    return replace(
        joint_task(experiment, model, count=schedule.batch),
        prepare=lambda fabric: errors.compute(model.branches, fabric),
        batch=lambda iteration, part: errors.batch(
            count=schedule.batch, iteration=iteration, part=part
        ),
        as_target=lambda values, device: torch.from_numpy(values).to(device),
        loss=loss,
    )


def joint_task(experiment: Experiment, model: ClassSR, *, count: int) -> Task:
    """Return what stage 3 does: train what is not frozen of a ClassSR model, in its mixture, on all patches."""
    pairs, config = experiment.pairs, experiment.config
    patches = experiment.training_patches()
    validation = experiment.validation_patches()
    measured = evenly(len(validation), config.data.validation_patches)
    lr, hr = read_patches(pairs, validation.select(measured))
    costs = relative_costs(model, patches.size)
    levels = len(model.branches)

    def validate(network: nn.Module) -> dict[str, float]:
        squared, judged = [], []
        for x, y in _chunks(lr, hr, experiment.device):
            sr, probabilities = network(x)
            squared.append(_squared_error(sr, y))
            judged.append(probabilities)
        scores = {"psnr": _psnr(squared)} | health(torch.cat(judged))
        shares = [scores[f"share_{level}"] for level in range(levels)]
        scores["cost"] = sum(s * c for s, c in zip(shares, costs, strict=False)) + costs[-1]
        for level, share in enumerate(shares):
            if share < SCARCE:
                logger.warning("level %d gets only %.1f %% of the patches", level, 100 * share)
        return scores

    def mend(network: nn.Module, mended: int) -> None:
        assert isinstance(network, ClassSR)
        assert isinstance(network.classifier, Classifier)
        x = torch.cat([x for x, _ in _chunks(lr, hr, experiment.device)])
        start_afresh(network.classifier, x, seed=config.seed + mended + 1)

    return Task(
        module=model,
        batch=lambda iteration, part: batch(
            pairs, patches, count=count, seed=config.seed, iteration=iteration, part=part
        ),
        loss=lambda network, x, target: classsr_losses(network(x), target, config.loss),
        validate=validate,
        save=lambda module, path: save_classsr(cast("ClassSR", module), path),
        fault=lambda scores, iteration: (
            collapse(scores, levels, iteration) if model.learns_routing else None
        ),
        mend=mend if config.on_collapse == "mend" else None,
    )


def relative_costs(model: ClassSR, size: int) -> list[float]:
    """Return what a patch costs in each branch and, last, in the Class-Module, of what the hardest branch costs."""
    macs = [count_macs(module, size, size) for module in (*model.branches, model.classifier)]
    return [each / macs[-2] for each in macs]


def classsr_losses(
    output: tuple[Tensor, Tensor], hr: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Combine the three losses of the paper (eq. 5) for an output of `ClassSR.mixture`."""
    sr, probabilities = output
    l1, sharp = F.l1_loss(sr, hr), class_loss(probabilities)
    equal = average_loss(from_all_processes(probabilities))
    total = weights.l1 * l1 + weights.class_loss * sharp + weights.average_loss * equal
    return {"loss": total, "l1": l1, "class_loss": sharp, "average_loss": equal}


def evenly(count: int, most: int | None) -> NDArray[np.int64]:
    """Pick at most `most` of `count` places, evenly spread; all, if None."""
    places = np.linspace(0, count - 1, count if most is None else min(most, count))
    return places.astype(np.int64)


def _chunks(lr: RGB8, hr: RGB8, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(lr), CHUNK):
        part = slice(start, start + CHUNK)
        yield to_tensor(lr[part], torch.device(device)), to_tensor(hr[part], torch.device(device))


def _squared_error(sr: Tensor, hr: Tensor) -> Tensor:
    """Return each patch's mean squared error (N,), values in [0, 1], 4 pixels of border cropped."""
    error = sr.float().clamp(0, 1) - hr
    return error[:, :, 4:-4, 4:-4].square().mean(dim=(1, 2, 3))


def _psnr(squared: list[Tensor]) -> float:
    """Return the PSNR of the mean error over all patches, in dB."""
    return float(-10 * torch.cat(squared).mean().log10())
