"""The losses of the paper hold their promised values for every number of levels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from classsr.training.losses import LEAST_SQUARE, average_loss, class_loss, rmse_loss

TOLERANCE = 1e-9

counts = st.integers(1, 12)
levels_range = st.integers(2, 8)


@st.composite
def rows_of_probabilities(draw: st.DrawFn, rows: int | None = None) -> Tensor:
    """(B, M) with rows that sum to 1."""
    shape = (rows or draw(counts), draw(levels_range))
    weights: npt.NDArray[Any] = draw(
        hnp.arrays(np.float64, shape, elements=st.floats(0, 1, allow_subnormal=False))
    )
    weights = weights + 1e-3  # no row of zeros
    return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True))


def one_hot(levels: list[int], count: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(levels), count).double()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0.5, 0.5]], 1.0),
        ([[0.7, 0.2, 0.1]], 2 - (0.5 + 0.6 + 0.1)),
        ([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], (0.8 + 0.0) / 2),
        ([[0.4, 0.3, 0.2, 0.1]], 3 - (0.1 + 0.2 + 0.3 + 0.1 + 0.2 + 0.1)),
    ],
)
def test_class_loss_is_worked_by_hand(rows: list[list[float]], expected: float) -> None:
    loss = class_loss(torch.tensor(rows, dtype=torch.float64))

    assert float(loss) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 0.0]], 1.0),  # (|1 - 1/2| + |0 - 1/2|) / 1
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),
        ([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], (0.7 - 2 / 3 + 1.2 - 2 / 3 + 2 / 3 - 0.1) / (8 / 3)),
    ],
)
def test_average_loss_is_worked_by_hand(rows: list[list[float]], expected: float) -> None:
    loss = average_loss(torch.tensor(rows, dtype=torch.float64))

    assert float(loss) == pytest.approx(expected, abs=TOLERANCE)


@given(levels=levels_range, rows=counts)
def test_uniform_rows_are_undecided_and_equal(levels: int, rows: int) -> None:
    uniform = torch.full((rows, levels), 1 / levels, dtype=torch.float64)

    assert float(class_loss(uniform)) == pytest.approx(levels - 1, abs=TOLERANCE)
    assert float(average_loss(uniform)) == pytest.approx(0, abs=TOLERANCE)


@given(levels=levels_range, data=st.data())
def test_one_hot_rows_are_decided(levels: int, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, levels - 1), min_size=1, max_size=12))

    assert float(class_loss(one_hot(chosen, levels))) == pytest.approx(0, abs=TOLERANCE)


@given(levels=levels_range, rows=counts, level=st.integers(0, 7))
def test_one_level_for_all_is_the_worst_average(levels: int, rows: int, level: int) -> None:
    collapsed = one_hot([level % levels] * rows, levels)

    assert float(average_loss(collapsed)) == pytest.approx(1, abs=TOLERANCE)


@given(levels=levels_range, each=st.integers(1, 4))
def test_equal_use_of_decided_levels_is_the_best_of_both(levels: int, each: int) -> None:
    shared = one_hot(list(range(levels)) * each, levels)

    assert float(class_loss(shared)) == pytest.approx(0, abs=TOLERANCE)
    assert float(average_loss(shared)) == pytest.approx(0, abs=TOLERANCE)


@given(rows_of_probabilities())
def test_both_losses_keep_their_bounds(probabilities: Tensor) -> None:
    levels = probabilities.shape[1]

    assert -TOLERANCE <= float(class_loss(probabilities)) <= levels - 1 + TOLERANCE
    assert -TOLERANCE <= float(average_loss(probabilities)) <= 1 + TOLERANCE


@given(rows_of_probabilities(), st.randoms(use_true_random=False))
def test_neither_loss_knows_the_order_of_rows_or_levels(probabilities: Tensor, random: Any) -> None:  # noqa: ANN401
    rows, levels = (list(range(size)) for size in probabilities.shape)
    random.shuffle(rows)
    random.shuffle(levels)
    shuffled = probabilities[rows][:, levels]

    for loss in (class_loss, average_loss):
        assert float(loss(shuffled)) == pytest.approx(float(loss(probabilities)), abs=TOLERANCE)


@given(rows_of_probabilities())
def test_the_average_loss_is_the_research_codes_for_three_levels(probabilities: Tensor) -> None:
    three = probabilities[:, :2] / 2  # any two columns and what is left to 1
    three = torch.cat([three, 1 - three.sum(dim=1, keepdim=True)], dim=1)
    batch = len(three)

    theirs = sum(abs(float(three[:, i].sum()) - batch / 3) for i in range(3)) / (4 * batch / 3)

    assert float(average_loss(three)) == pytest.approx(theirs, abs=TOLERANCE)


@given(rows_of_probabilities(rows=1))
def test_the_class_loss_is_a_mean_over_the_batch(row: Tensor) -> None:
    assert float(class_loss(row.repeat(5, 1))) == pytest.approx(float(class_loss(row)))


def test_an_undecided_row_is_driven_apart() -> None:
    logits = torch.tensor([[0.1, 0.0, -0.1]], dtype=torch.float64, requires_grad=True)

    (gradient,) = torch.autograd.grad(class_loss(logits.softmax(dim=1)), logits)

    assert gradient[0, 0] < 0 < gradient[0, 2]


@given(hnp.arrays(np.float64, (3, 3, 4, 5), elements=st.floats(-1, 1)))
def test_rmse_is_the_mean_of_every_patchs_own(difference: npt.NDArray[Any]) -> None:
    sr = torch.from_numpy(difference)

    loss = rmse_loss(sr, torch.zeros_like(sr))

    norms = np.linalg.norm(difference.reshape(3, -1), axis=1) / np.sqrt(3 * 4 * 5)
    assert norms.mean() <= float(loss) + TOLERANCE
    assert float(loss) <= norms.mean() + np.sqrt(LEAST_SQUARE)
    assert float(rmse_loss(sr[:1], sr[:1])) == pytest.approx(np.sqrt(LEAST_SQUARE))


def test_patches_pull_equally_hard_by_rmse_whatever_their_error() -> None:
    small = torch.full((1, 3, 4, 4), 0.02, dtype=torch.float64)
    sr = torch.cat([small, 20 * small]).requires_grad_()

    torch.autograd.backward(rmse_loss(sr, torch.zeros_like(sr)))

    assert sr.grad is not None
    pulls = sr.grad.flatten(1).norm(dim=1)
    assert float(pulls[0] / pulls[1]) == pytest.approx(1, rel=0.01)


def test_a_patch_without_an_error_has_a_gradient_that_is_a_number() -> None:
    sr = torch.zeros(1, 3, 4, 4, requires_grad=True)

    torch.autograd.backward(rmse_loss(sr, torch.zeros_like(sr)))

    assert sr.grad is not None
    assert sr.grad.abs().max() == 0
