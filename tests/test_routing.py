"""A goal is what was asked for and nothing else; probabilities and logarithms become levels and errors."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classsr.errors import UsageError
from classsr.model import ClassifierInfo, ModelConfig, find_model
from classsr.prices import LOSS
from classsr.routing import Goal, find_goal, likeliest, predicted_errors

BASE = find_model("fsrcnn-x4").config
TABLE = ((1.0, 0.9, 0.8), (3.0, 2.0, 1.0), (9.0, 6.0, 4.0))


def model(**changes: Any) -> ModelConfig:  # noqa: ANN401 - passed on
    """A model of three levels with a Class-Module that is changed so."""
    assert BASE.classifier is not None
    info = replace(BASE.classifier, predicts="probabilities", errors=None)
    return replace(BASE, classifier=replace(info, **changes))


JUDGES = model()
CALIBRATED = model(errors=TABLE)
PREDICTS = model(predicts="log-errors")
ALONE = replace(BASE, levels=BASE.levels[:1], classifier=None)


@pytest.mark.parametrize(
    ("route", "level"), [("easiest", 0), ("hardest", 2), ("0", 0), ("1", 1), ("2", 2)]
)
@pytest.mark.parametrize("config", [JUDGES, CALIBRATED, PREDICTS])
def test_a_level_can_be_forced(config: ModelConfig, route: str, level: int) -> None:
    assert find_goal(config, route=route) == Goal(level=level)


@pytest.mark.parametrize("route", ["auto", "argmax", "easiest", "hardest", "0"])
def test_there_is_nothing_to_decide_with_one_level(route: str) -> None:
    assert find_goal(ALONE, route=route) == Goal(level=0)
    assert find_goal(ALONE, budget=0.5) == find_goal(ALONE, max_loss=0.1) == Goal(level=0)


def test_auto_goes_by_predicted_errors_where_there_are_any() -> None:
    assert find_goal(JUDGES) == Goal(likeliest=True, share=1.0)
    assert find_goal(CALIBRATED) == find_goal(PREDICTS) == Goal(loss=LOSS)


def test_the_paper_s_way_needs_probabilities() -> None:
    for config in (JUDGES, CALIBRATED):
        assert find_goal(config, route="argmax") == Goal(likeliest=True)
    with pytest.raises(UsageError, match="auto"):
        find_goal(PREDICTS, route="argmax")


@pytest.mark.parametrize(
    ("budget", "goal"),
    [
        (0.5, Goal(share=0.5)),
        ("0.5", Goal(share=0.5)),
        ("2s", Goal(seconds=2.0)),
        (" 1.5s", Goal(seconds=1.5)),
        (2, Goal(share=2.0)),
    ],
)
def test_a_budget_is_a_share_or_seconds(budget: str | float, goal: Goal) -> None:
    assert find_goal(PREDICTS, budget=budget) == goal


def test_a_loss_is_in_decibels() -> None:
    assert find_goal(CALIBRATED, max_loss=0.05) == Goal(loss=0.05)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"route": "3"}, "levels 0 to 2"),
        ({"route": "-1"}, "levels 0 to 2"),
        ({"route": ""}, "levels 0 to 2"),
        ({"budget": "fast"}, "'fast'"),
        ({"budget": 0}, "got 0"),
        ({"budget": -1.0}, "got -1"),
        ({"budget": "nan"}, "'nan'"),
        ({"budget": "infs"}, "'infs'"),
        ({"max_loss": -0.1}, "got -0.1"),
        ({"max_loss": float("nan")}, "got nan"),
        ({"budget": 0.5, "max_loss": 0.1}, "two of them"),
        ({"route": "hardest", "budget": 0.5}, "two of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_goal(PREDICTS, **asked)


@pytest.mark.parametrize("asked", [{"budget": 0.5}, {"max_loss": 0.1}])
def test_a_model_without_errors_knows_no_budget(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not predict errors"):
        find_goal(JUDGES, **asked)


def test_the_likeliest_level_wins() -> None:
    judged = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]], np.float32)

    assert likeliest(judged).tolist() == [0, 2, 1]


def test_logarithms_become_errors() -> None:
    judged = np.log(np.array([[1e-3, 2e-4, 1e-4]], np.float32))

    np.testing.assert_allclose(predicted_errors(judged, PREDICTS), [[1e-3, 2e-4, 1e-4]], rtol=1e-5)


@given(
    logits=arrays(np.float64, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-30, 30))
)
def test_probabilities_mix_the_calibration(logits: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    judged = np.exp(logits - logits.max(axis=1, keepdims=True))
    judged = (judged / judged.sum(axis=1, keepdims=True)).astype(np.float32)

    errors = predicted_errors(judged, CALIBRATED)

    slow = [
        [sum(p * row[k] for p, row in zip(each, TABLE, strict=True)) for k in range(3)]
        for each in judged
    ]
    np.testing.assert_allclose(errors, slow, rtol=1e-5)


def test_certainty_gives_a_row_of_the_calibration() -> None:
    assert predicted_errors(np.eye(3, dtype=np.float32), CALIBRATED).tolist() == [
        list(row) for row in TABLE
    ]


def test_a_class_module_says_what_it_predicts() -> None:
    assert ClassifierInfo("a.onnx", 1, 1).predicts == "probabilities"
