"""FSRCNN: Dong, Loy and Tang, "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016.

Differs from the paper as the ClassSR research code does: RGB in and out, one PReLU slope per layer, and no
activation between the four mapping convolutions. Our first weights enlarge bilinearly, which the paper's do not.
Parameters are stored in the published form; the transposed convolution is computed as the 3x3 convolution with
PixelShuffle that it equals (5 to 8 times faster on a CPU).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classsr.networks.layers import PReLU

KERNEL = 9  # of the transposed convolution
MAPPING_NOISE = 0.3  # of Kaiming's spread, around the identity


class SubpixelDeconvolution(nn.ConvTranspose2d):
    """A transposed convolution to RGB, computed as the convolution with PixelShuffle that it equals.

    Output pixel `scale * q + r` of a transposed convolution with kernel 9 and padding p reads input `q + d` through
    tap `r + p - scale * d`. For every phase r that is a convolution of `2 * reach + 1` taps, some of them outside
    the kernel and therefore zero.

    Args:
        channels: of the input.
        scale: 2, 3 or 4; the output is exactly `scale` times the input.

    """

    def __init__(self, channels: int, scale: int) -> None:
        padding = (KERNEL - scale + 1) // 2
        extra = scale + 2 * padding - KERNEL
        super().__init__(channels, 3, KERNEL, scale, padding, output_padding=extra)
        self.scale = scale
        self.reach = max(scale - 1 + padding, KERNEL - 1 - padding) // scale

    def subpixel(self) -> tuple[Tensor, Tensor]:
        """Return kernel (3 * scale**2, C, K, K) and bias (3 * scale**2,) of the equal convolution.

        K is 5 for x2 and 3 for x3 and x4.
        """
        taps = 2 * self.reach + 1
        before = self.scale * self.reach - int(self.padding[0])
        after = taps * self.scale - KERNEL - before
        weight = F.pad(self.weight, (before, after, before, after))
        weight = weight.view(-1, 3, taps, self.scale, taps, self.scale).flip(2, 4)
        weight = weight.permute(1, 3, 5, 0, 2, 4)  # (3, scale, scale, C, taps, taps)
        assert self.bias is not None
        bias = self.bias.repeat_interleave(self.scale**2)
        return weight.reshape(3 * self.scale**2, -1, taps, taps), bias

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None
        weight, bias = self.subpixel()
        return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=self.reach), self.scale)

    def bilinear(self) -> Tensor:
        """Return the kernel (9, 9) that enlarges one channel bilinearly."""
        distance = torch.arange(KERNEL) - int(self.padding[0]) - (self.scale - 1) / 2
        taps = (1 - distance.abs() / self.scale).clamp(min=0)
        return torch.outer(taps, taps)

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers."""
        weight, bias = self.subpixel()
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=self.reach)
        conv = conv.to(weight)  # its device and type
        conv.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return nn.Sequential(conv, nn.PixelShuffle(self.scale))


def _carry_rgb(layer: nn.Conv2d) -> None:
    """Let the first three channels pass unchanged and keep the others apart from them; the bias is zero."""
    middle = layer.kernel_size[0] // 2
    layer.weight.data[:3] = 0
    layer.weight.data[range(3), range(3), middle, middle] = 1
    if layer.in_channels > 3:
        layer.weight.data[3:, :3] = 0
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class FSRCNN(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W).

    Args:
        width: channels d of the first and last feature layer (the paper's 56; ClassSR's 16, 36, 56).
        scale: 2, 3 or 4.
        shrunk: channels s of the mapping layers.
        mappings: number m of mapping layers.

    """

    def __init__(self, width: int, scale: int, *, shrunk: int = 12, mappings: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.extract = nn.Conv2d(3, width, 5, padding=2)
        self.extract_act = PReLU()
        self.shrink = nn.Conv2d(width, shrunk, 1)
        self.shrink_act = PReLU()
        self.mapping = nn.Sequential(
            *[nn.Conv2d(shrunk, shrunk, 3, padding=1) for _ in range(mappings)]
        )
        self.mapping_act = PReLU()
        self.expand = nn.Conv2d(shrunk, width, 1)
        self.expand_act = PReLU()
        self.upsample = SubpixelDeconvolution(width, scale)
        self._start_as_bilinear()

    def _start_as_bilinear(self) -> None:
        """Draw first weights with which the network already enlarges bilinearly.

        The first three channels of every layer carry RGB through unchanged, which PReLU passes because colours are
        not negative; the others start random (Kaiming; close to the identity in the mapping, whose layers have
        nothing between them). After 1,500 iterations on hard patches 21.25 dB instead of 20.63 (docs/log.md).
        """
        for layer in (self.extract, self.shrink, *self.mapping, self.expand):
            assert isinstance(layer, nn.Conv2d)
            nn.init.kaiming_normal_(layer.weight, a=0.25, nonlinearity="leaky_relu")
            if layer.in_channels == layer.out_channels:
                layer.weight.data *= MAPPING_NOISE
                layer.weight.data += nn.init.dirac_(torch.empty_like(layer.weight))
            _carry_rgb(layer)
        nn.init.normal_(self.upsample.weight, std=0.001)  # section 3.3 of the paper
        self.upsample.weight.data[:3] = 0
        self.upsample.weight.data[range(3), range(3)] = self.upsample.bilinear()
        assert self.upsample.bias is not None
        nn.init.zeros_(self.upsample.bias)

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on."""
        return 2 + len(self.mapping) + self.upsample.reach

    def features(self, x: Tensor) -> Tensor:
        """Return what the last layer enlarges: (N, width, H, W)."""
        x = self.extract_act(self.extract(x))
        x = self.shrink_act(self.shrink(x))
        x = self.mapping_act(self.mapping(x))
        return self.expand_act(self.expand(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(self.features(x))

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only, as it is exported."""
        return nn.Sequential(
            self.extract,
            self.extract_act,
            self.shrink,
            self.shrink_act,
            *self.mapping,
            self.mapping_act,
            self.expand,
            self.expand_act,
            self.upsample.fold(),
        )
