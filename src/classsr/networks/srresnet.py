"""MSRResNet: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a GAN", CVPR 2017, modified.

The modified form is that of BasicSR and the ClassSR research code: no BatchNorm, LeakyReLU for PReLU, no convolution
at the trunk's end, 3x3 convolutions at both ends, and the input is added, enlarged bilinearly. Weights start as
there: Kaiming's, shrunk to a tenth, which makes a fresh network all but bilinear.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from classsr.networks.layers import Residual, conv3x3, upsampler, upsampler_reach

SLOPE = 0.1  # of every LeakyReLU
START = 0.1  # of Kaiming's spread: keeps a chain of residual blocks from growing


class SRResNet(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W).

    Args:
        width: channels nf (64; ClassSR's 36, 52, 64).
        scale: 2, 3 or 4.
        blocks: residual blocks in the trunk.

    """

    def __init__(self, width: int, scale: int, *, blocks: int = 16) -> None:
        super().__init__()
        self.scale = scale
        self.entry = conv3x3(3, width)
        self.trunk = nn.Sequential(
            *[
                Residual(conv3x3(width, width), nn.ReLU(), conv3x3(width, width))
                for _ in range(blocks)
            ]
        )
        self.upsample = upsampler(
            scale,
            lambda factor: [
                conv3x3(width, factor**2 * width),
                nn.PixelShuffle(factor),
                nn.LeakyReLU(SLOPE),
            ],
        )
        self.refine = conv3x3(width, width)
        self.exit = conv3x3(width, 3)
        self.enlarge = nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                layer.weight.data *= START
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on."""
        return 1 + 2 * len(self.trunk) + upsampler_reach(self.scale, after=2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.trunk(F.leaky_relu(self.entry(x), SLOPE))
        features = F.leaky_relu(self.refine(self.upsample(features)), SLOPE)
        return self.exit(features) + self.enlarge(x)

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only: there is nothing to fold."""
        return self
