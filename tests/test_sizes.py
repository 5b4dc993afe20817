"""A size that is asked for becomes width and height, proportions kept."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classsr.errors import UsageError
from classsr.sizes import Size, box_of

sides = st.integers(1, 20_000)
factors = st.floats(1, 4)


@given(width=sides, height=sides, most=st.integers(2, 4))
def test_nothing_asked_for_is_the_models_scale(width: int, height: int, most: int) -> None:
    assert Size().of(width, height, most=most) == (most * width, most * height)


@given(width=sides, height=sides, scale=st.floats(1, 4))
def test_a_scale_holds_for_both_sides_within_half_a_pixel(
    width: int, height: int, scale: float
) -> None:
    found = Size(scale=scale).of(width, height, most=4)

    assert abs(found[0] - scale * width) <= 0.5 + 1e-6
    assert abs(found[1] - scale * height) <= 0.5 + 1e-6


@given(width=sides, height=sides, factor=factors)
def test_a_width_is_met_exactly_and_keeps_the_proportions(
    width: int, height: int, factor: float
) -> None:
    wanted = int(factor * width)
    found = Size(width=wanted).of(width, height, most=4)

    assert found[0] == wanted
    assert abs(found[1] - wanted * height / width) <= 0.5 + 1e-6


@given(width=sides, height=sides, factor=factors)
def test_a_height_is_a_width_turned_by_a_quarter(width: int, height: int, factor: float) -> None:
    wanted = int(factor * height)

    assert Size(height=wanted).of(width, height, most=4) == tuple(
        reversed(Size(width=wanted).of(height, width, most=4))
    )


@given(width=sides, height=sides, factor=factors, spare=st.integers(0, 1000), is_wide=st.booleans())
def test_a_box_is_filled_in_one_direction_and_not_left_in_the_other(
    width: int, height: int, factor: float, spare: int, is_wide: bool
) -> None:
    filled = int(factor * width) if is_wide else int(factor * height)
    ratio = filled / (width if is_wide else height)
    other = math.ceil(ratio * (height if is_wide else width)) + spare
    box = (filled, other) if is_wide else (other, filled)
    found = Size(box=box).of(width, height, most=4)

    assert found[0] == box[0] or found[1] == box[1]
    assert found[0] <= box[0]
    assert found[1] <= box[1]


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        (Size(scale=4.5), "4.5"),
        (Size(scale=0.5), "0.5"),
        (Size(width=401), "4.01"),
        (Size(height=49), "0.98"),
        (Size(box=(99, 500)), "0.99"),
    ],
)
def test_what_the_model_cannot_reach_and_what_is_smaller_is_refused(
    size: Size, factor: str
) -> None:
    with pytest.raises(
        UsageError,
        match=re.escape(
            f"1 to 4 times the 100 x 50 pixels of the picture but it would be {factor} "
        ),
    ):
        size.of(100, 50, most=4)


@pytest.mark.parametrize(
    "numbers",
    [{"scale": 0.0}, {"scale": float("nan")}, {"width": 0}, {"height": -1}, {"box": (0, 10)}],
)
def test_numbers_that_are_not_above_0_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        Size(**numbers)  # type: ignore[arg-type]


def test_two_sizes_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="one of a scale"):
        Size(scale=2, width=100)


@pytest.mark.parametrize(
    ("size", "suffix"),
    [
        (Size(), "x4"),
        (Size(scale=2), "x2"),
        (Size(scale=2.5), "x2.5"),
        (Size(width=3000), "3000w"),
        (Size(height=2000), "2000h"),
        (Size(box=(3000, 2000)), "3000x2000"),
    ],
)
def test_names_of_files_say_the_size(size: Size, suffix: str) -> None:
    assert size.suffix(4) == suffix


def test_a_box_is_read_from_its_text() -> None:
    assert box_of("3840x2160") == (3840, 2160)
    assert box_of("10X20") == (10, 20)


@pytest.mark.parametrize("text", ["3840", "3840x", "x", "1x2x3", "3840*2160", "-1x5", "1.5x2"])
def test_a_text_that_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="3840x2160"):
        box_of(text)
