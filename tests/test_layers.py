"""The shared layers say what they claim; `upsampler_reach` is tested by the receptive radius of every network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classsr.networks.layers import (
    MeanShift,
    PReLU,
    Residual,
    before_shuffle,
    conv3x3,
    upsampler,
    without_autocast,
)

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])  # of DIV2K, as printed in the code of EDSR


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mean_shift_is_the_convolution_that_it_is_stored_as(sign: int) -> None:
    shift = MeanShift(sign)
    x = torch.rand(2, 3, 4, 5)

    found = shift(x)

    torch.testing.assert_close(found, F.conv2d(x, shift.weight, shift.bias), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, x + sign * MEAN[:, None, None], rtol=0, atol=1e-6)


def test_a_residual_adds_its_input() -> None:
    x = torch.rand(2, 3, 4, 5)

    assert torch.equal(Residual(nn.ReLU())(-x), -x)
    assert torch.equal(Residual(nn.ReLU())(x), 2 * x)


@pytest.mark.parametrize("slopes", [1, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_prelu_learns_as_pytorchs_does(slopes: int, layout: torch.memory_format) -> None:
    ours, theirs = PReLU(slopes).double(), nn.PReLU(slopes).double()
    slope = torch.linspace(-0.5, 2, slopes, dtype=torch.float64)
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    x[0, 1] = 0  # where the derivative is a matter of taste
    weights = torch.rand_like(x)

    found = []
    for layer in (ours, theirs):
        layer.weight.data.copy_(slope)
        inner = x.to(memory_format=layout).requires_grad_()
        out = layer(inner)
        gradients = torch.autograd.grad((out * weights).sum(), [inner, layer.weight])
        found.append([out, *gradients])

    for mine, reference in zip(*found, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


def test_prelu_keeps_half_precision_under_autocast() -> None:
    layer = PReLU(4)
    x = torch.randn(1, 4, 3, 3, dtype=torch.bfloat16, requires_grad=True)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    torch.autograd.backward(out.float().sum())

    assert out.dtype == torch.bfloat16
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    below = x.detach().float().clamp(max=0).sum(dim=(0, 2, 3))
    torch.testing.assert_close(layer.weight.grad, below, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("scale", "factors"), [(2, [2]), (3, [3]), (4, [2, 2])])
def test_an_upsampler_takes_the_steps_of_its_scale(scale: int, factors: list[int]) -> None:
    layers = upsampler(scale, lambda factor: [nn.PixelShuffle(factor), nn.ReLU()])

    shuffles = [layer for layer in layers if isinstance(layer, nn.PixelShuffle)]
    assert [shuffle.upscale_factor for shuffle in shuffles] == factors
    assert len(layers) == 2 * len(factors)


def test_without_autocast_keeps_the_type() -> None:
    x = torch.rand(2, 2)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32


@pytest.mark.usefixtures("same_weights")
@pytest.mark.parametrize("factor", [2, 3])
def test_a_convolution_before_pixel_shuffle_equals_the_one_behind_it(factor: int) -> None:
    behind = conv3x3(4, 3)
    x = torch.rand(2, 4 * factor**2, 5, 7)

    before = before_shuffle(behind, factor)

    expected = behind(F.pixel_shuffle(x, factor))
    torch.testing.assert_close(F.pixel_shuffle(before(x), factor), expected)
