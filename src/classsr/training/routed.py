"""Which patches a trained model runs at a level, so that the branch can go on with what it is given in use.

The paper's classes are cut by the PSNR of a reference; a model that predicts errors tells by itself what each branch
gets. A patch goes by the tile that its middle lies in, and the tiles of a picture by the cheapest plan that loses as
much as `auto` may lose.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from classsr.data.pairs import Pairs
from classsr.data.patches import LR_PATCH, Patches
from classsr.errors import TrainingError
from classsr.flops import count_macs
from classsr.networks import ClassSR, ErrorClassifier
from classsr.prices import LOSS, cheapest_levels
from classsr.training.loop import to_tensor


def levels_of(patches: Patches, model: ClassSR, pairs: Pairs, *, device: str) -> NDArray[np.int64]:
    """Return the level that a model runs each patch at: (N,).

    Costs are multiply-accumulates, as measured ones would choose other patches on every machine.

    Args:
        patches: of 32 LR pixels or more to a side.
        model: predicts errors; in eval mode.
        pairs: where the pixels are.
        device: where to run the Class-Module.

    Raises:
        TrainingError: the model predicts no errors.

    """
    if not isinstance(model.classifier, ErrorClassifier):
        raise TrainingError("Expected a model that predicts errors, to tell what its branches get.")
    classifier = model.classifier.to(device)
    costs = [count_macs(branch, LR_PATCH, LR_PATCH) for branch in model.branches]
    found = np.empty(len(patches), np.int64)
    for picture in np.unique(patches.picture).tolist():
        mine = patches.picture == picture
        levels = _plan(np.array(pairs.lr(picture)), classifier, costs, torch.device(device))
        last = np.array(levels.shape) - 1
        middle = np.stack([patches.y[mine], patches.x[mine]], axis=1) + patches.size // 2
        rows, columns = np.minimum(middle // LR_PATCH, last).T
        found[mine] = levels[rows, columns]
    return found


def _plan(
    lr: NDArray[np.uint8], classifier: ErrorClassifier, costs: list[int], device: torch.device
) -> NDArray[np.int64]:
    """Choose a level for every whole tile of a picture: (rows, columns)."""
    rows, columns = (side // LR_PATCH for side in lr.shape[:2])
    whole = lr[: rows * LR_PATCH, : columns * LR_PATCH]
    tiles = whole.reshape(rows, LR_PATCH, columns, LR_PATCH, 3).swapaxes(1, 2)
    with torch.inference_mode():
        logs = classifier(to_tensor(tiles.reshape(-1, LR_PATCH, LR_PATCH, 3), device))
    errors = np.exp(logs.cpu().numpy().astype(np.float64)).reshape(rows, columns, -1)
    return cheapest_levels(errors, costs, LOSS)
