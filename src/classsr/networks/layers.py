"""Layers that several networks share: 3x3 convolutions, residuals, PReLU, the mean colour, the way up to HR."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx, once_differentiable

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, of the training pictures of EDSR, CARN and RCAN
FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}  # by which an upsampler enlarges in turn, for each scale


def conv3x3(inputs: int, outputs: int, *, groups: int = 1) -> nn.Conv2d:
    """Build a 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


class Residual(nn.Sequential):
    """Add to the input what the layers make of it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)  # type: ignore[no-untyped-call]


class PReLU(nn.PReLU):
    """PReLU whose gradient takes a third of the time of PyTorch's own on a CPU; a quarter less for all of compact."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y: Tensor = _TrainedPReLU.apply(x, self.weight.to(x.dtype))  # type: ignore[no-untyped-call]
        return y


class _TrainedPReLU(torch.autograd.Function):
    """PReLU by passes over memory that PyTorch has vector code for."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor, Tensor]:
        saved: Sequence[Tensor] = ctx.saved_tensors
        x, slope = saved
        above = torch.ops.aten.threshold_backward(gradient, x, 0)
        below = gradient - above
        by_channel = (below * x).movedim(1, -1).reshape(-1, x.size(1)).sum(0)
        return torch.addcmul(above, below, slope.view(1, -1, 1, 1)), by_channel.sum_to_size(
            slope.shape
        )


class MeanShift(nn.Module):
    """Add `sign` times the mean colour of DIV2K, fixed.

    Stored in the published form, as a 1x1 convolution with the identity as its kernel; computed, and counted, as the
    addition that it equals, which stays in float32 under autocast.
    """

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3)[:, :, None, None], requires_grad=False)
        self.bias = nn.Parameter(sign * torch.tensor(DIV2K_MEAN), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.view(-1, 1, 1)


def upsampler(scale: int, step: Callable[[int], Iterable[nn.Module]]) -> nn.Sequential:
    """Build the way up to HR; `step` gives the layers that enlarge by 2 or 3."""
    return nn.Sequential(*[layer for factor in FACTORS[scale] for layer in step(factor)])


def upsampler_reach(scale: int, *, after: int) -> int:
    """Return the LR pixels to each side that an output pixel depends on.

    Every step is one 3x3 convolution and PixelShuffle.

    Args:
        scale: of the upsampler.
        after: 3x3 convolutions behind it, in HR.

    """
    reach = after
    for factor in reversed(FACTORS[scale]):
        reach = (
            -(-reach // factor) + 1
        )  # rounded up, in pixels before the step, then its convolution
    return reach


def before_shuffle(conv: nn.Conv2d, factor: int) -> nn.Conv2d:
    """Return what equals a convolution that keeps the size, behind PixelShuffle, if it comes before PixelShuffle.

    Args:
        conv: 3x3, (N, C, factor * H, factor * W) -> (N, D, factor * H, factor * W).
        factor: of PixelShuffle.

    Returns:
        A 3x3 convolution (N, C * factor**2, H, W) -> (N, D * factor**2, H, W).

    """
    outputs, inputs = conv.out_channels, conv.in_channels
    kernel = conv.weight.new_zeros(outputs, factor, factor, inputs, factor, factor, 3, 3)
    for i, j, y, x in itertools.product(range(factor), range(factor), range(3), range(3)):
        (row, down), (right, column) = divmod(i + y - 1, factor), divmod(j + x - 1, factor)
        kernel[:, i, j, :, down, column, row + 1, right + 1] = conv.weight.detach()[:, :, y, x]
    early = conv3x3(inputs * factor**2, outputs * factor**2).to(conv.weight)
    early.weight.data = kernel.reshape(early.weight.shape)
    assert conv.bias is not None
    assert early.bias is not None
    early.bias.data = conv.bias.detach().repeat_interleave(factor**2)
    return early


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Compute in the type of `x` also under autocast, of which meta tensors know nothing."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
