"""EXIF survives being read and written, means the same in every dialect, and no damage in it is believed.

Pillow is the independent reader and writer; what it cannot write is put together here from the TIFF 6.0 and BigTIFF
specifications.
"""

import struct
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from classsr.image import exif
from classsr.image.exif import Dialect, Directory, Entry, Exif

ORIENTATION, MAKE, MAKER_NOTE, EXPOSURE = 0x0112, 0x010F, 0x927C, 0x829A


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(sorted(exif.KIND_BYTES)))
    count = draw(st.integers(1, 5))
    size = count * exif.KIND_BYTES[kind]
    return Entry(kind, count, draw(st.binary(min_size=size, max_size=size)))


def directories(tags: st.SearchStrategy[int]) -> st.SearchStrategy[Directory]:
    return st.dictionaries(tags, entries(), max_size=5)


EXIFS = st.builds(
    Exif,
    image=directories(st.sampled_from(sorted(exif.IMAGE_TAGS - {exif.DESCRIPTION}))),
    photo=directories(
        st.integers(0, 0xFFFF).filter(
            lambda tag: tag not in exif.PHOTO_LEFT_OUT | {exif.PHOTO, exif.GPS}
        )
    ),
    gps=directories(st.integers(0, 31)),
    interop=directories(st.sampled_from(sorted(exif.INTEROP_TAGS))),
    order=st.sampled_from(["<", ">"]),
)


def text(value: str) -> Entry:
    return Entry(2, len(value) + 1, value.encode() + b"\0")


def photo_of_pillow() -> bytes:
    """What a camera tells, written by Pillow."""
    told = Image.Exif()
    told[MAKE], told[ORIENTATION], told[0x011A] = "Kamera", 6, 300.0
    told[exif.PHOTO] = {0x9003: "2020:01:02 03:04:05", 0xA434: "Lens 24-70", MAKER_NOTE: b"secret"}
    told[exif.GPS] = {1: "N", 3: "E"}
    return told.tobytes().removeprefix(b"Exif\0\0")


def by_pillow(blob: bytes) -> dict[str, dict[int, Any]]:
    told = Image.Exif()
    told.load(b"Exif\0\0" + blob)
    pointers = (exif.PHOTO, exif.GPS)
    image = {tag: value for tag, value in told.items() if tag not in pointers}
    return {"image": image, "photo": told.get_ifd(exif.PHOTO), "gps": told.get_ifd(exif.GPS)}


# --- Laws ---


@given(EXIFS)
def test_reading_undoes_writing(told: Exif) -> None:
    read = exif.from_blob(exif.to_blob(told))

    assert read == told
    assert read.damaged == 0


@given(EXIFS, st.sampled_from(["<", ">"]), st.booleans(), st.integers(8, 99))
def test_every_dialect_says_the_same_anywhere_in_a_file(
    told: Exif, order: exif.Order, is_big: bool, gap: int
) -> None:
    dialect, offset = Dialect(order, is_big=is_big), 2 * gap
    mark = b"II" if order == "<" else b"MM"
    form = f"{order}2sHHHQ" if is_big else f"{order}2sHI"
    head = struct.pack(form, mark, *((43, 8, 0) if is_big else (42,)), offset)
    others = {0x0100: struct.pack(dialect.entry, 0x0100, 3, 1, b"\1\0\1\0")}
    body = exif.pack(told.image, told.children, dialect, offset=offset, others=others, following=77)
    content = head.ljust(offset, b"?") + body

    def read(at: int, size: int) -> bytes:
        return content[at : at + size]

    assert exif.parse(read) == replace(told, order=order)
    table, following = exif.read_table(read, dialect, offset)
    assert table[0x0100] == others[0x0100]
    assert following == 77


@given(EXIFS, st.randoms(use_true_random=False), st.integers(0, 12))
def test_damage_of_any_kind_is_an_error_of_value_at_most(
    told: Exif, random: Random, damaged: int
) -> None:
    blob = bytearray(exif.to_blob(told))
    for _ in range(damaged):
        blob[random.randrange(len(blob))] = random.choice([0, 1, 0xFF, random.randrange(256)])
    del blob[random.randrange(1, len(blob) + 1) :]
    try:
        read = exif.from_blob(bytes(blob))
    except ValueError:
        return
    assert exif.from_blob(exif.to_blob(read)) == read


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_an_error_of_value_at_most(content: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        try:
            exif.from_blob(head + content)
        except ValueError:
            continue


# --- What others write and read ---


def test_what_pillow_wrote_is_understood() -> None:
    told = exif.from_blob(photo_of_pillow())

    assert told.image == {MAKE: text("Kamera")}
    assert told.photo == {0x9003: text("2020:01:02 03:04:05"), 0xA434: text("Lens 24-70")}
    assert told.gps == {1: text("N"), 3: text("E")}


@pytest.mark.parametrize("order", ["<", ">"])
def test_pillow_understands_what_is_written(order: exif.Order) -> None:
    lens = struct.pack("<8I", 24, 1, 70, 1, 28, 10, 28, 10)
    told = Exif(
        image={MAKE: text("Kamera")},
        photo={EXPOSURE: Entry(5, 1, struct.pack("<2I", 1, 250)), 0xA432: Entry(5, 4, lens)},
        gps={1: text("N")},
        order=order,
    )

    read = by_pillow(exif.to_blob(told))

    assert read["image"] == {MAKE: "Kamera"}
    assert read["photo"] == {EXPOSURE: 1 / 250, 0xA432: (24, 70, 2.8, 2.8)}
    assert read["gps"] == {1: "N"}


# --- What is kept ---


def test_nothing_that_is_no_longer_true_is_read() -> None:
    second = {0x0201: Entry(4, 1, bytes(4)), 0x0202: Entry(4, 1, bytes(4))}
    first = {MAKE: text("Kamera"), ORIENTATION: Entry(3, 1, b"\6\0")}
    photo = {tag: text("x") for tag in exif.PHOTO_LEFT_OUT - {exif.INTEROP}}
    dialect = Dialect("<")
    end = 8 + len(exif.pack(first, {exif.PHOTO: (photo, {})}, dialect, offset=8))
    blob = b"II*\0\x08\0\0\0"
    blob += exif.pack(first, {exif.PHOTO: (photo, {})}, dialect, offset=8, following=end)
    blob += exif.pack(second, {}, dialect, offset=end)

    assert exif.from_blob(blob) == Exif(image={MAKE: text("Kamera")})


@pytest.mark.parametrize("text_of", ['{"shape": [4, 5, 3]}', "ImageJ=1.11a\nimages=3", "<?xml ?>"])
def test_a_description_that_programs_take_for_the_layout_is_not_read(text_of: str) -> None:
    told = Exif(image={exif.DESCRIPTION: text(text_of), MAKE: text("Kamera")})

    assert exif.from_blob(exif.to_blob(told)) == Exif(image={MAKE: text("Kamera")})


def test_safe_leaves_out_position_serial_numbers_owner_and_comment() -> None:
    private = {0x9286, 0xA420, 0xA430, 0xA431, 0xA435, 0xFDE8, 0xFDE9, 0x9404}
    harmless = {0x9003, EXPOSURE, 0xA434, 0x8827, exif.COLOUR_SPACE}
    told = Exif(
        image={MAKE: text("Kamera"), 0x8298: text("(c)"), 0x013C: text("somebody's computer")},
        photo={tag: text("x") for tag in private | harmless},
        gps={1: text("N")},
    )

    kept = exif.safe(told)

    assert set(kept.image) == {MAKE, 0x8298}
    assert set(kept.photo) == harmless
    assert not kept.gps


def test_sizes_are_changed_only_where_they_are_given() -> None:
    told = Exif(photo={exif.PIXEL_WIDTH: Entry(3, 1, b"\x08\0")})

    changed = exif.resized(told, height=70_000, width=80_000)

    assert changed.photo == {exif.PIXEL_WIDTH: Entry(4, 1, struct.pack("<I", 80_000))}


def test_converted_values_are_said_to_be_srgb() -> None:
    uncalibrated, adobe = Entry(3, 1, b"\xff\xff"), text("R03")
    told = Exif(photo={exif.COLOUR_SPACE: uncalibrated}, interop={1: adobe})

    assert exif.as_srgb(told) == Exif(photo={exif.COLOUR_SPACE: Entry(3, 1, b"\1\0")})


# --- Hostile structures ---


def structure(*rows: tuple[int, int, int, int], count: int | None = None) -> bytes:
    """A little-endian IFD0 of (tag, kind, count, value) at offset 8."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(rows) if count is None else count)
    return head + b"".join(struct.pack("<HHII", *row) for row in rows) + bytes(4)


def test_a_directory_that_contains_itself_is_read_once() -> None:
    looped = structure((MAKE, 2, 4, 0x41414141), (exif.PHOTO, 4, 1, 8), (exif.GPS, 4, 1, 8))

    told = exif.from_blob(looped)

    assert set(told.image) == {MAKE}
    assert set(told.photo) == set(told.gps) == {MAKE}


@pytest.mark.parametrize(
    "row",
    [
        (MAKE, 2, 100, 2**32 - 1),  # beyond the end
        (MAKE, 2, 2**32 - 1, 8),  # longer than the structure
        (MAKE, 12, 2**32 - 1, 8),
        (MAKE, 0, 1, 8),  # of no kind
        (MAKE, 99, 1, 8),
        (MAKE, 2, 0, 8),
        (exif.PHOTO, 4, 1, 0),
        (exif.PHOTO, 4, 1, 2**32 - 1),
    ],
)
def test_an_entry_that_lies_is_left_out_and_counted(row: tuple[int, int, int, int]) -> None:
    told = exif.from_blob(structure((0x0110, 2, 4, 0x41414141), row))

    assert set(told.image) == {0x0110}
    assert told.damaged == 1


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"II*\0",
        b"XX*\0\x08\0\0\0",
        b"II\0\0\x08\0\0\0",
        b"II*\0\0\0\0\0" + bytes(50),
        structure(count=65_535),
        structure((MAKE, 2, 4, 0), count=2),
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**64 - 1),
        struct.pack("<2sHHHQ", b"II", 43, 4, 0, 16) + bytes(50),
    ],
)
def test_what_has_no_first_directory_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"directory|begin"):
        exif.from_blob(blob)


def test_values_that_overlap_cannot_fill_the_memory() -> None:
    rows = [(tag, 1, 2**20, 8) for tag in range(0xB000, 0xB000 + 900)]
    photo = structure(*rows)
    blob = structure((exif.PHOTO, 4, 1, 26)) + photo[8:] + bytes(2**20)

    told = exif.from_blob(blob)

    assert sum(len(entry.data) for entry in told.photo.values()) <= exif.MAX_BYTES
    assert told.damaged == 900 - len(told.photo) > 0
