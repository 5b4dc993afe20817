"""Bicubic enlargement as a branch: what a level costs that needs no network.

Keys' cubic with a = -0.5 as in `classsr.resize`, which it equals: every phase of the output is a convolution with
four taps to each axis, then PixelShuffle, with the edge repeated beyond the border. It has nothing to learn.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classsr.networks.layers import without_autocast

REACH = 2  # LR pixels that Keys' kernel looks to each side
WHITE = 255  # in pictures of 8 bits


def _taps(scale: int) -> Tensor:
    """Return the weights of one axis, (scale, 5): output `scale * q + r` from inputs `q - 2` to `q + 2`."""
    centre = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    x = (torch.arange(-REACH, REACH + 1)[None] - centre[:, None]).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


class Phases(nn.Conv2d):
    """Enlarge RGB by a fixed kernel, PixelShuffle still to come: (N, 3, H, W) -> (N, 3 * scale**2, H, W); no autocast.

    Args:
        scale: 2, 3 or 4.

    """

    def __init__(self, scale: int) -> None:
        super().__init__(3, 3 * scale**2, 2 * REACH + 1, groups=3, bias=False)
        taps = _taps(scale)
        kernel = torch.einsum("ay,bx->abyx", taps, taps).reshape(scale**2, 1, 5, 5)
        self.weight = nn.Parameter(kernel.repeat(3, 1, 1, 1).float(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x):
            return super().forward(F.pad(x, (REACH,) * 4, mode="replicate"))

    def fold(self) -> nn.Module:
        """Return the same function in a form that half precision hardly harms."""
        return HalfProofPhases(self)


class HalfProofPhases(nn.Module):
    """Phases for runtimes that compute every convolution in half precision and every addition in float32.

    The pixel itself is added in float32; the convolution gives only what differs from it, which is small. It is given
    whole numbers from 0 to 255, which half precision holds (of 16 bits it holds eight), and its kernel twice: rounded,
    and what that lacks.
    """

    nearest: Tensor
    twice: Tensor

    def __init__(self, phases: Phases) -> None:
        super().__init__()
        outputs = phases.out_channels
        kernel = phases.weight.detach().clone()
        kernel[:, :, REACH, REACH] -= 1
        kernel /= WHITE
        rounded = kernel.bfloat16().float()
        self.differ = nn.Conv2d(6, outputs, 2 * REACH + 1, groups=3, bias=False)
        weight = torch.cat([rounded, kernel - rounded], dim=1)
        self.differ.weight = nn.Parameter(weight, requires_grad=False)
        channels = torch.arange(3, device=kernel.device)
        self.register_buffer("nearest", channels.repeat_interleave(outputs // 3))
        self.register_buffer("twice", channels.repeat_interleave(2))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x * WHITE, (REACH,) * 4, mode="replicate")
        detail = self.differ(padded.index_select(1, self.twice))
        return x.index_select(1, self.nearest) + detail


class Bicubic(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W), without clipping; no autocast.

    Args:
        scale: 2, 3 or 4.

    """

    enlarge: nn.Module

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.enlarge = Phases(scale)

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on."""
        return REACH

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.enlarge(x), self.scale)

    def fold(self) -> "Bicubic":
        """Return the same function built of plain layers only, as it is exported."""
        folded = copy.deepcopy(self)
        assert isinstance(folded.enlarge, Phases)
        folded.enlarge = folded.enlarge.fold()
        return folded
