"""The losses of ClassSR (Kong et al., CVPR 2021, section 3.4), for any number of levels M."""

import torch
import torch.distributed
from torch import Tensor

LEAST_SQUARE = 1e-6  # a quarter of a grey level: keeps the root's gradient finite


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


def rmse_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean over patches of the root of each patch's mean squared error.

    Between squared errors, which a few hard patches decide, and PSNR, which smooth ones do.

    Args:
        sr: (B, 3, H, W).
        hr: the same.

    """
    return ((sr - hr).square().mean(dim=(1, 2, 3)) + LEAST_SQUARE).sqrt().mean()


def from_all_processes(rows: Tensor) -> Tensor:
    """Return the rows of all training processes, with gradients: Average-Loss is about a whole batch.

    Args:
        rows: (B, M), as many in every process.

    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    processes, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    every = [torch.empty_like(rows) for _ in range(processes)]
    torch.distributed.all_gather(every, rows.detach().contiguous())
    every[rank] = rows.view_as(rows)
    if rows.requires_grad:  # DDP takes the mean of all processes' gradients, each of its own rows
        every[rank].register_hook(lambda gradient: processes * gradient)  # type: ignore[no-untyped-call]
    return torch.cat(every)
