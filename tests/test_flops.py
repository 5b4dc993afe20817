"""Multiply-accumulates agree with the paper's costs and with torch's own counter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from classsr.flops import count_macs
from classsr.networks import BranchSpec, Classifier, as_branch, build_branch


def torch_macs(module: nn.Module, height: int, width: int) -> int:
    """Half of what torch counts: it counts a multiply-accumulate as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.rand(1, 3, height, width))
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize(("width", "mflops"), [(16, 21.8), (36, 35.8), (56, 49.8)])
def test_fsrcnn_costs_what_it_does_on_a_patch_of_32(width: int, mflops: float) -> None:
    macs = count_macs(build_branch(BranchSpec("fsrcnn", width, 4)), 32, 32)

    assert round(2 * macs / 1e6, 1) == mflops


def test_the_classifier_costs_what_it_does_on_a_patch_of_32() -> None:
    assert round(2 * count_macs(Classifier(3), 32, 32) / 1e6, 1) == 7.6


@given(
    groups=st.sampled_from([1, 3]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    height=st.integers(6, 12),
    width=st.integers(6, 12),
)
def test_convolutions_agree_with_torch(
    groups: int, kernel: int, stride: int, padding: int, height: int, width: int
) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 6, kernel, stride, padding, groups=groups),
        nn.PReLU(),
        nn.Conv2d(6, 4, 1),
    )

    assert count_macs(module, height, width) == torch_macs(module, height, width)


@given(
    kernel=st.integers(3, 9),
    stride=st.integers(1, 4),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
)
def test_transposed_convolutions_agree_with_torch(
    kernel: int, stride: int, height: int, width: int
) -> None:
    module = nn.ConvTranspose2d(3, 6, kernel, stride)

    assert count_macs(module, height, width) == torch_macs(module, height, width)


def test_grouped_transposed_convolutions_agree_with_torch() -> None:
    module = nn.ConvTranspose2d(3, 6, 9, 4, groups=3)

    assert count_macs(module, 7, 5) == torch_macs(module, 7, 5)


def test_the_classifier_agrees_with_torch() -> None:
    assert count_macs(Classifier(3), 32, 40) == torch_macs(Classifier(3), 32, 40)


def test_the_folded_branch_agrees_with_torch() -> None:
    folded = as_branch(build_branch(BranchSpec("fsrcnn", 16, 4))).fold()

    assert count_macs(folded, 24, 32) == torch_macs(folded, 24, 32)


class Twice(nn.Module):
    """One layer used twice, as CARN-M shares its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        once: Tensor = self.conv(x)
        twice: Tensor = self.conv(once)
        return twice


def test_a_layer_used_twice_is_counted_twice() -> None:
    assert count_macs(Twice(), 10, 10) == 2 * 81 * 100


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_branch_costs_the_same_for_every_pixel(height: int, width: int) -> None:
    branch = build_branch(BranchSpec("fsrcnn", 16, 4))

    assert count_macs(branch, height, width) == height * width * count_macs(branch, 1, 1)


def test_counting_leaves_the_network_alone() -> None:
    branch = build_branch(BranchSpec("fsrcnn", 16, 4)).train()

    count_macs(branch, 8, 8)

    assert branch.training
    assert branch(torch.rand(1, 3, 4, 4)).device.type == "cpu"
    assert not any(layer._forward_hooks for layer in branch.modules())
