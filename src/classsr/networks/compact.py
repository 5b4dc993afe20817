"""Compact: our plain network, 3x3 convolutions in LR and nothing else that costs; no paper of its own.

After the fastest networks of the efficient super-resolution challenges (known as SRVGGNetCompact and ECBSR in the
field): processors run a chain of equal 3x3 convolutions closest to their peak. The input is added, enlarged by our
fixed bicubic, so that the network learns only what bicubic lacks. A fresh one is bicubic, and its first kernels have
no mean: features that start with the brightness of the picture are first of all unlearnt, for hundreds of iterations
(width 32, depth 12: 25.00 dB after 240 of them instead of 25.38, bicubic has 25.00).

The re-parameterised form trains every convolution as a sum of paths and runs the one convolution that they equal:
Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, and Zhang et al., "Edge-oriented Convolution
Block for Real-time Super Resolution on Mobile Devices", ACM MM 2021. It differs from both in having no BatchNorm and no
edge filters, and in merging the paths in training too: the sum is linear, so its gradients are the same at the
cost of one convolution. The quantized form computes all but the first and the last convolution in 8-bit integers: what
is rounded before the last is a third of all that rounding gets wrong where a picture is smooth.
"""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classsr.networks.bicubic import Bicubic, HalfProofPhases, Phases
from classsr.networks.layers import PReLU, conv3x3, without_autocast
from classsr.networks.quantized import QuantizedConv, calibrate

# Variance of a fresh convolution's outputs over the mean square of its inputs.
KAIMING = 2 / (1 + 0.25**2)  # keeps the signal's size before a PReLU, whose slope starts at 0.25
SILENT = 0.0  # of the last convolution
RESIDUAL = 1.02  # beside the identity; with KAIMING, 16 layers would grow 45-fold
PATHS = 3  # of a RepConv, besides the identity
EXPANSION = 2  # of a RepConv's widest path


def _start(layer: nn.Conv2d, variance: float) -> None:
    """Draw weights whose outputs have `variance` times the mean square of the inputs; no bias."""
    nn.init.normal_(layer.weight, std=(variance / layer.weight[0].numel()) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _see_detail(layer: nn.Conv2d) -> nn.Conv2d:
    """Take its mean off every kernel of every path: what is flat gives nothing."""
    for path in layer.modules():
        if isinstance(path, nn.Conv2d):
            path.weight.data -= path.weight.data.mean(dim=(2, 3), keepdim=True)
    return layer


def _plain(inputs: int, outputs: int, variance: float) -> nn.Conv2d:
    """Build a 3x3 convolution."""
    layer = conv3x3(inputs, outputs)
    _start(layer, variance)
    return layer


def _quantized(inputs: int, outputs: int, variance: float) -> nn.Conv2d:
    """Build a 3x3 convolution of 8-bit integers."""
    layer = QuantizedConv(inputs, outputs)
    _start(layer, variance)
    return layer


class RepConv(nn.Conv2d):
    """A 3x3 convolution that is learned as a sum of paths.

    The paths: its own 3x3 kernel; a 1x1; a 1x1 that widens, followed by a 3x3; and the identity, where there are as
    many inputs as outputs and the start is not silent. The widening has no bias, so that the zeros beyond the border
    stay zeros and the paths add up exactly there too.

    Args:
        inputs: channels.
        outputs: channels.
        variance: KAIMING or SILENT, in equal shares for the paths; beside the identity RESIDUAL takes its place.
        width: channels of the network; the widest path has twice as many.

    """

    identity: Tensor

    def __init__(self, inputs: int, outputs: int, variance: float, *, width: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.point = nn.Conv2d(inputs, outputs, 1)
        self.widen = nn.Conv2d(inputs, EXPANSION * width, 1, bias=False)
        self.mix = conv3x3(EXPANSION * width, outputs)
        passes = inputs == outputs and variance > SILENT
        kernel = nn.init.dirac_(torch.empty(outputs, inputs, 3, 3))
        self.register_buffer("identity", kernel * passes, persistent=False)
        share = (RESIDUAL - 1 if passes else variance) / PATHS
        for path in (self, self.point, self.mix):
            _start(path, share)
        _start(self.widen, 1.0)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return kernel (outputs, inputs, 3, 3) and bias (outputs,) of the convolution that the paths equal."""
        assert self.bias is not None
        assert self.point.bias is not None
        assert self.mix.bias is not None
        with without_autocast(self.weight):
            mixed = torch.einsum("omyx,mi->oiyx", self.mix.weight, self.widen.weight[:, :, 0, 0])
            point = F.pad(self.point.weight, (1, 1, 1, 1))
            weight = self.identity + self.weight + point + mixed
            return weight, self.bias + self.point.bias + self.mix.bias

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.merged()
        return F.conv2d(x, weight, bias, padding=1)

    def fold(self) -> nn.Module:
        """Return the same function as one convolution."""
        weight, bias = self.merged()
        conv = conv3x3(self.in_channels, self.out_channels).to(weight)  # its device and type
        conv.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return conv


class Compact(nn.Module):
    """Enlarge RGB in [0, 1]: (N, 3, H, W) -> (N, 3, scale * H, scale * W).

    Args:
        width: channels; multiples of 16 fill the registers of today's processors.
        scale: 2, 3 or 4.
        depth: convolutions between the first and the last.
        reparameterised: learn every convolution as a sum of paths.
        quantized: compute all convolutions but the first and the last in 8-bit integers.

    """

    enlarge: Bicubic

    def __init__(
        self,
        width: int,
        scale: int,
        *,
        depth: int,
        reparameterised: bool = False,
        quantized: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.depth = depth
        outer = partial(RepConv, width=width) if reparameterised else _plain
        inner = _quantized if quantized else outer
        layers: list[nn.Module] = [_see_detail(outer(3, width, KAIMING)), PReLU(width)]
        for _ in range(depth):
            layers += [inner(width, width, KAIMING), PReLU(width)]
        layers.append(outer(width, 3 * scale**2, SILENT))
        self.body = nn.Sequential(*layers)
        self.enlarge = Bicubic(scale)

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on: those of `depth` + 2 convolutions."""
        return self.depth + 2

    def forward(self, x: Tensor) -> Tensor:
        # Added before PixelShuffle, which is then done once: a fifth of the time of the smallest networks.
        return F.pixel_shuffle(self.enlarge.enlarge(x) + self.body(x), self.scale)

    def calibrate(self, x: Tensor) -> None:
        """Prepare fresh convolutions of integers for training on pictures like `x`; see `quantized.calibrate`."""
        calibrate(self.body, x)

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only, as it is exported."""
        folded = copy.deepcopy(self)
        for place, layer in enumerate(folded.body):
            if isinstance(layer, RepConv | QuantizedConv):
                folded.body[place] = layer.fold()
        phases = folded.enlarge.enlarge
        assert isinstance(phases, Phases)
        folded.enlarge.enlarge = HalfProofPhases(phases)
        return folded
