"""CARN-M: Ahn et al., "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network", ECCV 2018.

The mobile form: grouped convolutions in a residual block that each cascade runs three times. Differs from the paper
as the ClassSR research code does: the 1x1 convolutions that fuse a cascade have a BatchNorm instead of a bias. It
costs nothing once trained, for `fold` merges it into the convolution. Weights start as PyTorch draws them.
"""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from classsr.errors import UsageError
from classsr.networks.layers import (
    MeanShift,
    Residual,
    before_shuffle,
    conv3x3,
    upsampler,
    upsampler_reach,
)

STEPS = 3  # of every cascade


class Fusion(nn.Module):
    """Fuse the outputs of `count` blocks of a cascade: (N, count * width, H, W) -> (N, width, H, W)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(count * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))

    def fold(self) -> nn.Module:
        """Return the same function, as it is in eval mode, without BatchNorm."""
        return nn.Sequential(fuse_conv_bn_eval(self.conv, self.norm), nn.ReLU())


class Cascade(nn.Module):
    """Three steps, each a block and the fusion of its output with the input and all outputs before.

    Args:
        width: channels.
        *blocks: three, or one that all steps share.

    """

    def __init__(self, width: int, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.fusions = nn.ModuleList(Fusion(width, step + 2) for step in range(STEPS))

    def forward(self, x: Tensor) -> Tensor:
        gathered = x
        for block, fusion in zip(itertools.cycle(self.blocks), self.fusions, strict=False):
            gathered = torch.cat([gathered, block(x)], dim=1)  # (N, (step + 2) * width, H, W)
            x = fusion(gathered)
        return x


class ResidualE(Residual):
    """The paper's efficient residual block: two grouped 3x3 convolutions and a 1x1, added to the input."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__(
            conv3x3(width, width, groups=groups),
            nn.ReLU(),
            conv3x3(width, width, groups=groups),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class CARN(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W).

    Args:
        width: channels nf (the paper's 64; ClassSR's 36, 52, 64), a multiple of `groups`.
        scale: 2, 3 or 4.
        groups: of the grouped convolutions.

    Raises:
        UsageError: the width cannot be divided into the groups.

    """

    def __init__(self, width: int, scale: int, *, groups: int = 4) -> None:
        super().__init__()
        if width % groups:
            raise UsageError(f"Expected a width for carn that {groups} divides but got {width}.")
        self.scale = scale
        self.sub_mean = MeanShift(-1)
        self.entry = conv3x3(3, width)
        self.body = Cascade(
            width, *[Cascade(width, ResidualE(width, groups)) for _ in range(STEPS)]
        )
        self.upsample = upsampler(
            scale,
            lambda factor: [
                conv3x3(width, factor**2 * width, groups=groups),
                nn.ReLU(),
                nn.PixelShuffle(factor),
            ],
        )
        self.exit: nn.Module = conv3x3(width, 3)
        self.add_mean: nn.Module = MeanShift(1)

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on."""
        return 1 + STEPS * STEPS * 2 + upsampler_reach(self.scale, after=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.entry(self.sub_mean(x)))
        return self.add_mean(self.exit(self.upsample(x)))

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Return the same function, as it is in eval mode, of plain layers only, as it is exported.

        Its last convolution comes before the last PixelShuffle, so that there are fewer and wider pixels, and fewer to
        shuffle: an eighth less time in bf16 (docs/log.md, 2026-11-30).
        """
        folded = copy.deepcopy(self).eval()
        for cascade in [layer for layer in folded.modules() if isinstance(layer, Cascade)]:
            for step, fusion in enumerate(cascade.fusions):
                assert isinstance(fusion, Fusion)
                cascade.fusions[step] = fusion.fold()
        late, mean = folded.exit, folded.add_mean
        *steps, shuffle = folded.upsample
        assert isinstance(late, nn.Conv2d)
        assert isinstance(mean, MeanShift)
        assert isinstance(shuffle, nn.PixelShuffle)
        assert late.bias is not None
        late.bias += mean.bias
        folded.upsample = nn.Sequential(*steps)
        folded.exit = nn.Sequential(before_shuffle(late, shuffle.upscale_factor), shuffle)
        folded.add_mean = nn.Identity()
        return folded
