"""Laws that every kind of branch keeps. Parameter counts are those of the ClassSR paper (table 2)."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from branches import (
    SHALLOW,
    make_positive,
    parameters,
    randomise,
    small_branch,
    small_spec,
    weightless,
)
from classsr.errors import UsageError
from classsr.networks import BRANCHES, BranchSpec, as_branch, build_branch
from classsr.networks.layers import MeanShift

pytestmark = pytest.mark.usefixtures("same_weights")

SCALES = [2, 3, 4]
NETWORKS = sorted(BRANCHES)
TRAINING_ONLY = (nn.BatchNorm2d, nn.ConvTranspose2d)


# --- Sizes ---


@pytest.mark.parametrize(
    ("network", "width", "expected"),
    [
        ("fsrcnn", 16, 10_755),
        ("fsrcnn", 36, 17_635),
        ("fsrcnn", 56, 24_515),
        ("carn", 36, 94_851),
        ("carn", 52, 195_651),
        ("carn", 64, 294_939),
        ("srresnet", 36, 481_683),
        ("srresnet", 52, 1_002_771),
        ("srresnet", 64, 1_517_571),
        ("rcan", 36, 4_940_707),
        ("rcan", 50, 9_521_827),
        ("rcan", 64, 15_592_379),
    ],
)
def test_a_branch_has_the_papers_parameters(network: str, width: int, expected: int) -> None:
    assert parameters(weightless(network, width)) == expected


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_branch_enlarges_by_its_scale(network: str, scale: int) -> None:
    branch = small_branch(network, scale)

    assert branch(torch.rand(2, 3, 5, 7)).shape == (2, 3, 5 * scale, 7 * scale)
    assert as_branch(branch).scale == scale


@pytest.mark.parametrize("network", NETWORKS)
def test_a_branch_takes_a_single_pixel(network: str) -> None:
    branch = small_branch(network, 4).eval()

    assert branch(torch.rand(1, 3, 1, 1)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_branch_is_built_from_its_spec(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in SHALLOW.items():
        monkeypatch.setitem(BRANCHES, name, kind)

    built, expected = build_branch(small_spec(network, 3)), small_branch(network, 3)

    assert type(built) is type(expected)
    assert parameters(built) == parameters(expected)


def test_an_unknown_branch_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="'fsrnn'") as caught:
        build_branch(BranchSpec("fsrnn", 16, 4))

    assert all(name in str(caught.value) for name in BRANCHES)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BranchSpec("fsrcnn", None, 4), "Expected width for fsrcnn but got no sizes"),
        (BranchSpec("fsrcnn", 8, 4, 2), "Expected width for fsrcnn but got width and depth"),
        (BranchSpec("bicubic", 8, 4), "Expected no sizes for bicubic but got width"),
        (BranchSpec("compact", 8, 4), "Expected width and depth for compact but got width"),
        (BranchSpec("compact-rep", None, 4, 2), "Expected width and depth .* but got depth"),
        (BranchSpec("carn", 10, 4), "Expected a width for carn that 4 divides but got 10"),
        (BranchSpec("srresnet", 8, 5), "Expected a scale among 2, 3, 4 but got 5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(spec: BranchSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_branch(spec)


# --- Folding, reach and precision ---


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_folded_branch_equals_the_branch(network: str, scale: int) -> None:
    branch = small_branch(network, scale).eval()
    randomise(branch)
    x = torch.rand(2, 3, 9, 11)

    folded = as_branch(branch).fold()

    expected = branch(x)
    assert expected.std() > 0.1  # not lost in the tolerance
    torch.testing.assert_close(folded(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_folding_leaves_only_layers_that_a_graph_has(network: str) -> None:
    folded = as_branch(small_branch(network, 4)).fold()

    convolutions = [layer for layer in folded.modules() if isinstance(layer, nn.Conv2d)]
    assert {type_before_parametrizations(layer) for layer in convolutions} == {nn.Conv2d}
    assert not any(isinstance(layer, TRAINING_ONLY) for layer in folded.modules())


@pytest.mark.parametrize("network", NETWORKS)
def test_folding_leaves_the_branch_alone(network: str) -> None:
    branch = small_branch(network, 2)
    before = {name: value.clone() for name, value in branch.state_dict().items()}

    as_branch(branch).fold()

    after = branch.state_dict()
    assert branch.training
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", sorted(set(BRANCHES) - {"rcan"}))
def test_the_receptive_radius_is_exact(network: str, scale: int) -> None:
    branch = small_branch(network, scale).double().eval()
    make_positive(branch)
    radius = as_branch(branch).receptive_radius
    assert radius is not None
    size, middle = 2 * radius + 5, radius + 2
    x = (1 + torch.rand(1, 3, size, size, dtype=torch.float64)).requires_grad_()

    pixel = slice(scale * middle, scale * (middle + 1))  # what one LR pixel becomes
    (gradient,) = torch.autograd.grad(branch(x)[:, :, pixel, pixel].sum(), x)

    y, x_ = ((place - middle) for place in gradient.any(dim=1)[0].nonzero(as_tuple=True))
    assert [y.min(), y.max(), x_.min(), x_.max()] == [-radius, radius, -radius, radius]


@pytest.mark.parametrize("network", sorted(set(BRANCHES) - {"fsrcnn"}))
def test_the_last_addition_stays_in_float32_under_autocast(network: str) -> None:
    branch = small_branch(network, 4).eval()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = branch(torch.rand(1, 3, 8, 8))

    assert out.dtype == torch.float32


@pytest.mark.parametrize("network", sorted(set(BRANCHES) - {"bicubic"}))
def test_everything_learns_but_what_is_fixed(network: str) -> None:
    branch = small_branch(network, 2)
    randomise(branch)
    fixed = {
        f"{place}.{name}"
        for place, layer in branch.named_modules()
        if isinstance(layer, MeanShift) or place == "enlarge"
        for name, _ in layer.named_parameters()
    }

    torch.autograd.backward(branch(torch.rand(2, 3, 9, 9)).square().mean())

    learning = {
        name for name, p in branch.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert learning == {name for name, _ in branch.named_parameters()} - fixed
