"""RCAN equals the paper's figures written out flat, and its attention sees the whole input."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from branches import make_positive, randomise
from classsr.networks import RCAN

pytestmark = pytest.mark.usefixtures("same_weights")

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]
STEPS = {2: [(0, 2)], 3: [(0, 3)], 4: [(0, 2), (2, 2)]}  # of the upsampler: place and factor
GROUPS, BLOCKS = 2, 3


def flat(weights: dict[str, Tensor], x: Tensor, scale: int) -> Tensor:
    """RCAN step by step, from the weights alone."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def dense(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"][:, :, 0, 0], weights[f"{name}.bias"])

    def attend(name: str, x: Tensor) -> Tensor:
        means = x.flatten(2).mean(dim=2)  # (N, width)
        inner = dense(f"{name}.squeeze", means).clamp(min=0)
        return x / (1 + torch.exp(-dense(f"{name}.excite", inner)))[:, :, None, None]

    head = conv("head", x - MEAN)
    y = head
    for group in range(GROUPS):
        z = y
        for block in range(BLOCKS):
            name = f"body.{group}.{block}"
            z = z + attend(f"{name}.3", conv(f"{name}.2", conv(f"{name}.0", z).clamp(min=0)))
        y = y + conv(f"body.{group}.{BLOCKS}", z)
    y = head + conv(f"body.{GROUPS}", y)
    for place, factor in STEPS[scale]:
        y = F.pixel_shuffle(conv(f"upsample.{place}", y), factor)
    return conv("tail", y) + MEAN


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_rcan_equals_the_figures_written_out(scale: int) -> None:
    branch = RCAN(6, scale, groups=GROUPS, blocks=BLOCKS, reduction=2)
    randomise(branch)
    x = torch.rand(2, 3, 7, 9)

    found = branch(x)

    expected = flat(branch.state_dict(), x, scale)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_narrow_network_keeps_one_channel_in_its_attention() -> None:
    assert RCAN(8, 4, groups=1, blocks=1).get_parameter("body.0.0.3.squeeze.bias").shape == (1,)


def test_every_output_pixel_depends_on_every_input_pixel() -> None:
    branch = RCAN(4, 2, groups=1, blocks=1).double()  # its convolutions reach 7 pixels
    make_positive(branch)
    x = (1 + torch.rand(1, 3, 20, 20, dtype=torch.float64)).requires_grad_()

    (gradient,) = torch.autograd.grad(branch(x)[0, :, 0, 0].sum(), x)

    assert branch.receptive_radius is None
    assert (gradient != 0).all()
