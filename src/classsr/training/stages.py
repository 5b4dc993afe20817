"""The stages by name: what each trains, on which patches, with which loss, and where its files lie.

run/
├── reference/      the network that ranks, trained on all patches
├── ranking.npz     PSNR and level of every patch
├── branch-0/ ...   stage 1: each branch on the patches of its level
├── classifier/     stage 2: the Class-Module, branches frozen
└── joint/          stage 3: everything together
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from classsr.checkpoint import load_branch, load_classsr, save_branch, save_classsr
from classsr.data.pairs import RGB8, Pairs, open_pairs
from classsr.data.patches import Patches, batch, find_patches, read_patches
from classsr.data.ranking import Ranking, load_ranking, rank, save_ranking
from classsr.errors import TrainingError
from classsr.model import sha256
from classsr.networks import BranchSpec, ClassSR, build_branch
from classsr.training.config import Config, LossWeights, load_config
from classsr.training.loop import Task, to_tensor, train
from classsr.training.losses import average_loss, class_loss

BEST = "best.safetensors"
LAST = "last.safetensors"
CHUNK = 64  # patches enlarged at once outside training
SCARCE = 0.05  # a level that gets less than this share is reported

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

    def training_patches(self) -> Patches:
        """Return all patches of the training pictures and their shrunk copies."""
        return find_patches(self.pairs, np.flatnonzero(~self.held_out()))

    def validation_patches(self) -> Patches:
        """Return the patches of the validation pictures at full size."""
        full = np.array([entry.shrink == 1.0 for entry in self.pairs.entries])
        return find_patches(self.pairs, np.flatnonzero(self.held_out() & full))

    def ranking(self) -> Ranking:
        """Load the ranking of the training and validation patches."""
        return load_ranking(self.run / "ranking.npz", self.pairs)


def open_experiment(
    config: Path, pairs: Path, run: Path, *, threads: int | None = None
) -> Experiment:
    """Read a config and open its pairs; `threads` limits what PyTorch uses, all by default.

    Raises:
        UsageError: the config is wrong.
        InputError: the pairs are missing or damaged.
        TrainingError: config and pairs do not fit.

    """
    if threads is not None:
        torch.set_num_threads(threads)
    return Experiment(load_config(config), open_pairs(pairs), run)


def train_reference(experiment: Experiment) -> Path:
    """Train the network that ranks the patches, on all of them."""
    config = experiment.config
    spec = config.reference.branch.spec(config.model.scale)
    torch.manual_seed(config.seed)
    task = _branch_task(
        experiment,
        spec,
        experiment.training_patches(),
        experiment.validation_patches(),
        count=config.reference.schedule.batch,
        seed=config.seed,
    )
    folder = experiment.run / "reference"
    return train(task, config.reference.schedule, folder=folder, device=experiment.device)


def rank_patches(experiment: Experiment) -> Ranking:
    """Rank the training and validation patches with the reference network and write `ranking.npz`."""
    path = experiment.run / "reference" / BEST
    network, _ = load_branch(path)
    network = network.to(experiment.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def upscale(lr: RGB8) -> RGB8:
        with torch.inference_mode():
            sr = network(to_tensor(lr, torch.device(experiment.device)))
        pixels: RGB8 = (sr.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pixels

    def progress(done: int, total: int) -> None:
        if done % (CHUNK * 200) == 0 or done == total:
            logger.info("%d/%d patches ranked", done, total)

    train_set, validation_set = experiment.training_patches(), experiment.validation_patches()
    both = Patches(
        np.concatenate([train_set.picture, validation_set.picture]),
        np.concatenate([train_set.y, validation_set.y]),
        np.concatenate([train_set.x, validation_set.x]),
    )
    levels = len(experiment.config.model.branches)
    ranking = rank(
        experiment.pairs,
        both,
        upscale,
        levels=levels,
        reference_checksum=sha256(path),
        chunk=CHUNK,
        progress=progress,
    )
    save_ranking(ranking, experiment.run / "ranking.npz")
    logger.info("class borders: %s dB", ", ".join(f"{border:.2f}" for border in ranking.borders))
    return ranking


def train_branch(experiment: Experiment, level: int) -> Path:
    """Stage 1: train the branch of one level on the patches of its class."""
    config, ranking = experiment.config, experiment.ranking()
    if not 0 <= level < len(config.model.branches):
        raise TrainingError(
            f"Expected a level from 0 to {len(config.model.branches) - 1} but got {level}."
        )
    mine = ranking.levels == level
    held_out = experiment.held_out()[ranking.patches.picture]
    torch.manual_seed(config.seed + level)
    task = _branch_task(
        experiment,
        config.model.specs()[level],
        ranking.patches.select(mine & ~held_out),
        ranking.patches.select(mine & held_out),
        count=config.branch_schedule(level).batch,
        seed=config.seed + level,
    )
    folder = experiment.run / f"branch-{level}"
    return train(task, config.branch_schedule(level), folder=folder, device=experiment.device)


def train_classifier(experiment: Experiment) -> Path:
    """Stage 2: train the Class-Module on all patches, the branches of stage 1 frozen."""
    torch.manual_seed(experiment.config.seed)
    model = ClassSR(experiment.config.model.specs())
    for level, branch in enumerate(model.branches):
        trained, _ = load_branch(experiment.run / f"branch-{level}" / BEST)
        branch.load_state_dict(trained.state_dict())
    model.freeze_branches()
    task = _classsr_task(experiment, model, count=experiment.config.classifier.batch)
    folder = experiment.run / "classifier"
    return train(task, experiment.config.classifier, folder=folder, device=experiment.device)


def train_joint(experiment: Experiment) -> Path:
    """Stage 3: train the branches and the Class-Module together.

    It goes on from the end of stage 2, not from its best PSNR: early in that stage most patches go to the hardest
    branch, which is good for PSNR and for nothing else.
    """
    model = load_classsr(experiment.run / "classifier" / LAST)
    task = _classsr_task(experiment, model, count=experiment.config.joint.batch)
    folder = experiment.run / "joint"
    return train(task, experiment.config.joint, folder=folder, device=experiment.device)


def _branch_task(
    experiment: Experiment,
    spec: BranchSpec,
    patches: Patches,
    validation: Patches,
    *,
    count: int,
    seed: int,
) -> Task:
    if not len(patches) or not len(validation):
        raise TrainingError(
            f"Expected patches to train and validate on but got {len(patches)} and {len(validation)}; "
            "change validation_pictures or add pictures."
        )
    module = build_branch(spec)
    pairs = experiment.pairs
    lr, hr = read_patches(pairs, _spread(validation, experiment.config.data.validation_patches))

    def loss(network: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"loss": F.l1_loss(network(x).float(), target)}

    def validate(network: nn.Module) -> dict[str, float]:
        squared = [_squared_error(network(x), y) for x, y in _chunks(lr, hr, experiment.device)]
        return {"psnr": _psnr(squared)}

    return Task(
        module=module,
        batch=lambda iteration: batch(pairs, patches, count=count, seed=seed, iteration=iteration),
        loss=loss,
        validate=validate,
        save=lambda path: save_branch(module, spec, path),
    )


def _classsr_task(experiment: Experiment, model: ClassSR, *, count: int) -> Task:
    pairs, config = experiment.pairs, experiment.config
    patches = experiment.training_patches()
    lr, hr = read_patches(
        pairs, _spread(experiment.validation_patches(), config.data.validation_patches)
    )

    def validate(network: nn.Module) -> dict[str, float]:
        squared, chosen = [], []
        for x, y in _chunks(lr, hr, experiment.device):
            sr, probabilities = network(x)
            squared.append(_squared_error(sr, y))
            chosen.append(probabilities.argmax(dim=1))
        shares = torch.bincount(torch.cat(chosen), minlength=len(model.branches)) / len(lr)
        scores = {"psnr": _psnr(squared)}
        scores |= {f"share_{level}": float(share) for level, share in enumerate(shares)}
        for level, share in enumerate(shares):
            if share < SCARCE:
                logger.warning("level %d gets only %.1f %% of the patches", level, 100 * share)
        return scores

    return Task(
        module=model,
        batch=lambda iteration: batch(
            pairs, patches, count=count, seed=config.seed, iteration=iteration
        ),
        loss=lambda network, x, target: classsr_losses(network(x), target, config.loss),
        validate=validate,
        save=lambda path: save_classsr(model, path),
    )


def classsr_losses(
    output: tuple[Tensor, Tensor], hr: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Combine the three losses of the paper (eq. 5) for an output of `ClassSR.mixture`."""
    sr, probabilities = output
    l1, sharp, equal = F.l1_loss(sr, hr), class_loss(probabilities), average_loss(probabilities)
    total = weights.l1 * l1 + weights.class_loss * sharp + weights.average_loss * equal
    return {"loss": total, "l1": l1, "class_loss": sharp, "average_loss": equal}


def _spread(patches: Patches, most: int) -> Patches:
    """Pick at most `most` patches, evenly spread."""
    return patches.select(np.unique(np.linspace(0, len(patches) - 1, most).astype(np.int64)))


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
