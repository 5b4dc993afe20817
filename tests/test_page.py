"""The report page is well-formed, holds everything itself, shows any text, and is there whole or not at all."""

import base64
import io
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from classsr.comparison import Comparison, compare
from classsr.errors import InputError, OutputError
from classsr.page import LevelText, Page, Table, create_page
from classsr.tiles import TileGrid

Array = npt.NDArray[Any]

HOSTILE = "a<b>&amp;\"'</title></style><script>alert(1)</script>\n🌊 \udce4.png"
SHOWN = HOSTILE.replace("\udce4", "?")  # a byte of a file name that is no text
LEVELS = (LevelText("bicubic", "1.2 k MACs"), LevelText("compact", "473 k MACs"))
TABLE = Table("Scores", ("method", "PSNR, dB"), (("bicubic", "28.48"), ("ClassSR", "30.38")))
VOID = {"meta", "link", "img", "input"}


class Parsed(HTMLParser):
    """A page: its elements with their attributes, its text, and a complaint for every tag that does not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def noise(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def comparison(*, label: str = "bicubic", height: int = 40, width: int = 70) -> Comparison:
    grid = TileGrid(height, width, tile=16, step=16)
    lr, hr, bicubic, routed, hardest = (
        noise(height * scale, width * scale, seed) for seed, scale in enumerate((1, 4, 4, 4, 4))
    )
    return compare(
        lr,
        hr,
        {label: bicubic, "ClassSR": routed, "hardest": hardest},
        routed="ClassSR",
        hardest="hardest",
        levels=np.arange(len(grid)).reshape(grid.shape) % 2,
        grid=grid,
        side=16,
    )


def finish(page: Page, title: str = "compact-x4") -> None:
    page.finish(title=title, facts=[("Date", "2026-11-24")], command="classsr", tables=[TABLE])


def write(folder: Path, *comparisons: Comparison) -> Path:
    with create_page(folder, levels=LEVELS, overwrite=False) as page:
        for number, seen in enumerate(comparisons):
            page.add(f"picture {number}", seen, TABLE)
        finish(page)
    return folder / "index.html"


# --- What it holds ---


def test_a_page_is_well_formed_and_fetches_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, comparison(), comparison())

    page = Parsed(path)

    references = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "poster"}
    ]
    assert all(value.startswith(("data:", "#")) for value in references)
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.elements}
    source = path.read_text("utf-8")
    assert not any(word in source for word in ("http:", "https:", "@import", "url("))
    assert page.all("html")[0]["lang"] == "en"


def test_every_image_has_a_text_and_a_size(tmp_path: Path) -> None:
    seen = comparison()

    images = Parsed(write(tmp_path, seen)).all("img")

    assert len(images) == 1 + len(seen.heat_maps) + sum(len(p.crops) for p in seen.places)
    assert all(image["alt"] and image["loading"] == "lazy" for image in images)
    assert len({image["alt"] for image in images}) == len(images)
    for image in images:
        assert decode(image).shape == (int(image["height"]), int(image["width"]), 3)


def decode(image: dict[str, str]) -> Array:
    _, _, data = image["src"].partition("base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


def test_crops_come_out_bit_for_bit(tmp_path: Path) -> None:
    seen = comparison()

    images = Parsed(write(tmp_path, seen)).all("img")

    shown = [decode(image) for image in images if "place" in image["alt"]]
    given = [crop.pixels for place in seen.places for crop in place.crops]
    assert len(shown) == len(given) > 0
    for decoded, pixels in zip(shown, given, strict=True):
        np.testing.assert_array_equal(decoded, pixels)


def test_every_link_leads_somewhere_and_every_name_is_given_once(tmp_path: Path) -> None:
    page = Parsed(write(tmp_path, comparison(), comparison()))

    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    targets = [link["href"].removeprefix("#") for link in page.all("a")]
    labels = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(targets + labels) <= set(names)


def test_all_texts_are_shown_as_they_are(tmp_path: Path) -> None:
    table = Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, HOSTILE),))
    with create_page(tmp_path, levels=[LevelText(HOSTILE, HOSTILE)] * 2, overwrite=False) as page:
        page.add(HOSTILE, comparison(label=HOSTILE), table)
        page.finish(title=HOSTILE, facts=[(HOSTILE, HOSTILE)], command=HOSTILE, tables=[table])

    parsed = Parsed(tmp_path / "index.html")

    assert not parsed.all("script")
    # title, heading, fact (2), command, table (5), levels (4), contents; name, table (5), levels (2), ...
    assert parsed.text.count(SHOWN) >= 22
    assert all(SHOWN in image["alt"] for image in parsed.all("img"))


def test_a_picture_on_which_all_agree_says_so(tmp_path: Path) -> None:
    lr, hr = noise(8, 8, 0), noise(32, 32, 1)
    seen = compare(
        lr,
        hr,
        {"ClassSR": hr, "hardest": hr},
        routed="ClassSR",
        hardest="hardest",
        levels=np.zeros((1, 1), np.int64),
        grid=TileGrid(8, 8, tile=32, step=32),
    )

    assert "All methods give the same picture." in Parsed(write(tmp_path, seen)).text


# --- How it is written ---


def test_a_page_appears_when_it_is_finished_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with create_page(folder, levels=LEVELS, overwrite=False) as page:
        page.add("a", comparison(), TABLE)
        assert not (folder / "index.html").exists()
        finish(page)

    assert [path.name for path in folder.iterdir()] == ["index.html"]


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("is_new", [False, True])
def test_nothing_is_left_of_a_page_that_is_broken_off(
    tmp_path: Path, error: type[BaseException], *, is_new: bool
) -> None:
    folder = tmp_path / "new" if is_new else tmp_path

    def fail(page: Page) -> None:
        page.add("a", comparison(), TABLE)
        raise error("half-way")

    with (
        pytest.raises(error, match="half-way"),
        create_page(folder, levels=LEVELS, overwrite=False) as page,
    ):
        fail(page)

    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_never_finished_leaves_nothing(tmp_path: Path) -> None:
    with create_page(tmp_path, levels=LEVELS, overwrite=False) as page:
        page.add("a", comparison(), TABLE)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_the_old_page_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with (
        pytest.raises(OutputError, match="No space left on device"),
        create_page(tmp_path, levels=LEVELS, overwrite=True) as page,
    ):
        finish(page)

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("index.html", "old")]


def test_a_page_is_replaced_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path)

    with (
        pytest.raises(OutputError, match="exists already"),
        create_page(tmp_path, levels=LEVELS, overwrite=False),
    ):
        pass
    with create_page(tmp_path, levels=LEVELS, overwrite=True) as page:
        finish(page, title="the second")

    assert "the second" in path.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_taken_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with create_page(tmp_path, levels=LEVELS, overwrite=False) as page:
        (tmp_path / "index.html").write_text("theirs")
        with pytest.raises(OutputError, match="has appeared meanwhile"):
            finish(page)

    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_place_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for folder in (tmp_path / "no" / "such", tmp_path / "file"):
        with (
            pytest.raises(OutputError, match="cannot be written"),
            create_page(folder, levels=LEVELS, overwrite=False),
        ):
            pass


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    seen = comparison(height=64, width=64)
    write(tmp_path / "warm", seen)

    tracemalloc.start()
    path = write(tmp_path / "many", *[seen] * 12)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < path.stat().st_size / 4
