"""Rows of a picture as they are needed, with their neighbours; of a large picture, what is passed is forgotten."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from classsr.image import Header, Picture

HELD_PIXELS = 2**24  # of a picture that is kept whole, so that it is decoded once: 50 MB in 8 bits
SLACK = 8  # rows that are kept above those asked for last


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

    def _padded(self, found: NDArray[Any], top: int, bottom: int, margin: int) -> NDArray[Any]:
        above = max(margin - top, 0)
        below = max(bottom + margin - self.header.height, 0)
        if margin == above == below == 0:
            return found
        sides = [(above, below), (margin, margin), (0, 0)][: found.ndim]
        return np.pad(found, sides, mode="edge")

    def _rows(self, top: int, bottom: int) -> Picture:
        """Return the rows of these that the picture has."""
        height, width = self.header.height, self.header.width
        top, bottom = max(top, 0), min(bottom, height)
        if top < self._first:
            self._open()
        started = time.perf_counter()
        passed = min(top - SLACK, self._next - 1) - self._first
        if self._held is not None and height * width > HELD_PIXELS and passed > 0:
            self._held = self._held.rows(slice(passed, None))
            self._first += passed
        if self._next < bottom:
            found = self._reader.rows(bottom - self._next)
            self._held = Picture.stacked([found] if self._held is None else [self._held, found])
            self._next = bottom
        assert self._held is not None
        self.seconds += time.perf_counter() - started
        return self._held.rows(slice(top - self._first, bottom - self._first))
