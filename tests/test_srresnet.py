"""MSRResNet equals its description written out flat, and starts as bilinear."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from branches import randomise
from classsr.networks import SRResNet

pytestmark = pytest.mark.usefixtures("same_weights")

STEPS = {2: [(0, 2)], 3: [(0, 3)], 4: [(0, 2), (3, 2)]}  # of the upsampler: place and factor
BLOCKS = 3


def bilinear(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def flat(weights: dict[str, Tensor], x: Tensor, scale: int) -> Tensor:
    """MSRResNet step by step, from the weights alone."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    y = F.leaky_relu(conv("entry", x), 0.1)
    for block in range(BLOCKS):
        y = y + conv(f"trunk.{block}.2", conv(f"trunk.{block}.0", y).clamp(min=0))
    for place, factor in STEPS[scale]:
        y = F.leaky_relu(F.pixel_shuffle(conv(f"upsample.{place}", y), factor), 0.1)
    y = F.leaky_relu(conv("refine", y), 0.1)
    return conv("exit", y) + bilinear(x, scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_srresnet_equals_its_description_written_out(scale: int) -> None:
    branch = SRResNet(6, scale, blocks=BLOCKS)
    randomise(branch)
    x = torch.rand(2, 3, 7, 9)

    found = branch(x)

    expected = flat(branch.state_dict(), x, scale)
    assert (expected - bilinear(x, scale)).std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_fresh_srresnet_all_but_enlarges_bilinearly(scale: int) -> None:
    x = torch.rand(2, 3, 9, 11)

    difference = SRResNet(64, scale)(x) - bilinear(x, scale)

    assert 0 < difference.abs().max() < 0.01
