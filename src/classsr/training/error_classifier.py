"""The last stage: a Class-Module that predicts errors, learned from finished branches and calibrated.

It learns from the tiles of whole pictures (`tile_errors`) and sees them turned and mirrored. What counts is its end:
the PSNR that is logged, when half of the hardest level's cost may be spent, hardly moves.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from classsr.checkpoint import Table, load_classsr, save_classsr
from classsr.data.pairs import RGB8
from classsr.data.patches import augment, draw, read_lr
from classsr.errors import TrainingError
from classsr.networks import BranchSpec, ClassSR, ErrorClassifier
from classsr.networks.classifier import LEAST_ERROR
from classsr.training.loop import Task, to_tensor, train
from classsr.training.stages import LAST, Experiment, evenly, of_stage_one, relative_costs
from classsr.training.tile_errors import TileErrors, calibrate, measure_tiles, weigh

CALIBRATED = "calibrated.safetensors"
CHUNK = 512  # tiles judged at once outside training

Floats = NDArray[np.float32]
Values = NDArray[np.floating]


def train_errors(experiment: Experiment) -> Path:
    """Let the trained model predict errors: by a Class-Module of its own, or by calibrating the paper's.

    The model is that of stage 3; where the config has none, that of the stage before.

    Returns:
        The checkpoint of the whole model.

    Raises:
        TrainingError: there are no tiles to learn from or to calibrate on.

    """
    config = experiment.config
    torch.manual_seed(config.seed)
    model = _trained(experiment)
    folder = experiment.run / "errors"
    if config.errors.predict == "calibration":
        model.freeze_branches()
        held = _measure(experiment, model, held_out=True)
        save_classsr(model, folder / CALIBRATED, errors=_table(model, experiment, held))
        return folder / CALIBRATED
    model = with_error_classifier(model, bicubic=config.errors.bicubic)
    held = _measure(experiment, model, held_out=True)
    learned = _measure(experiment, model, held_out=False)
    task = errors_task(experiment, model, learned, held)
    train(task, config.errors.schedule, folder=folder, device=experiment.device)
    model = load_classsr(folder / LAST)
    classifier = _error_classifier(model)
    real = _without_enlarged(held, experiment)
    log_distances, _ = _estimates(classifier, experiment, real)
    classifier.gains.copy_(torch.from_numpy(calibrate(log_distances, real)))
    save_classsr(model, folder / CALIBRATED)
    return folder / CALIBRATED


def _without_enlarged(held: TileErrors, experiment: Experiment) -> TileErrors:
    """Leave out copies that were enlarged, where easy levels lose less than on what cameras took."""
    shrinks = np.array([entry.shrink for entry in experiment.pairs.entries])
    real = shrinks[held.tiles.picture] <= 1
    if not real.any():
        raise TrainingError(
            "Expected held-out pictures that were not enlarged, to calibrate on, but got none; add 1 to shrinks."
        )
    return held.select(real)


def _trained(experiment: Experiment) -> ClassSR:
    config = experiment.config
    for stage, schedule in (("joint", config.joint), ("classifier", config.classifier)):
        if schedule is not None:
            return load_classsr(experiment.run / stage / LAST)
    return of_stage_one(experiment)


def _measure(experiment: Experiment, model: ClassSR, *, held_out: bool) -> TileErrors:
    config = experiment.config
    last = config.joint or config.classifier or config.branch[-1]
    pictures = np.flatnonzero(experiment.held_out() == held_out)
    most = None if held_out else config.errors.pictures
    tiles = measure_tiles(
        experiment.pairs,
        pictures[evenly(len(pictures), most)],
        model.branches,
        device=experiment.device,
        precision=last.precision,
        cache=experiment.run / "errors" / f"{'held-out' if held_out else 'learned'}.npz",
    )
    if not len(tiles.tiles):
        raise TrainingError(
            "Expected tiles to learn from and to calibrate on but got none; change validation_pictures or add pictures."
        )
    return tiles


def _table(model: ClassSR, experiment: Experiment, held: TileErrors) -> Table:
    """Return the mean error of every level on tiles that the paper's Class-Module calls j: (j, level)."""
    judged = []
    for x in _tiles(experiment, held):
        with torch.no_grad():
            judged.append(model.probabilities(x).cpu().numpy())
    probabilities = np.concatenate(judged).astype(np.float64) * weigh(held)[:, None]
    means = probabilities.T @ held.errors / probabilities.sum(axis=0)[:, None]
    return tuple(tuple(row) for row in means.tolist())


def with_error_classifier(trained: ClassSR, *, bicubic: bool) -> ClassSR:
    """Return the same branches, after bicubic if wanted and missing, with a fresh Class-Module that predicts errors."""
    bicubic = bicubic and all(spec.network != "bicubic" for spec in trained.specs)
    first = [BranchSpec("bicubic", None, trained.scale)] if bicubic else []
    specs = [*first, *trained.specs]
    model = ClassSR(specs, ErrorClassifier(len(specs)))
    for branch, weights in zip(model.branches[len(first) :], trained.branches, strict=True):
        branch.load_state_dict(weights.state_dict())
    model.freeze_branches()
    return model


def errors_task(
    experiment: Experiment, model: ClassSR, learned: TileErrors, held: TileErrors
) -> Task:
    """Return what this stage does: learn the logarithms of the distances and of the hardest branch's error."""
    config, pairs = experiment.config, experiment.pairs
    count = config.errors.schedule.batch
    classifier = _error_classifier(model)
    wanted, wanted_held = _logarithms(learned), _logarithms(held)
    last = classifier.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.copy_(torch.from_numpy(wanted.mean(axis=0)))
    macs = np.array(relative_costs(model, learned.tiles.size)[:-1])

    def batch(iteration: int, part: slice) -> tuple[RGB8, Floats]:
        chosen, symmetries = draw(
            len(learned.tiles), count=count, seed=config.seed, iteration=iteration, part=part
        )
        return augment(read_lr(pairs, learned.tiles.select(chosen)), symmetries), wanted[chosen]

    def validate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, ErrorClassifier)
        log_distances, log_error = _estimates(network, experiment, held)
        gains = calibrate(log_distances, held)
        more = np.exp(log_distances) * (gains[:, 0] + gains[:, 1] * log_distances)
        weighted = np.column_stack([more, np.zeros(len(more))]) * weigh(held)[:, None]
        found = np.column_stack([log_distances, log_error])
        return {
            "psnr": psnr_at_half_cost(weighted, held.errors, macs),
            "log_error": float(np.square(found - wanted_held).mean()),
        }

    def save(network: nn.Module, path: Path) -> None:
        _error_classifier(model).load_state_dict(network.state_dict())
        save_classsr(model, path)

    return Task(
        module=classifier,
        batch=batch,
        loss=lambda network, x, target: {"loss": F.mse_loss(network(x), target)},
        validate=validate,
        save=save,
        as_target=lambda values, device: torch.from_numpy(values).to(device),
    )


def _error_classifier(model: ClassSR) -> ErrorClassifier:
    assert isinstance(model.classifier, ErrorClassifier)
    return model.classifier


def _logarithms(tiles: TileErrors) -> Floats:
    """Return what is learned of every tile: (N, levels)."""
    values = np.column_stack([tiles.distances, tiles.errors[:, -1]])
    logarithms: Floats = np.log(values + np.float32(LEAST_ERROR))
    return logarithms


def psnr_at_half_cost(predicted: Values, errors: Values, costs: Values) -> float:
    """Return PSNR in dB over tiles that are routed by predicted errors for at most half of the hardest level's cost."""
    low, high = 1e-12, 1e6
    levels = np.zeros(len(predicted), np.int64)
    for _ in range(60):
        price = math.sqrt(low * high)
        chosen = (predicted + price * costs).argmin(axis=1)
        if costs[chosen].mean() > costs[-1] / 2:
            low = price
        else:
            high, levels = price, chosen
    return float(-10 * np.log10(errors[np.arange(len(errors)), levels].mean()))


def _estimates(
    classifier: ErrorClassifier, experiment: Experiment, tiles: TileErrors
) -> tuple[Floats, Floats]:
    """Run the Class-Module on tiles as they lie: logarithms of distances (N, levels - 1) and errors (N, 1)."""
    distances, hardest = [], []
    for x in _tiles(experiment, tiles):
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            found = classifier.estimate(x)
        distances.append(found[0].cpu().numpy())
        hardest.append(found[1].cpu().numpy())
    return np.concatenate(distances), np.concatenate(hardest)


def _tiles(experiment: Experiment, tiles: TileErrors) -> Iterator[Tensor]:
    """Read tiles, some at a time."""
    for start in range(0, len(tiles.tiles), CHUNK):
        part = np.arange(start, min(start + CHUNK, len(tiles.tiles)))
        lr = read_lr(experiment.pairs, tiles.tiles.select(part))
        yield to_tensor(lr, torch.device(experiment.device))
