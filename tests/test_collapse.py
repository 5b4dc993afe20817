"""A Class-Module that tells no patches apart is noticed in both of its forms, and its fresh start tells them apart."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from classsr.networks import Classifier
from classsr.training.collapse import PATIENCE, collapse, health, start_afresh

levels_range = st.integers(2, 8)


def patches(count: int = 40) -> Tensor:
    """Patches from flat to noisy: (N, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    strength = torch.linspace(0, 0.4, count)[:, None, None, None]
    return 0.5 + strength * (torch.rand(count, 3, 32, 32, generator=generator) - 0.5)


def judge(classifier: Classifier) -> dict[str, float]:
    with torch.no_grad():
        return health(classifier(patches()).softmax(dim=1))


def test_health_worked_out_by_hand() -> None:
    rows = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])

    scores = health(rows)

    entropies = [math.log(2), -0.2 * math.log(0.1) - 0.8 * math.log(0.8), 0.0, 1.029653]
    assert [scores[f"share_{k}"] for k in range(3)] == [0.5, 0.25, 0.25]
    assert scores["entropy"] == pytest.approx(sum(entropies) / 4 / math.log(3), abs=1e-5)
    assert scores["confidence"] == pytest.approx((0.5 + 0.8 + 1.0 + 0.5) / 4)


@given(levels=levels_range)
def test_equal_probabilities_are_the_saddle_once_patience_is_over(levels: int) -> None:
    scores = health(torch.full((50, levels), 1 / levels))

    assert scores["entropy"] == pytest.approx(1)
    assert collapse(scores, levels, PATIENCE - 1) is None
    assert "saddle" in str(collapse(scores, levels, PATIENCE))


@given(levels=levels_range, data=st.data())
def test_one_certain_level_is_saturation_at_once(levels: int, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, levels - 1))

    why = collapse(health(torch.eye(levels)[[level] * 50]), levels, 1)

    assert f"level {level} is certain" in str(why)


@pytest.mark.parametrize(
    "rows",
    [
        torch.eye(3)[[0, 1, 2] * 10],  # certain, but of different levels
        torch.tensor([[0.6, 0.2, 0.2]] * 30),  # one level everywhere, but not certain
        torch.eye(3)[[0] * 29 + [1]],  # almost one level
    ],
)
def test_what_can_still_learn_has_not_collapsed(rows: Tensor) -> None:
    assert collapse(health(rows), 3, PATIENCE) is None


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_a_fresh_start_tells_patches_apart(levels: int) -> None:
    classifier = Classifier(levels)
    classifier.head.bias.data[0] = 100.0
    assert collapse(judge(classifier), levels, PATIENCE)

    start_afresh(classifier, patches(), seed=1)

    with torch.no_grad():
        logits = classifier(patches())
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(levels), rtol=0, atol=1e-3)
    torch.testing.assert_close(logits.std(dim=0), torch.ones(levels), rtol=0, atol=1e-3)
    assert collapse(judge(classifier), levels, PATIENCE) is None


def test_a_fresh_start_depends_on_its_seed_alone() -> None:
    first, second, third = Classifier(3), Classifier(3), Classifier(3)
    before = torch.random.get_rng_state()

    for classifier, seed in ((first, 1), (second, 1), (third, 2)):
        start_afresh(classifier, patches(), seed=seed)

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, third.head.weight)
