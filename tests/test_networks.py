"""The networks have the paper's sizes, and every fast form equals the plain one.

Parameter counts are those of the ClassSR paper (table 2); the subpixel form of the transposed convolution is compared
with torch.nn.functional.conv_transpose2d.
"""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from classsr.errors import UsageError
from classsr.networks import (
    BRANCHES,
    FSRCNN,
    BranchSpec,
    Classifier,
    ClassSR,
    as_branch,
    build_branch,
)
from classsr.networks.fsrcnn import KERNEL, SubpixelDeconvolution

PLAIN = {nn.Sequential, nn.Conv2d, nn.PReLU, nn.PixelShuffle}
SPECS = [BranchSpec("fsrcnn", width, 2) for width in (3, 4, 5)]


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def randomise(module: nn.Module) -> None:
    """Fill every parameter so that outputs are of order 1 and no zero hides a term."""
    for parameter in module.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 16
        nn.init.normal_(parameter, std=inputs**-0.5)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class WithStatistics(nn.Module):
    """A branch whose BatchNorm keeps running statistics, as CARN's does."""

    receptive_radius = 0

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.BatchNorm2d(3)
        self.enlarge = nn.Upsample(scale_factor=scale)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.enlarge(self.norm(x))
        return out

    def fold(self) -> nn.Module:
        return self


# --- Sizes ---


@pytest.mark.parametrize(("width", "expected"), [(16, 10_755), (36, 17_635), (56, 24_515)])
def test_fsrcnn_has_the_papers_parameters(width: int, expected: int) -> None:
    assert parameters(build_branch(BranchSpec("fsrcnn", width, 4))) == expected


def test_the_classifier_has_the_papers_parameters() -> None:
    assert parameters(Classifier(3)) == 60_035


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_branch_enlarges_by_its_scale(scale: int) -> None:
    branch = build_branch(BranchSpec("fsrcnn", 4, scale))

    assert branch(torch.rand(2, 3, 5, 7)).shape == (2, 3, 5 * scale, 7 * scale)


def test_an_unknown_branch_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="'fsrnn'") as caught:
        build_branch(BranchSpec("fsrnn", 16, 4))

    assert all(name in str(caught.value) for name in BRANCHES)


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


# --- Folding and reach ---


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("network", sorted(BRANCHES))
def test_the_folded_branch_equals_the_branch(network: str, scale: int) -> None:
    branch = build_branch(BranchSpec(network, 5, scale)).eval()
    randomise(branch)
    x = torch.rand(2, 3, 9, 11)

    folded = as_branch(branch).fold()

    expected = branch(x)
    assert expected.std() > 0.1  # not lost in the tolerance
    torch.testing.assert_close(folded(x), expected, rtol=0, atol=1e-5)
    assert {type(layer) for layer in folded.modules()} <= PLAIN


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("network", sorted(BRANCHES))
def test_the_receptive_radius_is_exact(network: str, scale: int) -> None:
    branch = build_branch(BranchSpec(network, 4, scale)).double().eval()
    randomise(branch)
    radius = as_branch(branch).receptive_radius
    size, middle = 2 * radius + 5, radius + 2
    x = torch.rand(1, 3, size, size, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, middle, middle] += 1

    touched = (branch(x) != branch(changed)).any(dim=1)[0]  # (scale * size, scale * size)

    y, x_ = (coordinate // scale - middle for coordinate in touched.nonzero(as_tuple=True))
    assert [y.min(), y.max(), x_.min(), x_.max()] == [-radius, radius, -radius, radius]


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


# --- The Class-Module ---


def test_the_classifier_judges_each_sub_image_by_itself() -> None:
    classifier = Classifier(3)
    x = torch.rand(4, 3, 32, 32)

    together = classifier(x)

    apart = torch.cat([classifier(x[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)
    assert len({tuple(row) for row in together.tolist()}) == 4  # and they are not judged alike


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 31), (32, 32), (48, 64)])
def test_the_classifier_takes_any_size_from_4(height: int, width: int) -> None:
    assert Classifier(5)(torch.rand(2, 3, height, width)).shape == (2, 5)


def test_probabilities_stay_in_float32_under_autocast() -> None:
    model = ClassSR(SPECS)
    x = torch.rand(6, 3, 32, 32)
    expected = model.classifier(x).softmax(dim=1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.probabilities(x)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6))


# --- ClassSR ---


def decided(model: ClassSR) -> Tensor:
    """Sub-images of which every level gets some, whatever the weights."""
    x = torch.rand(24, 3, 12, 12) * torch.linspace(0, 1, 24)[:, None, None, None]
    with torch.no_grad():
        nn.init.normal_(model.classifier.head.weight)
        nn.init.zeros_(model.classifier.head.bias)
        logits = model.classifier(x)
        model.classifier.head.bias.sub_(logits.median(dim=0).values)
    levels = model.probabilities(x).argmax(dim=1).tolist()
    assert set(levels) == set(range(len(model.branches)))
    return x


def test_the_mixture_is_the_sum_weighted_by_probability() -> None:
    model = ClassSR(SPECS)
    randomise(model.branches)
    x = decided(model)[::6]

    sr, probabilities = model.mixture(x)

    by_hand = torch.zeros(4, 3, 24, 24)
    for n in range(4):
        for level, branch in enumerate(model.branches):
            by_hand[n] += probabilities[n, level] * branch(x[n : n + 1])[0]
    torch.testing.assert_close(sr, by_hand, rtol=0, atol=1e-5)
    torch.testing.assert_close(probabilities, model.probabilities(x))


def test_routed_gives_each_sub_image_to_its_likeliest_branch() -> None:
    model = ClassSR(SPECS).eval()
    randomise(model.branches)
    x = decided(model)

    sr, probabilities = model.routed(x)

    for n, level in enumerate(probabilities.argmax(dim=1).tolist()):
        alone = model.branches[level](x[n : n + 1])[0]
        torch.testing.assert_close(sr[n], alone, rtol=0, atol=1e-5)


def test_the_classifier_learns_from_the_mixture_alone() -> None:
    model = ClassSR(SPECS)
    randomise(model.branches)
    x = decided(model)

    torch.autograd.backward(model.mixture(x)[0].square().mean())

    weight = model.classifier.head.weight
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_forward_mixes_in_training_and_routes_otherwise() -> None:
    model = ClassSR(SPECS)
    randomise(model.branches)
    x = decided(model)

    torch.testing.assert_close(model.train()(x)[0], model.mixture(x)[0])
    torch.testing.assert_close(model.eval()(x)[0], model.routed(x)[0])
    assert not torch.allclose(model.mixture(x)[0], model.routed(x)[0])


def test_the_scale_is_that_of_the_branches() -> None:
    assert ClassSR(SPECS).scale == 2


def test_frozen_branches_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BRANCHES, "with-statistics", WithStatistics)
    model = ClassSR([BranchSpec("with-statistics", 1, 2), *SPECS[:1]])
    model.freeze_branches()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=0.1)

    torch.autograd.backward(model.mixture(torch.rand(4, 3, 8, 8))[0].mean())
    optimizer.step()

    after = model.state_dict()
    moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"classifier"}


def test_branches_that_are_not_frozen_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BRANCHES, "with-statistics", WithStatistics)
    model = ClassSR([BranchSpec("with-statistics", 1, 2), *SPECS[:1]]).train()
    randomise(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    torch.autograd.backward(model.mixture(torch.rand(4, 3, 8, 8))[0].mean())
    torch.optim.Adam(model.parameters(), lr=0.1).step()

    after = model.state_dict()
    still = {name for name in after if torch.equal(after[name], before[name])}
    assert still == set()


@pytest.mark.parametrize("mode", [True, False])
def test_train_keeps_frozen_branches_in_eval_mode(mode: bool) -> None:
    model = ClassSR(SPECS)
    model.freeze_branches()

    model.train(mode)

    assert (model.training, model.classifier.training) == (mode, mode)
    assert not any(layer.training for branch in model.branches for layer in branch.modules())


def test_an_fsrcnn_of_other_depth_is_built() -> None:
    shallow, deep = (FSRCNN(8, 4, shrunk=6, mappings=m) for m in (1, 5))

    assert deep.receptive_radius - shallow.receptive_radius == 4
    assert parameters(deep) - parameters(shallow) == 4 * (6 * 6 * 9 + 6)
