"""Every tile goes to its likeliest level, unless one level is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classsr.errors import UsageError
from classsr.routing import AUTO, forced_level, likeliest


@given(
    shape=st.tuples(st.integers(0, 20), st.integers(1, 5)),
    data=st.data(),
)
def test_no_level_is_likelier_than_the_one_chosen(
    shape: tuple[int, int], data: st.DataObject
) -> None:
    chances = st.floats(0, 1, width=32)
    probabilities = data.draw(arrays(np.float32, shape, elements=chances))

    levels = likeliest(probabilities)

    assert levels.shape == shape[:1]
    for row, level in zip(probabilities.tolist(), levels.tolist(), strict=True):
        assert row[level] == max(row)


def test_a_tie_goes_to_the_easier_level() -> None:
    probabilities = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1 / 3, 1 / 3, 1 / 3]], np.float32)

    assert likeliest(probabilities).tolist() == [0, 1, 0]


def test_auto_forces_nothing() -> None:
    assert forced_level(AUTO, 3) is None


def test_one_level_needs_no_judgement() -> None:
    assert forced_level(AUTO, 1) == 0


@given(levels=st.integers(1, 10))
def test_easiest_and_hardest_are_the_first_and_the_last_level(levels: int) -> None:
    assert forced_level("easiest", levels) == 0
    assert forced_level("hardest", levels) == levels - 1


@given(levels=st.integers(1, 10), data=st.data())
def test_a_number_is_that_level(levels: int, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, levels - 1))

    assert forced_level(str(level), levels) == level


@pytest.mark.parametrize("route", ["3", "-1", "1.0", "", "Hardest", "hard", " 1", "²", "one"])
def test_any_other_route_is_refused_with_the_list_of_valid_ones(route: str) -> None:
    with pytest.raises(UsageError) as caught:
        forced_level(route, 3)

    assert repr(route) in str(caught.value)
    for valid in ("auto", "easiest", "hardest", "0 to 2"):
        assert valid in str(caught.value)
