"""Any rows of a picture can be had, with their neighbours; of a large one only what is needed is held."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classsr import Picture
from classsr.alpha import fill
from classsr.source import HELD_PIXELS, SLACK, STRIP_ROWS, Filled, InMemory, Source

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
    assert whole.alpha is not None
    filled = fill(whole.rgb, whole.alpha)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classsr.source.HELD_PIXELS", held)
        with Source(lambda: nullcontext(InMemory(whole))) as source:
            for _ in range(4):
                top = data.draw(st.integers(0, height - 1))
                bottom = data.draw(st.integers(top + 1, height))
                margin = data.draw(st.integers(0, 5))
                rgb = source.rgb(top, bottom, margin=margin)
                np.testing.assert_array_equal(rgb, look_up(filled, top, bottom, margin))
                alpha = source.alpha(top, bottom, margin=margin)
                assert alpha is not None
                np.testing.assert_array_equal(alpha, look_up(whole.alpha, top, bottom, margin))


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize(("held", "passes"), [(0, 2), (HELD_PIXELS, 1)])
def test_a_small_picture_is_read_once_and_a_large_one_for_every_pass_and_for_alpha(
    held: int, passes: int, has_alpha: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)
    opened: list[InMemory] = []
    whole = picture(100, 5)

    def opening() -> nullcontext[InMemory]:
        opened.append(InMemory(whole if has_alpha else Picture(whole.rgb)))
        return nullcontext(opened[-1])

    with Source(opening) as source:
        for _ in range(2):
            for top in range(0, 100, 10):
                source.rgb(top, top + 10, margin=2)

    assert len(opened) == passes + (has_alpha and held == 0)


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


# --- Transparency ---


def islands(height: int, width: int, *, seed: int = 0) -> Picture:
    """Noise, of which some hundred rows at a time are transparent but for a pixel here and there."""
    rng = np.random.default_rng(seed)
    alpha = rng.integers(1, 256, (height, width), np.uint8)
    seen = np.where(np.arange(height)[:, None] % 300 < 200, 0.002, 0.9)
    alpha[rng.random((height, width)) >= seen] = 0
    return Picture(rng.integers(0, 256, (height, width, 3), np.uint8), alpha)


@given(data=st.data())
@settings(max_examples=15)
def test_rows_are_filled_alike_however_they_are_asked_for(data: st.DataObject) -> None:
    height = data.draw(st.integers(1, 3 * STRIP_ROWS))
    whole = islands(height, 30)
    assert whole.alpha is not None
    reader, strips, left = Filled(InMemory(whole)), [], height

    while left:
        strips.append(reader.rows(data.draw(st.integers(1, left))))
        left -= strips[-1].height

    np.testing.assert_array_equal(
        np.concatenate([strip.rgb for strip in strips]), fill(whole.rgb, whole.alpha)
    )
    assert left == 0


def test_filling_holds_a_few_hundred_rows() -> None:
    reader = Filled(InMemory(islands(3000, 5)))

    for _ in range(300):
        reader.rows(10)
        held = [*reader._found, *reader._ready]
        assert sum(strip.height for strip in held) <= 2 * STRIP_ROWS


def test_colours_under_alpha_are_read_from_around(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.zeros((900, 40, 3), np.uint8)
    alpha = np.zeros((900, 40), np.uint8)
    rgb[430:470], alpha[430:470] = (10, 200, 30), 255
    monkeypatch.setattr("classsr.source.HELD_PIXELS", 0)

    with Source(lambda: nullcontext(InMemory(Picture(rgb, alpha)))) as source:
        found = source.rgb(412, 488, margin=0)

    assert (found == (10, 200, 30)).all()


@pytest.mark.parametrize("held", [0, HELD_PIXELS])
@pytest.mark.parametrize("value", [0, 9, 255])
def test_constant_alpha_leaves_all_colours_alone(
    held: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)
    rgb = picture(600, 7).rgb
    even = Picture(rgb, np.full((600, 7), value, np.uint8))

    with Source(lambda: nullcontext(InMemory(even))) as source:
        np.testing.assert_array_equal(source.rgb(0, 600, margin=0), rgb)
        assert source.alpha_kind == "constant"


@pytest.mark.parametrize("held", [0, HELD_PIXELS])
@pytest.mark.parametrize(("last", "kind"), [(255, "hard"), (254, "soft"), (0, "constant")])
def test_the_last_pixel_may_decide_which_kind_of_alpha_it_is(
    held: int, last: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", held)
    alpha = np.zeros((600, 7), np.uint8)
    alpha[-1, -1] = last

    with Source(lambda: nullcontext(InMemory(Picture(picture(600, 7).rgb, alpha)))) as source:
        source.rgb(0, 10, margin=2)
        assert source.alpha_kind == kind


def test_soft_alpha_is_found_without_reading_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classsr.source.HELD_PIXELS", 0)
    asked: list[int] = []

    class Watched(InMemory):
        def rows(self, count: int) -> Picture:
            asked.append(count)
            return super().rows(count)

    with Source(lambda: nullcontext(Watched(picture(3000, 5)))) as source:
        assert source.alpha_kind == "soft"

    assert sum(asked) == STRIP_ROWS


def test_a_picture_without_alpha_is_opaque_everywhere() -> None:
    with Source(lambda: nullcontext(InMemory(Picture(picture(4, 5).rgb)))) as source:
        assert source.alpha_kind == "constant"
