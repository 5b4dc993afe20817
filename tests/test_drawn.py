"""Drawn pictures: the same for a number, different for another, and of what photographs lack: flat, with thin ink."""

import numpy as np
import pytest
from numpy.typing import NDArray

from classsr.data.drawn import HEIGHT, KINDS, WIDTH, drawn


def flat_share(picture: NDArray[np.uint8]) -> float:
    """Return the share of pixels that equal their right and lower neighbours."""
    across = (picture[:-1, 1:] == picture[:-1, :-1]).all(axis=2)
    down = (picture[1:, :-1] == picture[:-1, :-1]).all(axis=2)
    return float((across & down).mean())


@pytest.mark.parametrize("number", range(2 * len(KINDS)))
def test_most_is_flat_and_some_is_ink(number: int) -> None:
    picture = drawn(number)

    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.dtype == np.uint8
    assert 0.3 < flat_share(picture) < 0.99
    assert np.ptp(picture) > 60


def test_a_number_always_gives_the_same_picture() -> None:
    np.testing.assert_array_equal(drawn(5), drawn(5))
    assert (drawn(5) != drawn(5 + len(KINDS))).any()
