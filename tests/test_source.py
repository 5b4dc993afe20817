"""Any rows of a picture can be had, with their neighbours; of a large one only what is needed is held."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classsr import Picture
from classsr.source import HELD_PIXELS, SLACK, InMemory, Source

Array = npt.NDArray[Any]


def picture(height: int, width: int, *, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    rgba = rng.integers(0, 256, (height, width, 4), np.uint8)
    return Picture(rgba[:, :, :3], alpha=rgba[:, :, 3])


def look_up(values: Array, top: int, bottom: int, margin: int) -> Array:
    """Rows and a margin; beyond the border, the nearest pixel inside."""
    rows = np.arange(top - margin, bottom + margin).clip(0, len(values) - 1)
    columns = np.arange(-margin, values.shape[1] + margin).clip(0, values.shape[1] - 1)
    found: Array = values[np.ix_(rows, columns)]
    return found


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 9),
    held=st.sampled_from([0, HELD_PIXELS]),
    data=st.data(),
)
def test_any_rows_can_be_had_in_any_order(
    height: int, width: int, held: int, data: st.DataObject
) -> None:
    whole = picture(height, width)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classsr.source.HELD_PIXELS", held)
        with Source(lambda: nullcontext(InMemory(whole))) as source:
            for _ in range(4):
                top = data.draw(st.integers(0, height - 1))
                bottom = data.draw(st.integers(top + 1, height))
                margin = data.draw(st.integers(0, 5))
                rgb = source.rgb(top, bottom, margin=margin)
                np.testing.assert_array_equal(rgb, look_up(whole.rgb, top, bottom, margin))
                alpha = source.alpha(top, bottom, margin=margin)
                assert alpha is not None
                assert whole.alpha is not None
                np.testing.assert_array_equal(alpha, look_up(whole.alpha, top, bottom, margin))


@pytest.mark.parametrize(("held", "passes"), [(0, 2), (HELD_PIXELS, 1)])
def test_a_small_picture_is_read_once_and_a_large_one_for_every_pass(
    held: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)
    opened: list[InMemory] = []

    def opening() -> nullcontext[InMemory]:
        opened.append(InMemory(picture(100, 5)))
        return nullcontext(opened[-1])

    with Source(opening) as source:
        for _ in range(2):
            for top in range(0, 100, 10):
                source.rgb(top, top + 10, margin=2)

    assert len(opened) == passes


def test_what_is_passed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", 0)

    with Source(lambda: nullcontext(InMemory(picture(1000, 5)))) as source:
        for top in range(0, 1000, 10):
            source.rgb(top, top + 10, margin=2)
            assert source._held is not None
            assert source._held.height <= 10 + 4 + SLACK + 10


def test_without_alpha_there_is_none() -> None:
    flat = Picture(np.zeros((4, 5, 3), np.uint8))

    with Source(lambda: nullcontext(InMemory(flat))) as source:
        assert source.alpha(0, 4, margin=2) is None
