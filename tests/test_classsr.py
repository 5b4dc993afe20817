"""ClassSR mixes its branches in training, routes otherwise, and lets frozen branches be, whatever they are."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from branches import SHALLOW, head_of, randomise, small_spec
from classsr.networks import BRANCHES, BranchSpec, Classifier, ClassSR

pytestmark = pytest.mark.usefixtures("same_weights")

SPECS = [BranchSpec("fsrcnn", width, 2) for width in (3, 4, 5)]
MIXED = [small_spec(network, 2) for network in ("bicubic", "compact", "carn")]
ALL = ["bicubic", "fsrcnn", "compact", "compact-rep", "carn", "srresnet", "rcan", "fsrcnn"]


class ByBrightness(nn.Module):
    """Calls a sub-image the harder the brighter it is."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        centres = (torch.arange(self.levels) + 0.5) / self.levels
        return -(x.mean(dim=(1, 2, 3))[:, None] - centres).abs()


def test_probabilities_stay_in_float32_under_autocast() -> None:
    model = ClassSR(SPECS)
    x = torch.rand(6, 3, 32, 32)
    expected = model.classifier(x).softmax(dim=1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.probabilities(x)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6))


def decided(model: ClassSR) -> Tensor:
    """Sub-images of which every level gets some, whatever the weights."""
    x = torch.rand(24, 3, 12, 12) * torch.linspace(0, 1, 24)[:, None, None, None]
    with torch.no_grad():
        nn.init.normal_(head_of(model).weight)
        nn.init.zeros_(head_of(model).bias)
        logits = model.classifier(x)
        head_of(model).bias.sub_(logits.median(dim=0).values)
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

    weight = head_of(model).weight
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_the_error_of_the_mixture_is_the_mixture_of_the_errors() -> None:
    model = ClassSR(SPECS)
    model.freeze_branches()
    randomise(model.branches)
    x = decided(model)
    hr = torch.rand(len(x), 3, 24, 24)
    errors = torch.stack([branch(x) - hr for branch in model.branches], dim=1)

    expected = model.mixture(x)
    found = model(x, errors)

    torch.testing.assert_close(found[0], expected[0] - hr, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1])
    weight = head_of(model).weight
    gradients = [
        torch.autograd.grad(e.abs().mean(), weight)[0] for e in (found[0], expected[0] - hr)
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_the_error_of_the_mixture_stays_in_float32_under_autocast() -> None:
    model = ClassSR(SPECS)
    x, errors = torch.rand(4, 3, 12, 12), torch.rand(4, 3, 3, 5, 5)
    expected = model.mixed_error(x, errors)[0]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.mixed_error(x, errors)[0]

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_forward_mixes_in_training_and_routes_otherwise() -> None:
    model = ClassSR(SPECS)
    randomise(model.branches)
    x = decided(model)

    torch.testing.assert_close(model.train()(x)[0], model.mixture(x)[0])
    torch.testing.assert_close(model.eval()(x)[0], model.routed(x)[0])
    assert not torch.allclose(model.mixture(x)[0], model.routed(x)[0])


def test_the_scale_is_that_of_the_branches() -> None:
    assert ClassSR(SPECS).scale == 2


def test_frozen_branches_stay_as_they_are() -> None:
    model = ClassSR(MIXED)
    model.freeze_branches()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=0.1)

    torch.autograd.backward(model.mixture(torch.rand(4, 3, 8, 8))[0].mean())
    optimizer.step()

    after = model.state_dict()
    moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"classifier"}
    assert any("running_mean" in name for name in after)  # which would move by itself


def test_branches_that_are_not_frozen_move() -> None:
    model = ClassSR(MIXED).train()
    randomise(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    torch.autograd.backward(model.mixture(torch.rand(4, 3, 8, 8))[0].square().mean())
    torch.optim.Adam(model.parameters(), lr=0.1).step()

    after = model.state_dict()
    still = {name for name in after if torch.equal(after[name], before[name])}
    fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still == fixed


@pytest.mark.parametrize("mode", [True, False])
def test_train_keeps_frozen_branches_in_eval_mode(mode: bool) -> None:
    model = ClassSR(SPECS)
    model.freeze_branches()

    model.train(mode)

    assert (model.training, model.classifier.training) == (mode, mode)
    assert not any(layer.training for branch in model.branches for layer in branch.modules())


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_any_branches_are_routed_together_as_each_sub_image_alone(
    levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kind in SHALLOW.items():
        monkeypatch.setitem(BRANCHES, name, kind)
    model = ClassSR([small_spec(network, 2) for network in ALL[:levels]]).eval()
    randomise(model.branches)
    model.classifier = cast("Classifier", ByBrightness(levels))
    flat = torch.linspace(0.01, 0.99, 2 * levels)[torch.randperm(2 * levels)]
    x = flat[:, None, None, None] + 0.01 * torch.rand(2 * levels, 3, 9, 7)

    together, probabilities = model(x)

    assert probabilities.argmax(dim=1).bincount().tolist() == [2] * levels
    alone = torch.cat([model(sub_image[None])[0] for sub_image in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_any_branches_are_mixed_by_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in SHALLOW.items():
        monkeypatch.setitem(BRANCHES, name, kind)
    model = ClassSR([small_spec(network, 2) for network in ALL]).eval()
    randomise(model.branches)
    x = torch.rand(2, 3, 9, 7)

    mixed, probabilities = model.mixture(x)

    assert probabilities.shape == (2, 8)
    outputs = [branch(x) for branch in model.branches]
    by_hand = sum(probabilities[:, k, None, None, None] * out for k, out in enumerate(outputs))
    torch.testing.assert_close(mixed, by_hand, rtol=0, atol=1e-5)
