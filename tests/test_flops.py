"""Multiply-accumulates agree with the paper's costs and with torch's own counter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from branches import small_branch, weightless
from classsr.flops import count_macs
from classsr.networks import BRANCHES, BranchSpec, Classifier, as_branch, build_branch


def torch_macs(module: nn.Module, height: int, width: int) -> int:
    """Half of what torch counts: it counts a multiply-accumulate as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.rand(1, 3, height, width))
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize(
    ("network", "width", "mflops", "digits"),
    [
        ("fsrcnn", 16, 21.8, 1),
        ("fsrcnn", 36, 35.8, 1),
        ("fsrcnn", 56, 49.8, 1),
        ("carn", 36, 380, 0),
        ("carn", 52, 772, 0),
        ("carn", 64, 1_155, 0),
        ("srresnet", 36, 1_658, 0),
        ("srresnet", 52, 3_438, 0),
        ("srresnet", 64, 5_194, 0),
        ("rcan", 36, 10_330, 0),
        ("rcan", 50, 19_910, -1),
        ("rcan", 64, 32_600, 0),
    ],
)
def test_a_branch_costs_what_it_does_on_a_patch_of_32(
    network: str, width: int, mflops: float, digits: int
) -> None:
    macs = count_macs(weightless(network, width), 32, 32)

    assert round(2 * macs / 1e6, digits) == mflops


def test_bicubic_costs_the_taps_of_its_convolution() -> None:
    assert count_macs(build_branch(BranchSpec("bicubic", None, 4)), 32, 32) == 32**2 * 48 * 25


def test_all_paths_of_a_layer_cost_one_convolution() -> None:
    rep, plain = (small_branch(network, 4) for network in ("compact-rep", "compact"))

    assert count_macs(rep, 8, 8) == count_macs(plain, 8, 8)
    assert count_macs(as_branch(rep).fold(), 8, 8) == count_macs(as_branch(plain).fold(), 8, 8)


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


@pytest.mark.parametrize("network", sorted(BRANCHES))
def test_the_folded_branch_agrees_with_torch(network: str) -> None:
    folded = as_branch(small_branch(network, 4)).fold()

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


@pytest.mark.parametrize("network", sorted(set(BRANCHES) - {"rcan"}))
@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=5)
def test_a_branch_costs_the_same_for_every_pixel(network: str, height: int, width: int) -> None:
    branch = small_branch(network, 4)

    assert count_macs(branch, height, width) == height * width * count_macs(branch, 1, 1)


def test_the_attention_of_rcan_costs_the_same_for_every_picture() -> None:
    branch = small_branch("rcan", 4)  # 4 attentions, each from 8 channels to 4 and back

    once = 4 * 2 * 8 * 4
    assert count_macs(branch, 6, 5) - once == 30 * (count_macs(branch, 1, 1) - once)


def test_counting_leaves_the_network_alone() -> None:
    branch = build_branch(BranchSpec("fsrcnn", 16, 4)).train()

    count_macs(branch, 8, 8)

    assert branch.training
    assert branch(torch.rand(1, 3, 4, 4)).device.type == "cpu"
    assert not any(layer._forward_hooks for layer in branch.modules())
