"""Convolutions of 8-bit integers, learned in floats.

What goes in and the kernels are rounded to 255 steps in training too, so that the weights get used to it. The width of
a step of what goes in is learned: Esser et al., "Learned Step Size Quantization", ICLR 2020; here its logarithm is, so
that one learning rate suits all. Kernels have a step for every output channel, a 127th of the largest weight. Both are
symmetric, without a zero point, which runtimes compute faster. What goes in has one step for all channels, so that a
chain of layers begins with channels of like ranges: Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019. What that is worth: docs/log.md, 2026-11-29 and -30.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, library, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx, once_differentiable
from torch.nn.utils.parametrize import register_parametrization

from classsr.networks.layers import conv3x3, without_autocast

LOW, HIGH = -128, 127
RANGES = 20  # that are tried to begin with, the widest up to the largest value


class QuantizedConv(nn.Conv2d):
    """A 3x3 convolution of 8-bit integers that keeps the size.

    Before it is trained a fresh one needs its step: see `calibrate`.

    Args:
        inputs: channels.
        outputs: channels.

    """

    calibrated: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.log_step = nn.Parameter(torch.tensor(1 / HIGH).log())  # for values in [-1, 1]
        self.register_buffer("calibrated", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self._convolve(x)
        with without_autocast(x):  # as runtimes do: what is not integers is float32
            return self._convolve(x.to(self.weight.dtype))

    def _convolve(self, x: Tensor) -> Tensor:
        steps = self._weight_steps().view(-1, 1, 1, 1)
        # Rounding the weights has no gradient of its own: what moves them is that of the rounded ones.
        weight = self.weight + ((self.weight / steps).round() * steps - self.weight).detach()
        whole: Tensor = _Whole.apply(x, self.log_step)  # type: ignore[no-untyped-call]
        # The step goes with the weights, which are float32: bf16 would round it, and with it all values alike.
        return F.conv2d(whole, weight * self.log_step.exp(), self.bias, padding=1)

    def fold(self) -> nn.Module:
        """Return the same function in the operations that runtimes know as a convolution of integers."""
        conv = conv3x3(self.in_channels, self.out_channels).to(self.weight)  # its device and type
        assert self.bias is not None
        conv.load_state_dict({"weight": self.weight.detach(), "bias": self.bias.detach()})
        register_parametrization(conv, "weight", RoundedToSteps(self._weight_steps()))
        return nn.Sequential(RoundedToSteps(self.log_step.detach().exp()), conv)

    def _weight_steps(self) -> Tensor:
        largest = self.weight.detach().abs().amax(dim=(1, 2, 3))
        return largest.clamp(min=1e-12) / HIGH  # a channel of zeros has a step too

    def take_step(self, x: Tensor) -> None:
        """Take the step that rounds `x` with the least error."""
        steps = x.abs().max() * torch.linspace(1, 1 / RANGES, RANGES, device=x.device) / HIGH
        errors = [((x / s).round().clamp(LOW, HIGH) * s - x).square().mean() for s in steps]
        self.log_step.data = steps[int(torch.stack(errors).argmin())].log()
        self.calibrated.fill_(True)


@torch.no_grad()
def calibrate(chain: nn.Sequential, x: Tensor) -> None:
    """Prepare the fresh layers of a chain for training; those that have a step already stay as they are.

    Channels between two convolutions get ranges alike, which changes no result but for rounding, and each layer the
    step that rounds best what comes in.

    Args:
        chain: convolutions and what leaves a factor above 0 a factor, such as PReLU, between them.
        x: what goes into the chain, float32.

    """
    before: nn.Conv2d | None = None
    for layer in chain:
        if isinstance(layer, QuantizedConv) and not layer.calibrated:
            if before is not None:
                x = x / _equalise(before, layer, x)
            layer.take_step(x)
        if isinstance(layer, nn.Conv2d):
            before = layer
        x = layer(x)


def _equalise(before: nn.Conv2d, after: nn.Conv2d, x: Tensor) -> Tensor:
    """Divide what a layer makes by a factor for every channel and let the next undo it; return them: (1, C, 1, 1).

    Afterwards a channel reaches as far, by its share, as its largest weight does in the next layer, so that neither
    is rounded more than the other. The factors' geometric mean is 1.
    """
    reach = x.abs().amax(dim=(0, 2, 3))
    largest = after.weight.abs().amax(dim=(0, 2, 3))
    useful = (reach > 0) & (largest > 0)
    logs = torch.where(useful, (reach / largest).log() / 2, 0.0)
    factors = torch.where(useful, logs - logs.sum() / useful.sum(), 0.0).exp()
    before.weight /= factors.view(-1, 1, 1, 1)
    if before.bias is not None:
        before.bias /= factors
    after.weight *= factors.view(1, -1, 1, 1)
    return factors.view(1, -1, 1, 1)


class _Whole(torch.autograd.Function):
    """Divide by the step and round to whole numbers from LOW to HIGH, with the gradients of learned step sizes."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, log_step: Tensor) -> Tensor:
        per_step = log_step.neg().exp()
        scaled = x * per_step
        ctx.save_for_backward(scaled, per_step)
        return scaled.round().clamp_(LOW, HIGH)

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor, Tensor]:
        scaled, per_step = cast("tuple[Tensor, ...]", ctx.saved_tensors)
        passed = gradient * (scaled.clamp(LOW - 0.5, HIGH + 0.5) == scaled)
        return passed * per_step, -(passed * scaled).sum(dtype=torch.float32)


@library.custom_op("classsr::round_to_steps", mutates_args=())
def round_to_steps(x: Tensor, steps: Tensor, zeros: Tensor) -> Tensor:
    """Round to the nearest multiple, LOW to HIGH times, of the step.

    One operation for whoever exports a graph: in ONNX it is QuantizeLinear followed by DequantizeLinear.

    Args:
        x: any shape.
        steps: one, of shape (), or one for each entry of the first axis of `x`.
        zeros: int8, of the shape of `steps`.

    """
    each = steps.view(-1, *[1] * (x.ndim - 1)) if steps.ndim else steps
    return torch.clamp((x / each).round(), LOW, HIGH) * each


@round_to_steps.register_fake
def _(x: Tensor, steps: Tensor, zeros: Tensor) -> Tensor:
    return torch.empty_like(x)


class RoundedToSteps(nn.Module):
    """Round to multiples of fixed steps; see `round_to_steps`."""

    steps: Tensor
    zeros: Tensor

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.register_buffer("zeros", torch.zeros_like(steps, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = round_to_steps(x, self.steps, self.zeros)
        return rounded
