"""RCAN: Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018.

Differs from the published code in the range of its features: there colours are 0 to 255, here 0 to 1, inside too.
Weights start as PyTorch draws them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classsr.networks.layers import MeanShift, Residual, conv3x3, upsampler


class ChannelAttention(nn.Module):
    """Scale every channel by a number in (0, 1) that depends on the means of all channels (figure 3)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        self.squeeze = nn.Conv2d(width, inner, 1)
        self.excite = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)  # (N, width, 1, 1)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


class RCAN(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W).

    Args:
        width: channels nf (the paper's 64; ClassSR's 36, 50, 64).
        scale: 2, 3 or 4.
        groups: residual groups G.
        blocks: residual channel attention blocks B in a group.
        reduction: channels over those in the middle of a channel attention.

    """

    receptive_radius = (
        None  # through the channel attention every output pixel depends on the whole input
    )

    def __init__(
        self, width: int, scale: int, *, groups: int = 10, blocks: int = 20, reduction: int = 16
    ) -> None:
        super().__init__()
        self.scale = scale
        self.sub_mean = MeanShift(-1)
        self.head = conv3x3(3, width)
        self.body = Residual(
            *[self._group(width, blocks, reduction) for _ in range(groups)], conv3x3(width, width)
        )
        self.upsample = upsampler(
            scale,
            lambda factor: [conv3x3(width, factor**2 * width), nn.PixelShuffle(factor)],
        )
        self.tail = conv3x3(width, 3)
        self.add_mean = MeanShift(1)

    @staticmethod
    def _group(width: int, blocks: int, reduction: int) -> nn.Module:
        """Build a residual group: blocks of figure 4 and a convolution."""
        return Residual(
            *[
                Residual(
                    conv3x3(width, width),
                    nn.ReLU(),
                    conv3x3(width, width),
                    ChannelAttention(width, reduction),
                )
                for _ in range(blocks)
            ],
            conv3x3(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.head(self.sub_mean(x)))
        return self.add_mean(self.tail(self.upsample(x)))

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only: there is nothing to fold."""
        return self
