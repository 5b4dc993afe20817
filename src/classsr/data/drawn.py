"""Pictures that no camera takes: pages, charts, screens and drawings, made by a program, from a number each.

Photographs hold little of what is flat but for thin lines. Without such pictures a Class-Module takes a tile with a
little ink for a smooth one. Letters are as Pillow and its FreeType draw them: other versions, slightly other pixels.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 640, 480  # pixels
FINE = 3  # drawn larger by this, then averaged
LETTERS = tuple("aaabcdeeeefghiiijklmnnooopqrrssttuuvwxyz")

RGB8 = NDArray[np.uint8]
Random = np.random.Generator
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, upper, right, lower


class _Sheet:
    """Draws in pixels of the finished picture; fractions count."""

    def __init__(self, random: Random, paper: Colour) -> None:
        self.random = random
        self._image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), paper)
        self._draw = ImageDraw.Draw(self._image)

    def finished(self) -> RGB8:
        return np.asarray(self._image.reduce(FINE))

    def box(
        self, box: Box, fill: Colour | None, edge: Colour | None = None, line: float = 1
    ) -> None:
        scaled = _scaled(box)
        self._draw.rectangle(scaled, fill, edge, round(line * FINE))

    def oval(self, box: Box, fill: Colour, edge: Colour, line: float) -> None:
        self._draw.ellipse(_scaled(box), fill, edge, round(line * FINE))

    def polygon(
        self, points: NDArray[np.floating], fill: Colour, edge: Colour, line: float
    ) -> None:
        corners = [(x, y) for x, y in (points * FINE).tolist()]
        self._draw.polygon(corners, fill, edge, round(line * FINE))

    def path(self, points: NDArray[np.floating], colour: Colour, line: float) -> None:
        corners = [(x, y) for x, y in (points * FINE).tolist()]
        self._draw.line(corners, colour, max(1, round(line * FINE)), joint="curve")

    def text(self, place: tuple[float, float], text: str, size: float, colour: Colour) -> None:
        font = ImageFont.load_default(size * FINE)
        self._draw.text((place[0] * FINE, place[1] * FINE), text, colour, font)


def _scaled(box: Box) -> Box:
    left, upper, right, lower = (FINE * side for side in box)
    return left, upper, max(left, right - 1), max(upper, lower - 1)  # Pillow draws the last too


def _word(random: Random) -> str:
    word = "".join(random.choice(LETTERS, random.integers(1, 10)))
    return word.capitalize() if random.random() < 0.2 else word


def _words(random: Random, count: int) -> str:
    return " ".join(_word(random) for _ in range(count))


def _colour(random: Random) -> Colour:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


def _grey(level: float) -> Colour:
    return (round(level),) * 3


def _paper_and_ink(random: Random) -> tuple[Colour, Colour]:
    """Return dark on light, light on dark, or two colours."""
    light, dark = _grey(random.uniform(225, 255)), _grey(random.uniform(0, 60))
    pairs = (
        (light, dark),
        (_grey(255), _grey(0)),
        (dark, light),
        (_colour(random), _colour(random)),
    )
    return pairs[random.choice(4, p=(0.35, 0.35, 0.2, 0.1))]


def _paragraph(sheet: _Sheet, box: Box, size: float, ink: Colour) -> None:
    """Fill a box with lines of text; some end early, as the last of a paragraph does."""
    random = sheet.random
    left, upper, right, lower = box
    per_line = max(1, round((right - left) / (3.3 * size)))
    for y in np.arange(upper, lower - size, 1.35 * size).tolist():
        if random.random() < 0.1:
            continue
        count = per_line if random.random() < 0.85 else random.integers(1, per_line + 1)
        sheet.text((left, y), _words(random, int(count)), size, ink)


def _page(sheet: _Sheet, ink: Colour) -> None:
    """Write columns of text under headings."""
    random = sheet.random
    columns = int(random.integers(1, 3))
    size = random.uniform(9, 30)
    sheet.text((20, 10), _words(random, 4), random.uniform(20, 60), ink)
    step = (WIDTH - 40) / columns
    for column in range(columns):
        left = 20 + column * step
        _paragraph(sheet, (left, 80, left + step - 20, HEIGHT - 15), size, ink)


def _chart(sheet: _Sheet, box: Box, ink: Colour) -> None:
    """Draw axes with labels and a line, bars or points between them."""
    random = sheet.random
    left, upper, right, lower = box
    size = random.uniform(9, 16)
    count = int(random.integers(6, 60))
    values = random.normal(0, 1, count).cumsum()
    spread = np.ptp(values) + 1e-6
    x = np.linspace(left, right, count)
    y = lower - (values - values.min()) / spread * (lower - upper)
    thin = random.uniform(0.5, 2)
    if random.random() < 0.5:
        for height in np.linspace(upper, lower, 6).tolist():
            sheet.path(
                np.array([(left, height), (right, height)]), _grey(190), random.uniform(0.4, 1)
            )
    kind = random.integers(0, 3)
    colour = _colour(random) if random.random() < 0.7 else ink
    if kind == 0:
        sheet.path(np.column_stack([x, y]), colour, thin)
    for place, height in zip(x.tolist(), y.tolist(), strict=True):
        wide = (right - left) / count * 0.35
        if kind == 1:
            sheet.box((place - wide, height, place + wide, lower), colour)
        elif kind == 2:
            sheet.oval((place - 3, height - 3, place + 3, height + 3), colour, ink, 0.4)
    sheet.path(
        np.array([(left, upper), (left, lower), (right, lower)]), ink, random.uniform(0.7, 2)
    )
    for number, place in enumerate(np.linspace(left, right, 6).tolist()):
        sheet.path(np.array([(place, lower), (place, lower + 4)]), ink, 1)
        sheet.text((place - size / 2, lower + 6), f"{number * count}", size, ink)
    for height in np.linspace(upper, lower, 6).tolist():
        sheet.text((left - 3 * size, height - size / 2), f"{lower - height:.0f}", size, ink)
    sheet.text((left, upper - 2 * size), _words(random, 3), 1.3 * size, ink)


def _charts(sheet: _Sheet, ink: Colour) -> None:
    """Draw one to twelve charts in rows."""
    rows, columns = sheet.random.integers(1, 3, 2).tolist()
    wide, high = WIDTH / columns, HEIGHT / rows
    for row in range(rows):
        for column in range(columns):
            left, upper = column * wide, row * high
            _chart(sheet, (left + 60, upper + 45, left + wide - 20, upper + high - 40), ink)


def _window(sheet: _Sheet, box: Box, paper: Colour, ink: Colour) -> None:
    """Draw a window with a title, buttons, and text, a list or nothing in it."""
    random = sheet.random
    left, upper, right, lower = (round(side) for side in box)
    title = _colour(random) if random.random() < 0.5 else _grey(random.uniform(150, 240))
    sheet.box((left, upper, right, lower), paper, ink, int(random.integers(1, 3)))
    sheet.box((left, upper, right, upper + 24), title, ink)
    sheet.text((left + 8, upper + 4), _words(random, 3), 13, ink)
    size = random.uniform(9, 17)
    kind = random.integers(0, 3)
    if kind == 0:
        _paragraph(sheet, (left + 10, upper + 34, right - 10, lower - 40), size, ink)
    elif kind == 1:
        for y in np.arange(upper + 34, lower - 44, 2 * size).tolist():
            sheet.box((left + 10, y, left + 10 + size, y + size), None, ink)
            sheet.text((left + 18 + size, y - 1), _words(random, 2), size, ink)
    for x in range(left + 10, right - 90, 100):
        sheet.box((x, lower - 32, x + 84, lower - 8), _grey(random.uniform(190, 250)), ink)
        sheet.text((x + 8, lower - 27), _word(random), 12, _grey(20))


def _screen(sheet: _Sheet, ink: Colour) -> None:
    """Draw windows over each other."""
    random = sheet.random
    for _ in range(int(random.integers(3, 9))):
        left, upper = random.uniform((-50, -30), (WIDTH - 150, HEIGHT - 120)).tolist()
        wide, high = random.uniform((180, 130), (500, 350)).tolist()
        paper = _grey(random.uniform(220, 255)) if sum(ink) < 384 else _grey(random.uniform(0, 50))
        _window(sheet, (left, upper, left + wide, upper + high), paper, ink)


def _drawing(sheet: _Sheet, ink: Colour) -> None:
    """Draw flat shapes with outlines, and curves over them."""
    random = sheet.random
    for _ in range(int(random.integers(10, 40))):
        x, y = random.uniform((0, 0), (WIDTH, HEIGHT)).tolist()
        wide, high = random.uniform(15, 200, 2).tolist()
        line = random.uniform(0.7, 5)
        kind = random.integers(0, 3)
        if kind == 0:
            sheet.oval((x, y, x + wide, y + high), _colour(random), ink, line)
        elif kind == 1:
            corners = random.normal((x, y), wide / 2, (int(random.integers(3, 7)), 2))
            sheet.polygon(corners, _colour(random), ink, line)
        else:
            turn = np.linspace(0, random.uniform(2, 12), 200)
            curve = np.column_stack([x + wide * turn / 3, y + high * np.sin(turn)])
            sheet.path(curve, ink if random.random() < 0.5 else _colour(random), line)


KINDS: tuple[Callable[[_Sheet, Colour], None], ...] = (_page, _charts, _screen, _drawing)


def drawn(number: int) -> RGB8:
    """Return picture `number`, (480, 640, 3): pages, charts, screens and drawings in turn."""
    random = np.random.default_rng(number)
    paper, ink = _paper_and_ink(random)
    sheet = _Sheet(random, paper)
    KINDS[number % len(KINDS)](sheet, ink)
    return sheet.finished()
