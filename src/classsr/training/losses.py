"""The losses of ClassSR (Kong et al., CVPR 2021, section 3.4), for any number of levels M."""

import torch
from torch import Tensor


def class_loss(probabilities: Tensor) -> Tensor:
    """Push each sub-image towards one level: mean of (M - 1) - sum over i < j of |P_i - P_j| (eq. 6).

    It is 0 when every row is one-hot and M - 1 when every row is uniform.

    Args:
        probabilities: (B, M), rows sum to 1.

    """
    levels = probabilities.shape[1]
    i, j = torch.triu_indices(levels, levels, offset=1, device=probabilities.device)
    spread = (probabilities[:, i] - probabilities[:, j]).abs().sum(dim=1)
    return ((levels - 1) - spread).mean()


def average_loss(probabilities: Tensor) -> Tensor:
    """Push the levels towards equal use: sum over i of |sum_j P_i(x_j) - B / M|, divided by 2 B (M - 1) / M (eq. 7).

    It is 0 when the levels are used equally and 1 when one level takes all. (The research code divides by 4 B / M,
    the same for M = 3.)

    Args:
        probabilities: (B, M), rows sum to 1.

    """
    batch, levels = probabilities.shape
    distance = (probabilities.sum(dim=0) - batch / levels).abs().sum()
    return distance / (2 * batch * (levels - 1) / levels)
