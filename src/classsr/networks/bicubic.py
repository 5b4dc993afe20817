"""Bicubic enlargement as a branch: what a level costs that needs no network.

Keys' cubic with a = -0.5 as in `classsr.resize`, which it equals: every phase of the output is a convolution with
four taps to each axis, then PixelShuffle, with the edge repeated beyond the border. It has nothing to learn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classsr.networks.layers import without_autocast

REACH = 2  # LR pixels that Keys' kernel looks to each side


def _taps(scale: int) -> Tensor:
    """Return the weights of one axis, (scale, 5): output `scale * q + r` from inputs `q - 2` to `q + 2`."""
    centre = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    x = (torch.arange(-REACH, REACH + 1)[None] - centre[:, None]).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


class Bicubic(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W), without clipping; no autocast.

    Args:
        scale: 2, 3 or 4.

    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        taps = _taps(scale)
        kernel = torch.einsum("ay,bx->abyx", taps, taps).reshape(scale**2, 1, 5, 5)
        self.enlarge = nn.Conv2d(3, 3 * scale**2, 2 * REACH + 1, groups=3, bias=False)
        self.enlarge.weight = nn.Parameter(kernel.repeat(3, 1, 1, 1).float(), requires_grad=False)

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on."""
        return REACH

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (REACH,) * 4, mode="replicate")
        with without_autocast(x):
            return F.pixel_shuffle(self.enlarge(x), self.scale)

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only, as it is exported."""
        return nn.Sequential(nn.ReplicationPad2d(REACH), self.enlarge, nn.PixelShuffle(self.scale))
