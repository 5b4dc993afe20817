"""Convolutions of 8-bit integers: what they compute, how they learn, and that runtimes compute integers indeed."""

import copy
import math
from pathlib import Path

import onnx
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, library, nn

from branches import randomise
from classsr import export
from classsr.networks import BranchSpec, as_branch, build_branch
from classsr.networks.quantized import HIGH, LOW, QuantizedConv, calibrate, round_to_steps


def fresh(*, step: float = 4 / HIGH, channels: int = 6) -> QuantizedConv:
    """A layer in eval mode with random weights and a step of our choice."""
    torch.manual_seed(0)
    layer = QuantizedConv(channels, channels + 1)
    layer.log_step.data.fill_(math.log(step))
    return layer.eval()


def features(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def between_steps(layer: QuantizedConv, x: Tensor) -> Tensor:
    """Move what lies so near to the middle of two steps that the last bit decides where it is rounded to."""
    step = float(layer.log_step.detach().exp())
    steps = x / step
    whole = steps.round()
    return step * (whole + (steps - whole).clamp(-0.49, 0.49))


def rounded_weight(layer: QuantizedConv) -> Tensor:
    """The kernels as multiples of their steps."""
    steps = layer.weight.detach().abs().amax(dim=(1, 2, 3)).view(-1, 1, 1, 1) / HIGH
    return (layer.weight.detach() / steps).round() * steps


def as_torch_rounds(layer: QuantizedConv, x: Tensor) -> Tensor:
    """The same by the roundings that come with torch."""
    assert layer.bias is not None
    steps = layer.weight.abs().amax(dim=(1, 2, 3)).detach() / HIGH
    zeros = torch.zeros_like(steps, dtype=torch.int32)
    weight = torch.fake_quantize_per_channel_affine(layer.weight, steps, zeros, 0, LOW, HIGH)
    step = float(layer.log_step.detach().exp())
    rounded = torch.fake_quantize_per_tensor_affine(x, step, 0, LOW, HIGH)
    return F.conv2d(rounded, weight, layer.bias, padding=1)


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
def test_it_agrees_with_the_roundings_of_torch(seed: int, scale: float) -> None:
    layer = fresh()
    x = between_steps(layer, scale * features(2, 6, 9, 7, seed=seed))

    torch.testing.assert_close(layer(x), as_torch_rounds(layer, x), rtol=1e-4, atol=1e-4)


def test_what_lies_on_the_steps_is_convolved_exactly() -> None:
    layer = fresh(step=0.5)
    whole = torch.randint(-HIGH, HIGH + 1, layer.weight.shape).float()
    whole.view(len(whole), -1)[:, 0] = HIGH  # the largest of every channel
    layer.weight.data = whole / HIGH
    x = torch.randint(LOW, HIGH + 1, (2, 6, 8, 8)) * 0.5

    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)

    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-3)


def test_values_beyond_the_last_step_are_cut_off() -> None:
    layer = fresh(step=1 / HIGH)
    x = features(1, 6, 8, 8)

    torch.testing.assert_close(layer(5 * x), layer((5 * x).clamp(LOW / HIGH, 1)))


@pytest.mark.parametrize("channel_of_zeros", [False, True])
def test_folded_it_is_the_same_function(channel_of_zeros: bool) -> None:
    layer = fresh()
    x = between_steps(layer, features(2, 6, 9, 7))
    if channel_of_zeros:
        layer.weight.data[2] = 0

    torch.testing.assert_close(layer.fold()(x), layer(x), rtol=1e-4, atol=1e-4)


def test_the_step_learns_as_that_of_torch_does() -> None:
    x, weights = 3 * features(2, 6, 9, 7), features(2, 7, 9, 7, seed=2)
    layer = fresh(step=0.02)
    (found,) = torch.autograd.grad((layer(x) * weights).sum(), layer.log_step)

    step = torch.tensor([0.02], requires_grad=True)
    rounded = torch._fake_quantize_learnable_per_tensor_affine(
        x, step, torch.zeros(1), LOW, HIGH, 1.0
    )
    out = F.conv2d(rounded, rounded_weight(layer), layer.bias, padding=1)
    (expected,) = torch.autograd.grad((out * weights).sum(), step)

    torch.testing.assert_close(found, expected[0] * 0.02, rtol=1e-3, atol=1e-3)


def test_what_is_not_cut_off_learns_as_if_it_were_not_rounded() -> None:
    layer = fresh(step=0.02)
    x = features(1, 6, 8, 8).requires_grad_()
    (found,) = torch.autograd.grad(layer(x).sum(), x)

    out = F.conv2d(x, rounded_weight(layer), layer.bias, padding=1)
    (expected,) = torch.autograd.grad(out.sum(), x)
    inside = x.detach().abs() < HIGH * 0.02
    assert 0 < float(inside.float().mean()) < 1
    torch.testing.assert_close(found, expected * inside)


def test_the_weights_learn_as_if_they_were_not_rounded() -> None:
    layer, x = fresh(step=0.5), torch.randint(-8, 8, (1, 6, 8, 8)) * 0.5
    (found,) = torch.autograd.grad(layer(x).sum(), layer.weight)

    plain = nn.Conv2d(6, 7, 3, padding=1)  # a sum's gradient does not depend on the weights
    (expected,) = torch.autograd.grad(plain(x).sum(), plain.weight)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_calibrating_sets_the_step_of_fresh_layers_alone(scale: float) -> None:
    layer, x = fresh(step=1.0), features(2, 6, 16, 16)
    chain = nn.Sequential(layer)

    calibrate(chain, scale * x)

    step = math.exp(layer.log_step.item())
    assert 2 * scale / HIGH < step < 5 * scale / HIGH  # noise reaches to about four
    calibrate(chain, 10 * scale * x)
    assert math.exp(layer.log_step.item()) == step


def chain_of_unlike_channels() -> nn.Sequential:
    """Layers whose channels differ in range by factors of up to 30, and one that is all zeros."""
    torch.manual_seed(3)
    convs = [nn.Conv2d(3, 16, 3, padding=1), QuantizedConv(16, 16), QuantizedConv(16, 8)]
    for conv in convs[:-1]:
        conv.weight.data *= torch.logspace(-0.75, 0.75, 16).view(-1, 1, 1, 1)
        nn.init.zeros_(conv.weight.data[5])
        assert conv.bias is not None
        nn.init.zeros_(conv.bias.data[5:6])
    return nn.Sequential(convs[0], nn.PReLU(16), convs[1], nn.PReLU(16), convs[2])


def in_floats(chain: nn.Sequential, x: Tensor) -> Tensor:
    """What a chain makes without rounding."""
    for layer in chain:
        x = nn.Conv2d.forward(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
    return x


def test_calibrating_changes_nothing_but_rounding_and_that_to_less() -> None:
    chain, x = chain_of_unlike_channels(), features(2, 3, 24, 24)
    one_by_one = copy.deepcopy(chain)
    with torch.no_grad():
        expected = in_floats(chain, x)
        y = x
        for layer in one_by_one:
            if isinstance(layer, QuantizedConv):
                layer.take_step(y)
            y = layer(y)

        calibrate(chain, x)

        torch.testing.assert_close(in_floats(chain, x), expected, rtol=1e-4, atol=1e-4)
        error, before = ((made - expected).square().mean() for made in (chain(x), y))
    assert 0 < error < 0.7 * before


def test_calibrated_channels_reach_as_far_as_their_weights_do() -> None:
    first, activation, second, *_ = chain_of_unlike_channels()
    x = features(2, 3, 24, 24)

    calibrate(nn.Sequential(first, activation, second), x)

    reach = activation(first(x)).detach().abs().amax(dim=(0, 2, 3))
    largest = second.get_parameter("weight").detach().abs().amax(dim=(0, 2, 3))
    ratio = (reach / largest)[[c for c in range(16) if c != 5]]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)
    assert reach[5] == 0


def test_under_autocast_it_learns_in_bf16_and_is_used_in_float32() -> None:
    layer, x = fresh(), features(1, 6, 8, 8)
    expected = layer(x)

    with torch.autocast("cpu", torch.bfloat16):
        used = layer(x)
        learning = layer.train()(x)

    assert learning.dtype == torch.bfloat16
    assert torch.equal(used, expected)


def test_rounding_to_steps_is_for_whoever_exports_it() -> None:
    library.opcheck(
        round_to_steps,
        (features(3, 2, 3, 3), torch.rand(3) + 0.1, torch.zeros(3, dtype=torch.int8)),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported graph of a small network, wide enough for the kernels of integers."""
    torch.manual_seed(0)
    branch = build_branch(BranchSpec("compact-int8", 16, 4, 3))
    randomise(branch)
    path = tmp_path_factory.mktemp("graph") / "branch.onnx"
    export._export(as_branch(branch).fold(), path, 16)
    return path


def test_a_graph_rounds_what_goes_into_every_convolution_but_the_outer_ones(graph: Path) -> None:
    nodes = onnx.load(graph).graph.node

    # The first, the last and that of the enlargement aside: 3 convolutions, their inputs and their kernels.
    assert sum(node.op_type == "QuantizeLinear" for node in nodes) == 6
    assert sum(node.op_type == "DequantizeLinear" for node in nodes) == 6


def test_openvino_computes_integers(graph: Path) -> None:
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    computed = [
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]

    assert sum(precision in {"i8", "u8"} for precision in computed) == 3
