"""Compact starts as bicubic, and its re-parameterised form is one convolution per layer for all its paths."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from branches import parameters, randomise
from classsr.networks import Bicubic, Compact
from classsr.networks.compact import KAIMING, RESIDUAL, SILENT, RepConv

pytestmark = pytest.mark.usefixtures("same_weights")

SHAPES = [(3, 8), (8, 8), (8, 48), (48, 48)]


def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def summed(layer: RepConv, x: Tensor, *, identity: bool) -> Tensor:
    """All paths of a layer, run one by one."""
    wide = F.conv2d(x, layer.widen.weight)
    out = conv(layer, x) + conv(layer.point, x) + conv(layer.mix, wide)
    return out + x if identity else out


# --- One layer ---


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("variance", [SILENT, KAIMING])
def test_a_layer_equals_the_sum_of_its_paths(inputs: int, outputs: int, variance: float) -> None:
    layer = RepConv(inputs, outputs, variance, width=8).double()
    randomise(layer)
    x = torch.randn(2, inputs, 5, 6, dtype=torch.float64)

    found = layer(x)

    expected = summed(layer, x, identity=inputs == outputs and variance > SILENT)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.fold()(x), expected, rtol=0, atol=1e-12)


def test_the_merged_paths_learn_as_they_would_one_by_one() -> None:
    layer = RepConv(8, 8, KAIMING, width=8).double()
    randomise(layer)
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64, requires_grad=True)
    inputs = (x, *layer.parameters())

    found = torch.autograd.grad(layer(x).square().sum(), inputs)

    expected = torch.autograd.grad(summed(layer, x, identity=True).square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("outputs", "variance", "expected"),
    [(64, KAIMING, RESIDUAL), (48, KAIMING, KAIMING), (64, SILENT, 0), (48, SILENT, 0)],
)
def test_a_fresh_layer_has_the_variance_it_is_given(
    outputs: int, variance: float, expected: float
) -> None:
    layer = RepConv(64, outputs, variance, width=64)
    x = torch.randn(4, 64, 32, 32)

    found = layer(x).detach()[:, :, 1:-1, 1:-1].var().item()

    assert found == pytest.approx(expected, rel=0.1)


def test_the_paths_are_merged_in_float32_under_autocast() -> None:
    layer = RepConv(8, 8, KAIMING, width=8)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight, _ = layer.merged()

    assert weight.dtype == torch.float32
    assert torch.equal(weight, layer.merged()[0])


# --- The network ---


def flat(weights: dict[str, Tensor], x: Tensor, depth: int, scale: int) -> Tensor:
    """Compact step by step, from the weights alone."""
    y = x
    for place in range(0, 2 * (depth + 2), 2):
        y = F.conv2d(y, weights[f"body.{place}.weight"], weights[f"body.{place}.bias"], padding=1)
        if place < 2 * (depth + 1):
            y = F.prelu(y, weights[f"body.{place + 1}.weight"])
    enlarged: Tensor = Bicubic(scale)(x)
    return F.pixel_shuffle(y, scale) + enlarged


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_compact_equals_its_description_written_out(scale: int) -> None:
    branch = Compact(6, scale, depth=3)
    randomise(branch)
    x = torch.rand(2, 3, 7, 9)

    found = branch(x)

    torch.testing.assert_close(found, flat(branch.state_dict(), x, 3, scale), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("form", [{}, {"reparameterised": True}, {"quantized": True}])
@pytest.mark.parametrize("width", [8, 48])  # 48: as many as the last convolution has outputs at x4
def test_a_fresh_network_is_bicubic(width: int, form: dict[str, bool], scale: int) -> None:
    branch = Compact(width, scale, depth=2, **form)
    x = torch.rand(2, 3, 7, 9)

    assert torch.equal(branch(x), Bicubic(scale)(x))


def test_once_folded_the_paths_are_gone() -> None:
    plain, rep = (Compact(8, 4, depth=3, reparameterised=r) for r in (False, True))

    assert parameters(rep) > parameters(plain)
    assert parameters(rep.fold()) == parameters(plain.fold())
    assert rep.fold().state_dict().keys() == plain.fold().state_dict().keys()


@pytest.mark.parametrize("reparameterised", [True, False])
def test_a_fresh_network_sees_nothing_in_what_is_flat(reparameterised: bool) -> None:
    first = Compact(8, 4, depth=1, reparameterised=reparameterised).body[0]

    flat, detail = first(torch.full((1, 3, 5, 5), 0.7)), first(torch.rand(1, 3, 5, 5))

    inner = slice(1, -1)  # beyond the border are zeros
    assert flat[:, :, inner, inner].abs().max() < 1e-6
    assert detail[:, :, inner, inner].abs().mean() > 0.1


@pytest.mark.parametrize("form", [{}, {"reparameterised": True}, {"quantized": True}])
def test_a_deep_fresh_network_neither_dies_nor_explodes(form: dict[str, bool]) -> None:
    branch = Compact(32, 4, depth=16, **form)
    x = torch.rand(2, 3, 32, 32)

    features = branch.body[:-1](x)  # before the last convolution, which is silent

    assert 0.05 < features.square().mean().sqrt() < 5
