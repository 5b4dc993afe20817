"""FSRCNN's fast form equals the plain one, and it starts as bilinear.

The subpixel form of the transposed convolution is compared with torch.nn.functional.conv_transpose2d.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from branches import parameters, randomise
from classsr.networks import FSRCNN, BranchSpec, build_branch
from classsr.networks.fsrcnn import KERNEL, SubpixelDeconvolution

pytestmark = pytest.mark.usefixtures("same_weights")


# --- The subpixel form of the transposed convolution ---


def transposed(layer: SubpixelDeconvolution, x: Tensor) -> Tensor:
    """What the layer's parameters mean, by torch's own transposed convolution."""
    padding = (KERNEL - layer.scale + 1) // 2
    extra = layer.scale + 2 * padding - KERNEL
    return F.conv_transpose2d(x, layer.weight, layer.bias, layer.scale, padding, extra)


@given(
    scale=st.sampled_from([2, 3, 4]),
    channels=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_the_subpixel_form_equals_the_transposed_convolution(
    scale: int, channels: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = SubpixelDeconvolution(channels, scale).double()
    randomise(layer)
    x = torch.randn(2, channels, height, width, dtype=torch.float64)

    torch.testing.assert_close(layer(x), transposed(layer, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_subpixel_form_has_the_same_gradients(scale: int) -> None:
    layer = SubpixelDeconvolution(3, scale).double()
    randomise(layer)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 3, 6 * scale, 5 * scale, dtype=torch.float64)
    inputs = (x, *layer.parameters())

    found = torch.autograd.grad((layer(x) - target).square().sum(), inputs)

    expected = torch.autograd.grad((transposed(layer, x) - target).square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_x4_is_the_papers_layer() -> None:
    layer = SubpixelDeconvolution(56, 4)

    assert (layer.stride, layer.padding, layer.output_padding) == ((4, 4), (3, 3), (1, 1))


# --- The network ---


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_fresh_fsrcnn_enlarges_bilinearly(scale: int) -> None:
    branch = build_branch(BranchSpec("fsrcnn", 16, scale))
    with torch.no_grad():  # what the other channels add is random, and small
        branch.get_parameter("upsample.weight")[3:] = 0
    x = torch.rand(2, 3, 9, 11)
    expected = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)

    found = branch(x)

    inner = slice(scale, -scale)  # one LR pixel, where the network sees zeros beyond the border
    torch.testing.assert_close(
        found[:, :, inner, inner], expected[:, :, inner, inner], rtol=0, atol=1e-5
    )


def test_what_a_fresh_fsrcnn_adds_at_random_is_small() -> None:
    branch = build_branch(BranchSpec("fsrcnn", 56, 4))
    x = torch.rand(2, 3, 16, 16)
    bilinear = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

    difference = (branch(x) - bilinear)[:, :, 4:-4, 4:-4]

    assert 0 < difference.abs().max() < 0.1
    assert difference.square().mean().sqrt() < 0.02


def test_an_fsrcnn_of_other_depth_is_built() -> None:
    shallow, deep = (FSRCNN(8, 4, shrunk=6, mappings=m) for m in (1, 5))

    assert deep.receptive_radius - shallow.receptive_radius == 4
    assert parameters(deep) - parameters(shallow) == 4 * (6 * 6 * 9 + 6)
