"""Rows of a picture as they are needed, with their neighbours; of a large picture, what is passed is forgotten.

Under fully transparent pixels the colours are those of what is visible around (see `classsr.alpha`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from classsr.alpha import CELL, MARGIN, Kind, fill, find_kind
from classsr.image import Header, Picture

HELD_PIXELS = 2**24  # of a picture that is kept whole, so that it is decoded once: 50 MB in 8 bits
SLACK = 8  # rows that are kept above those asked for last
STRIP_ROWS = 16 * CELL  # that are filled at a time, or searched for the kind of alpha


class Reader(Protocol):
    """Reads a picture from top to bottom."""

    header: Header

    def rows(self, count: int) -> Picture:
        """Return the next rows, fewer at the end."""
        ...


Opening = Callable[[], AbstractContextManager[Reader]]


class InMemory:
    """A picture in memory, read as if from a file."""

    def __init__(self, picture: Picture) -> None:
        self.header = picture.header
        self._picture = picture
        self._next = 0

    def rows(self, count: int) -> Picture:
        """See `Reader.rows`."""
        part = slice(self._next, self._next + count)
        self._next += count
        return self._picture.rows(part)


def ahead(opening: Opening) -> Opening:
    """Read a picture that would be kept whole anyway, and return what opens it from memory; others are left alone."""
    with opening() as reader:
        header = reader.header
        if header.height * header.width > HELD_PIXELS:
            return opening
        picture = reader.rows(header.height)
    return lambda: nullcontext(InMemory(picture))


class Filled:
    """Reads a picture with alpha, from top to bottom, and gives its fully transparent pixels colours."""

    def __init__(self, reader: Reader) -> None:
        self.header = reader.header
        self._reader = reader
        self._left = self.header.height  # rows that have not been filled
        self._found: list[
            Picture
        ] = []  # as they were read, beginning with `_above` rows that have been filled
        self._above = 0
        self._ready: list[Picture] = []  # filled, and not handed out yet

    def rows(self, count: int) -> Picture:
        """See `Reader.rows`; reads some rows ahead."""
        while self._left and sum(strip.height for strip in self._ready) < count:
            self._ready.append(self._fill())
        ready = Picture.stacked(self._ready)
        self._ready = [ready.rows(slice(count, None))] if ready.height > count else []
        return ready.rows(slice(count))

    def _fill(self) -> Picture:
        """Fill the next rows, looking at those around."""
        above, count = self._above, min(STRIP_ROWS, self._left)
        self._left -= count
        below = min(MARGIN, self._left)
        missing = above + count + below - sum(strip.height for strip in self._found)
        if missing:
            self._found.append(self._reader.rows(missing))
        found = Picture.stacked(self._found)
        assert found.alpha is not None
        rgb: Any = fill(found.rgb, found.alpha, above=above, below=below)
        self._above = min(MARGIN, above + count)
        self._found = [found.rows(slice(above + count - self._above, None))]
        return replace(found.rows(slice(above, above + count)), rgb=rgb)


class Source:
    """Any rows of a picture; cheap from top to bottom, and from the top again.

    Args:
        opening: begins to read the picture, from the top each time.

    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._stack = ExitStack()
        self.seconds = 0.0  # spent on reading so far
        self._open()

    def _open(self) -> None:
        started = time.perf_counter()
        self._stack.close()
        self._reader = self._stack.enter_context(self._opening())
        self.header = self._reader.header
        self._held: Picture | None = None
        self._first = self._next = 0  # rows that are held
        self.seconds += time.perf_counter() - started

    def _begin(self) -> None:
        """Get ready for the first row; what is transparent everywhere keeps its colours."""
        if not self.header.has_alpha:
            return
        if self._is_small:
            whole = self._reader.rows(self.header.height)
            self._opening = lambda: nullcontext(InMemory(whole))
            self._reader = InMemory(whole)
        if self.alpha_kind != "constant":
            self._reader = Filled(self._reader)

    @property
    def _is_small(self) -> bool:
        return self.header.height * self.header.width <= HELD_PIXELS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def rgb(self, top: int, bottom: int, *, margin: int) -> NDArray[Any]:
        """Return rows of RGB with a margin on every side; beyond the border, the edge is repeated.

        Args:
            top: first row.
            bottom: the row after the last.
            margin: pixels more on each of the four sides.

        Returns:
            (bottom - top + 2 margin, W + 2 margin, 3).

        """
        return self._padded(self._rows(top - margin, bottom + margin).rgb, top, bottom, margin)

    def alpha(self, top: int, bottom: int, *, margin: int) -> NDArray[Any] | None:
        """Return rows of alpha as `rgb` does, without the last axis; None where there is none."""
        alpha = self._rows(top - margin, bottom + margin).alpha
        return None if alpha is None else self._padded(alpha, top, bottom, margin)

    @cached_property
    def alpha_kind(self) -> Kind:
        """Which kind of alpha the picture has; one without alpha is as opaque everywhere.

        A large picture is read for this once more, as far as it takes to know.
        """
        if not self.header.has_alpha:
            return "constant"
        with self._opening() as reader:
            return find_kind(_strips_of_alpha(reader))

    def _padded(self, found: NDArray[Any], top: int, bottom: int, margin: int) -> NDArray[Any]:
        above = max(margin - top, 0)
        below = max(bottom + margin - self.header.height, 0)
        if margin == above == below == 0:
            return found
        sides = [(above, below), (margin, margin), (0, 0)][: found.ndim]
        return np.pad(found, sides, mode="edge")

    def _rows(self, top: int, bottom: int) -> Picture:
        """Return the rows of these that the picture has."""
        top, bottom = max(top, 0), min(bottom, self.header.height)
        if top < self._first:
            self._open()
        started = time.perf_counter()
        passed = min(top - SLACK, self._next - 1) - self._first
        if self._held is None:
            self._begin()
        elif not self._is_small and passed > 0:
            self._held = self._held.rows(slice(passed, None))
            self._first += passed
        if self._next < bottom:
            found = self._reader.rows(bottom - self._next)
            self._held = Picture.stacked([found] if self._held is None else [self._held, found])
            self._next = bottom
        assert self._held is not None
        self.seconds += time.perf_counter() - started
        return self._held.rows(slice(top - self._first, bottom - self._first))


def _strips_of_alpha(reader: Reader) -> Iterator[NDArray[Any]]:
    for _ in range(0, reader.header.height, STRIP_ROWS):
        alpha = reader.rows(STRIP_ROWS).alpha
        assert alpha is not None
        yield alpha
