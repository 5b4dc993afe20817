"""Bicubic enlargement as a branch: what a level costs that needs no network.

Keys' cubic with a = -0.5 as in `classsr.resize`, which it equals: every phase of the output is a convolution with
four taps to each axis, then PixelShuffle, with the edge repeated beyond the border. It has nothing to learn.
"""

import copy
from typing import cast

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


def _convolution(kernel: Tensor) -> nn.Conv2d:
    """Return a fixed convolution, a group to each colour."""
    outputs, inputs, *taps = kernel.shape
    conv = nn.Conv2d(3 * inputs, outputs, (taps[0], taps[1]), groups=3, bias=False)
    conv.weight = nn.Parameter(kernel, requires_grad=False)
    return conv


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
        """Return the same function built of plain layers, for float32."""
        conv = _convolution(self.weight.detach())
        return nn.Sequential(nn.ReplicationPad2d(REACH), conv)


class HalfProofPhases(nn.Module):
    """Phases for runtimes that compute every convolution in half precision and add up in float32.

    Half precision of 16 bits holds eight of them exactly. So a value, 0 to 255, is given as a whole number and the
    rest, and a kernel as rounded to eight bits and what that lacks; the rest by what is lacking is nothing.
    """

    parts: Tensor

    def __init__(self, phases: Phases) -> None:
        super().__init__()
        kernel = phases.weight.detach() / WHITE
        rounded = kernel.bfloat16().float()
        self.convolve = _convolution(torch.cat([rounded, kernel - rounded, rounded], dim=1))
        parts = torch.tensor([[k, k, k + 3] for k in range(3)])  # whole, whole, rest
        self.register_buffer("parts", parts.flatten().to(kernel.device))

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x):
            x = x * WHITE
            whole = x.round()
            apart = torch.cat([whole, x - whole], dim=1).index_select(1, self.parts)
            return cast("Tensor", self.convolve(F.pad(apart, (REACH,) * 4, mode="replicate")))


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
        """Return the same function built of plain layers only, as it is exported; it is meant for float32."""
        folded = copy.deepcopy(self)
        assert isinstance(folded.enlarge, Phases)
        folded.enlarge = folded.enlarge.fold()
        return folded
