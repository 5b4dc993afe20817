"""CARN-M equals the paper's figure written out flat, and its fold has no BatchNorm left."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from branches import randomise
from classsr.networks import CARN

pytestmark = pytest.mark.usefixtures("same_weights")

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]
GROUPS = 4
EPSILON = 1e-5  # of torch's BatchNorm


class Flat:
    """CARN-M step by step, from the weights alone."""

    def __init__(self, weights: dict[str, Tensor], scale: int) -> None:
        self.weights = weights
        self.scale = scale

    def conv(self, name: str, x: Tensor, groups: int = 1) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=groups)

    def unit(self, name: str, x: Tensor) -> Tensor:
        y = self.conv(f"{name}.0", x, GROUPS).clamp(min=0)
        y = self.conv(f"{name}.2", y, GROUPS).clamp(min=0)
        return (self.conv(f"{name}.4", y) + x).clamp(min=0)

    def fuse(self, name: str, *parts: Tensor) -> Tensor:
        y = self.conv(f"{name}.conv", torch.cat(parts, dim=1))
        mean, variance, gain, bias = (
            self.weights[f"{name}.norm.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / (variance + EPSILON).sqrt() * gain + bias).clamp(min=0)

    def block(self, name: str, x: Tensor) -> Tensor:
        shared, fusions = f"{name}.blocks.0", f"{name}.fusions"
        b1 = self.unit(shared, x)
        o1 = self.fuse(f"{fusions}.0", x, b1)
        b2 = self.unit(shared, o1)
        o2 = self.fuse(f"{fusions}.1", x, b1, b2)
        b3 = self.unit(shared, o2)
        return self.fuse(f"{fusions}.2", x, b1, b2, b3)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.conv("entry", x - MEAN)
        b1 = self.block("body.blocks.0", x)
        o1 = self.fuse("body.fusions.0", x, b1)
        b2 = self.block("body.blocks.1", o1)
        o2 = self.fuse("body.fusions.1", x, b1, b2)
        b3 = self.block("body.blocks.2", o2)
        x = self.fuse("body.fusions.2", x, b1, b2, b3)
        for place, factor in {2: [(0, 2)], 3: [(0, 3)], 4: [(0, 2), (3, 2)]}[self.scale]:
            x = self.conv(f"upsample.{place}", x, GROUPS).clamp(min=0)
            x = F.pixel_shuffle(x, factor)
        return self.conv("exit", x) + MEAN


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_carn_equals_the_figure_written_out(scale: int) -> None:
    branch = CARN(8, scale).eval()
    randomise(branch)
    x = torch.rand(2, 3, 7, 9)

    found = branch(x)

    expected = Flat(branch.state_dict(), scale)(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_cascade_shares_one_block() -> None:
    branch = CARN(8, 4)

    assert {name.split(".")[4] for name in branch.state_dict() if ".blocks.0.blocks." in name} == {
        "0"
    }


def test_the_statistics_move_in_training_alone() -> None:
    branch = CARN(8, 2)
    before = branch.get_buffer("body.fusions.0.norm.running_mean").clone()

    branch.eval()(torch.rand(2, 3, 8, 8))
    assert torch.equal(branch.get_buffer("body.fusions.0.norm.running_mean"), before)

    branch.train()(torch.rand(2, 3, 8, 8))
    assert not torch.equal(branch.get_buffer("body.fusions.0.norm.running_mean"), before)


def test_the_fold_of_a_branch_in_training_is_what_it_is_in_eval_mode() -> None:
    branch = CARN(8, 2).train()
    randomise(branch)
    x = torch.rand(2, 3, 8, 8)

    folded = branch.fold()

    torch.testing.assert_close(folded(x), branch.eval()(x), rtol=0, atol=1e-5)
