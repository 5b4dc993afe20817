"""The report page: one HTML file that holds everything, reads on a phone and needs no script and no network.

Pictures are added one by one and wait in a file, so that memory does not grow with their number; the page appears
under its name when it is complete. Knows comparisons and text, but neither scores nor models.
"""

import base64
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from classsr.comparison import HEAT_COLOURS, RGB8, Comparison, Crop, HeatMap, Place
from classsr.errors import OutputError
from classsr.files import publish, temporary_beside
from classsr.routing_map import COLOURS
from classsr.tiles import Box

FILE = "index.html"
STYLE = Path(__file__).with_name("page.css")
# Of WebP, for maps; for crops, which are lossless, the effort. Ten pictures of 2,048 pixels take 12.5 MiB.
MAP_QUALITY = 80
# Nothing may be fetched: the browser itself then guarantees what this module promises.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text: caption, heads of the columns, and rows of as many cells, the first of which heads the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class LevelText:
    """How a level is called and, in a few words, what it costs."""

    label: str
    cost: str


class Page:
    """A report page in the making; made by `create_page`."""

    def __init__(
        self,
        path: Path,
        waiting: IO[str],
        whole: Path,
        levels: Sequence[LevelText],
        *,
        overwrite: bool,
    ) -> None:
        self._path, self._waiting, self._whole = path, waiting, whole
        self._levels, self._overwrite = levels, overwrite
        self._names: list[str] = []

    def add(self, name: str, comparison: Comparison, scores: Table) -> None:
        """Add a picture: its name, what there is to be seen, and its scores as text.

        Raises:
            OutputError: the disk is full.

        """
        self._names.append(name)
        with _writing(self._path):
            for part in _picture(len(self._names), name, comparison, scores, self._levels):
                self._waiting.write(part)

    def finish(
        self, *, title: str, facts: Sequence[tuple[str, str]], command: str, tables: Sequence[Table]
    ) -> None:
        """Put the page together and give it its name.

        Args:
            title: its heading.
            facts: names and values of what was run: model, options, machine, versions, date.
            command: what a reader types to make the page again.
            tables: the summary.

        Raises:
            OutputError: the disk is full, or the name has been taken meanwhile.

        """
        with _writing(self._path):
            self._waiting.seek(0)
            with self._whole.open("w", encoding="utf-8", errors="replace") as file:
                for part in _front(title, facts, command, tables, self._levels, self._names):
                    file.write(part)
                shutil.copyfileobj(self._waiting, file)
                file.write("</main>\n</body>\n</html>\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                publish(self._whole, self._path, overwrite=self._overwrite)
            except FileExistsError as exc:
                raise OutputError(
                    f"{self._path} has appeared meanwhile; choose another folder or allow it with --overwrite."
                ) from exc


@contextmanager
def create_page(folder: Path, *, levels: Sequence[LevelText], overwrite: bool) -> Iterator[Page]:
    """Begin the page `index.html` of a folder, which is made where there is none; without `finish` nothing is left.

    Args:
        folder: where the page is to lie.
        levels: of the model, easiest first.
        overwrite: whether a page that exists is replaced.

    Raises:
        OutputError: it cannot be written there; told before anything is compared where possible.

    """
    path = folder / FILE
    if os.path.lexists(path) and not overwrite:
        raise OutputError(
            f"{path} exists already; choose another folder or allow it with --overwrite."
        )
    is_new = not folder.exists()
    try:
        with ExitStack() as stack:
            with _writing(path):
                folder.mkdir(exist_ok=True)
                waiting, whole = (stack.enter_context(temporary_beside(path)) for _ in range(2))
                file = stack.enter_context(waiting.open("w+", encoding="utf-8", errors="replace"))
            yield Page(path, file, whole, levels, overwrite=overwrite)
    finally:
        if is_new:
            with suppress(OSError):  # the page lies in it
                folder.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Translate what goes wrong while the page is written."""
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"{path} cannot be written ({exc.strerror or exc}); make room or choose another place."
        ) from exc


def _front(
    title: str,
    facts: Sequence[tuple[str, str]],
    command: str,
    tables: Sequence[Table],
    levels: Sequence[LevelText],
    names: Sequence[str],
) -> Iterator[str]:
    """Yield all that stands before the pictures."""
    yield f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{STYLE.read_text("utf-8")}</style>
</head>
<body>
<a class="skip" href="#pictures">Skip to the pictures</a>
<header>
<h1>{escape(title)}</h1>
<dl>
"""
    for name, value in facts:
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n"
    yield f"""</dl>
<pre tabindex="0" aria-label="Command"><code>{escape(command)}</code></pre>
</header>
<main>
<section aria-labelledby="summary">
<h2 id="summary">Summary</h2>
"""
    for table in tables:
        yield _table(table)
    yield "<h3>Levels, easiest first</h3>\n"
    yield _legend([f"{level}: {text.label}, {text.cost}" for level, text in enumerate(levels)])
    yield """</section>
<nav id="pictures" aria-labelledby="contents">
<h2 id="contents">Pictures</h2>
<p class="quiet">Choose a crop to see it large; further choices and the arrow keys flip between the methods.</p>
<ol>
"""
    for number, name in enumerate(names, start=1):
        yield f'<li><a href="#picture-{number}">{escape(name)}</a></li>\n'
    yield "</ol>\n</nav>\n"


def _picture(
    number: int,
    name: str,
    comparison: Comparison,
    scores: Table,
    levels: Sequence[LevelText],
) -> Iterator[str]:
    """Yield the section of a picture."""
    here = f"picture-{number}"
    width, height = comparison.width, comparison.height
    scale = comparison.scale
    yield f"""<section id="{here}" aria-labelledby="{here}-name">
<h2 id="{here}-name">{escape(name)}</h2>
<p class="quiet">{width}×{height} pixels, enlarged to {width * scale}×{height * scale}</p>
{_table(scores)}<div class="maps">
<figure>
<div class="map">
{_image(comparison.routing_map, f"Routing map of {name}", lossless=False)}
"""
    for index, place in enumerate(comparison.places, start=1):
        yield _mark(f"{here}-place-{index}", index, place.box, comparison)
    yield f"</div>\n<figcaption>\n{_heading('Routing map and places')}"
    shares = [float(np.mean(comparison.levels == level)) for level in range(len(levels))]
    yield _legend(
        [
            f"{level}: {text.label}, {100 * share:.0f} % of the tiles"
            for level, (text, share) in enumerate(zip(levels, shares, strict=True))
        ]
    )
    yield "</figcaption>\n</figure>\n"
    for heat_map in comparison.heat_maps:
        yield _heat_map(heat_map, name)
    yield "</div>\n"
    for index, place in enumerate(comparison.places, start=1):
        yield from _place(f"{here}-place-{index}", index, name, place, scale)
    if not comparison.places:
        yield "<p>All methods give the same picture.</p>\n"
    yield '<p><a href="#pictures">All pictures</a></p>\n</section>\n'


def _mark(target: str, index: int, box: Box, comparison: Comparison) -> str:
    """Return the frame of a place on the map, a link to its crops; in percent, so that it fits at every width."""
    top, left = 100 * box.top / comparison.height, 100 * box.left / comparison.width
    height = 100 * (box.bottom - box.top) / comparison.height
    width = 100 * (box.right - box.left) / comparison.width
    place = f"top:{top:.2f}%;left:{left:.2f}%;width:{width:.2f}%;height:{height:.2f}%"
    return (
        f'<a class="mark" href="#{target}" style="{place}" aria-label="Place {index}">'
        f"<span>{index}</span></a>\n"
    )


def _heat_map(heat_map: HeatMap, name: str) -> str:
    """Return a heat map with its colour scale, told in numbers."""
    colours = ", ".join(f"rgb{colour}" for colour in HEAT_COLOURS)
    ticks = [f"{heat_map.limit * part / 4:g}" for part in range(5)]
    ticks[-1] += " and above"
    return f"""<figure>
<div class="map">
{_image(heat_map.image, f"Heat map of {name}, {heat_map.title}", lossless=False)}
</div>
<figcaption>
{_heading(heat_map.title)}<div class="scale">{"".join(f"<span>{tick}</span>" for tick in ticks)}</div>
<div class="heat" style="background:linear-gradient(to right, {colours})"></div>
Absolute difference in 8-bit steps (0 to 255), mean of R, G and B; {heat_map.mean:.2f} on average
</figcaption>
</figure>
"""


def _heading(title: str) -> str:
    """Return the first line under a map, with a box to tick for a large map."""
    return (
        f'<div class="heading"><b>{escape(title)}</b>'
        '<label class="widen"><input type="checkbox"> full width</label></div>\n'
    )


def _place(here: str, index: int, name: str, place: Place, scale: int) -> Iterator[str]:
    """Yield the crops of a place, as radio buttons: arrow keys and taps flip between them on the stage."""
    box = place.box.scaled(scale)
    size = f"{box.right - box.left}×{box.bottom - box.top}"
    levels = ", ".join(f"{_swatch(level)}{level}" for level in place.levels)
    aspect = f"{box.right - box.left} / {box.bottom - box.top}"
    # The method keeps Enter, which sends a form, from loading the page again.
    yield f"""<form class="place" id="{here}" method="dialog" aria-labelledby="{here}-name">
<h3 id="{here}-name">Place {index}</h3>
<p>{escape(place.reason)}</p>
<p class="quiet">{size} pixels at x {box.left}, y {box.top}; tiles of level {levels}</p>
<div class="crops" style="--aspect:{aspect}">
"""
    for crop in place.crops:
        yield _crop(crop, f"place {index} of {name}")
    yield '</div>\n<button type="reset">Side by side again</button>\n</form>\n'


def _crop(crop: Crop, where: str) -> str:
    quality = "reference" if crop.psnr is None else f"{crop.psnr:.2f} dB"
    return f"""<label class="crop"><input type="radio" name="crop">
<span class="frame">{_image(crop.pixels, f"{crop.label}, {where}", lossless=True)}</span>
<b>{escape(crop.label)}</b><span>{quality}</span></label>
"""


def _table(table: Table) -> str:
    """Return a table in a box that scrolls when the page is too narrow for it, by keys too."""
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = []
    for head, *cells in table.rows:
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(head)}</th>{values}</tr>\n')
    caption = escape(table.caption)
    return f"""<figure>
<figcaption>{caption}</figcaption>
<div class="scroll" tabindex="0" role="region" aria-label="{caption}">
<table aria-label="{caption}">
<thead><tr>{heads}</tr></thead>
<tbody>
{"".join(rows)}</tbody>
</table>
</div>
</figure>
"""


def _legend(lines: Sequence[str]) -> str:
    """Return the levels' colours as the routing map shows them, each with a line of text."""
    items = "".join(
        f"<li>{_swatch(level)}{escape(line)}</li>\n" for level, line in enumerate(lines)
    )
    return f'<ul class="levels">\n{items}</ul>\n'


def _swatch(level: int) -> str:
    return f'<span class="swatch" style="background:rgb{COLOURS[level]}"></span>'


def _image(pixels: RGB8, alt: str, *, lossless: bool) -> str:
    """Return an image, (H, W, 3), that carries its own data."""
    height, width = pixels.shape[:2]
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "WEBP", lossless=lossless, quality=MAP_QUALITY)
        data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<img loading="lazy" width="{width}" height="{height}" alt="{escape(alt)}"'
        f' src="data:image/webp;base64,{data}">'
    )
