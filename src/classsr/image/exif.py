"""EXIF: four small directories of entries, out of a TIFF structure and into one again.

Bytes in, bytes out: knows neither pictures nor libvips. What it reads comes from strangers, so that no offset, count or
size in it is believed. Only what stays true of an enlarged, upright picture is read at all: no orientation, thumbnail,
density or position counted in pixels, and nothing of private structure, whose inner offsets do not survive a move
(MakerNote, PrintIM).
"""

import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Literal

import numpy as np

Read = Callable[[int, int], bytes]
"""Returns `size` bytes at `offset`, fewer where the end comes first."""
Order = Literal["<", ">"]

KIND_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}
SWAPPED_BYTES = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}  # a rational is two numbers
BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16
POINTER_KINDS = {LONG: "I", 13: "I", LONG8: "Q", 18: "Q"}  # IFD and IFD8 beside them

PHOTO, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # entries that point to the other directories
COLOUR_SPACE, GAMMA, PIXEL_WIDTH, PIXEL_HEIGHT = 0xA001, 0xA500, 0xA002, 0xA003
DESCRIPTION = 0x010E
LAYOUT = re.compile(
    rb"\s*(?:\{\"shape\"|ImageJ=|<\?xml|<OME|SCANIMAGE)"
)  # descriptions for programs, with sizes

# Of IFD0: names, dates, rights, the camera, what Windows adds, and ratings. The rest is about how pixels are stored.
IMAGE_TAGS = frozenset(
    {0x010D, DESCRIPTION, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749}
    | {0x8298, *range(0x9C9B, 0x9CA0)}
)
# MakerNote, SubjectArea, the focal plane's pixels, SubjectLocation, padding and its offset.
PHOTO_LEFT_OUT = frozenset(
    {0x927C, 0x9214, 0xA20E, 0xA20F, 0xA210, 0xA214, 0xEA1C, 0xEA1D, INTEROP}
)
INTEROP_TAGS = frozenset({1, 2})  # the rest is about a related file

# What says neither where a picture was taken nor with which copy of a camera.
SAFE_IMAGE_TAGS = IMAGE_TAGS - {0x010D, 0x011D, 0x013C, 0x9C9C}  # names of files and computers
SAFE_PHOTO_TAGS = frozenset(
    {0x829A, 0x829D, 0x8822, 0x8824, 0x8827, *range(0x8830, 0x8836), 0x9000, 0x9003, 0x9004}
    | {0x9010, 0x9011, 0x9012, 0x9101, 0x9102, *range(0x9201, 0x920B), 0x9290, 0x9291, 0x9292}
    | {*range(0xA000, 0xA004), 0xA20B, 0xA215, 0xA217, *range(0xA300, 0xA303)}
    | {*range(0xA401, 0xA40B), 0xA40C, 0xA432, 0xA433, 0xA434, *range(0xA460, 0xA463), GAMMA}
)

MAX_ENTRIES = 1000  # of a directory; cameras write some sixty
MAX_BYTES = 2**24  # of all values, which may overlap in a hostile file


@dataclass(frozen=True, slots=True)
class Entry:
    """Values under a tag: their kind as TIFF numbers it, how many they are, and their bytes, little-endian."""

    kind: int
    count: int
    data: bytes


Directory = Mapping[int, Entry]
"""Entries by tag."""


@dataclass(frozen=True, slots=True)
class Exif:
    """IFD0, the Exif, GPS and interoperability directories, and the byte order that they are written in.

    `damaged` counts what was meant but could not be read.
    """

    image: Directory = field(default_factory=dict)
    photo: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    interop: Directory = field(default_factory=dict)
    order: Order = "<"
    damaged: int = field(default=0, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return not (self.image or self.photo or self.gps or self.interop)

    @property
    def children(self) -> "Children":
        """The directories below IFD0, by the tag that points to them."""
        inner: Children = {INTEROP: (self.interop, {})} if self.interop else {}
        children: Children = {PHOTO: (self.photo, inner)} if self.photo or inner else {}
        return children | {GPS: (self.gps, {})} if self.gps else children


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a TIFF structure writes its numbers: the byte order, and whether it is a BigTIFF."""

    order: Order
    is_big: bool = False

    @property
    def entry(self) -> str:
        """Of an entry: tag, kind, count, and the value or where it stands."""
        return f"{self.order}HHQ8s" if self.is_big else f"{self.order}HHI4s"

    @property
    def count(self) -> str:
        """Of the number of entries before them."""
        return f"{self.order}Q" if self.is_big else f"{self.order}H"

    @property
    def offset(self) -> str:
        """Of a place in the file."""
        return f"{self.order}Q" if self.is_big else f"{self.order}I"


Children = dict[int, tuple[Directory, "Children"]]
"""Directories with their own children, by the tag that points to them."""


# --- In ---


def from_blob(blob: bytes) -> Exif:
    """Read a TIFF structure that fills `blob`; raise ValueError when it is none."""
    return parse(lambda offset, size: blob[offset : offset + size])


def reading(file: IO[bytes]) -> Read:
    """Return what reads from a file at any place that a number can name."""
    end = file.seek(0, os.SEEK_END)

    def read(offset: int, size: int) -> bytes:
        if offset >= end:  # which systems refuse from some offset on
            return b""
        file.seek(offset)
        return file.read(size)

    return read


def parse(read: Read) -> Exif:
    """Read the EXIF of a TIFF structure or file of either byte order, classic or BigTIFF.

    Cost: a few reads, and at most `MAX_BYTES`.

    Raises:
        ValueError: it does not begin as such a structure does, or IFD0 cannot be read.

    """
    dialect, first = read_head(read)
    reader = _Reader(read, dialect)
    image, pointers = reader.directory(first, IMAGE_TAGS.__contains__)
    photo, inner = reader.child(pointers, PHOTO, lambda tag: tag not in PHOTO_LEFT_OUT)
    gps, _ = reader.child(pointers, GPS, lambda _tag: True)
    interop, _ = reader.child(inner, INTEROP, INTEROP_TAGS.__contains__)
    if DESCRIPTION in image and LAYOUT.match(image[DESCRIPTION].data):
        del image[DESCRIPTION]
    return Exif(image, photo, gps, interop, dialect.order, reader.damaged)


def find_values(read: Read, tags: Iterable[int]) -> dict[int, Entry]:
    """Return what IFD0 of a TIFF file has under these tags; raise ValueError as `parse` does."""
    dialect, first = read_head(read)
    found, _ = _Reader(read, dialect).directory(first, frozenset(tags).__contains__)
    return found


def read_head(read: Read) -> tuple[Dialect, int]:
    """Return the dialect of a TIFF structure and where IFD0 begins; raise ValueError when it is none."""
    head = read(0, 16)
    orders: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
    order = orders.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("it does not begin like TIFF")
    version, first = struct.unpack(f"{order}HI", head[2:8])
    if version == 42:
        return Dialect(order), first
    if version != 43 or len(head) < 16 or first != 8 << (16 if order == ">" else 0):
        raise ValueError("it does not begin like TIFF")
    return Dialect(order, is_big=True), struct.unpack(f"{order}Q", head[8:16])[0]


def read_table(read: Read, dialect: Dialect, offset: int) -> tuple[dict[int, bytes], int]:
    """Return the entries of a directory as they stand in the file, by tag, and where the next directory begins.

    Raises ValueError when there is no complete directory at `offset`.
    """
    width = struct.calcsize(dialect.count)
    head = read(offset, width)
    if offset < 8 or len(head) < width:
        raise ValueError("a directory lies beyond its end")
    (count,) = struct.unpack(dialect.count, head)
    entry_bytes = struct.calcsize(dialect.entry)
    if count > MAX_ENTRIES:
        raise ValueError(f"a directory of {count} entries cannot be meant")
    table = read(offset + width, count * entry_bytes + struct.calcsize(dialect.offset))
    if len(table) < count * entry_bytes:
        raise ValueError("a directory goes on beyond its end")
    entries: dict[int, bytes] = {}
    for at in range(0, count * entry_bytes, entry_bytes):
        raw = table[at : at + entry_bytes]
        entries.setdefault(struct.unpack_from(dialect.order + "H", raw)[0], raw)
    last = table[count * entry_bytes :]
    is_whole = len(last) == struct.calcsize(dialect.offset)
    return entries, struct.unpack(dialect.offset, last)[0] if is_whole else 0


class _Reader:
    """Reads the directories of one TIFF structure and counts what is damaged in them."""

    def __init__(self, read: Read, dialect: Dialect) -> None:
        self.damaged = 0
        self._read, self._dialect = read, dialect
        self._left = MAX_BYTES

    def directory(
        self, offset: int, keeps: Callable[[int], bool]
    ) -> tuple[dict[int, Entry], dict[int, int]]:
        """Return the entries that are kept, and where the entries that point to others point to."""
        table, _ = read_table(self._read, self._dialect, offset)
        found: dict[int, Entry] = {}
        pointers: dict[int, int] = {}
        for tag, raw in sorted(table.items()):
            _, kind, count, value = struct.unpack(self._dialect.entry, raw)
            if tag in (PHOTO, GPS, INTEROP) and kind in POINTER_KINDS and count == 1:
                form = self._dialect.order + POINTER_KINDS[kind]
                (pointers[tag],) = struct.unpack_from(form, value.ljust(8, b"\0"))
            elif keeps(tag):
                entry = self._entry(kind, count, value)
                if entry is None:
                    self.damaged += 1
                else:
                    found[tag] = entry
        return found, pointers

    def child(
        self, pointers: Mapping[int, int], tag: int, keeps: Callable[[int], bool]
    ) -> tuple[dict[int, Entry], dict[int, int]]:
        """Return what `directory` does for one that another points to; nothing where there is none to be read."""
        if tag not in pointers:
            return {}, {}
        try:
            return self.directory(pointers[tag], keeps)
        except ValueError:
            self.damaged += 1
            return {}, {}

    def _entry(self, kind: int, count: int, value: bytes) -> Entry | None:
        size = count * KIND_BYTES.get(kind, 0)
        if not 0 < size <= self._left:
            return None
        data = value[:size]
        if size > len(value):
            data = self._read(struct.unpack(self._dialect.offset, value)[0], size)
        if len(data) < size:
            return None
        self._left -= size
        return Entry(kind, count, _swapped(data, kind) if self._dialect.order == ">" else data)


def _swapped(data: bytes, kind: int) -> bytes:
    """Turn the bytes of every number of a value around."""
    width = SWAPPED_BYTES.get(kind, 1)
    return data if width == 1 else np.frombuffer(data, f"u{width}").byteswap().tobytes()


# --- What is kept ---


def safe(exif: Exif) -> Exif:
    """Leave out position, serial numbers, owners, free comments and all that is not known to be harmless."""
    return replace(
        exif,
        image={tag: entry for tag, entry in exif.image.items() if tag in SAFE_IMAGE_TAGS},
        photo={tag: entry for tag, entry in exif.photo.items() if tag in SAFE_PHOTO_TAGS},
        gps={},
    )


def as_srgb(exif: Exif) -> Exif:
    """Say that the values are sRGB, where anything is said about them."""
    photo = {tag: entry for tag, entry in exif.photo.items() if tag != GAMMA}
    if COLOUR_SPACE in photo:
        photo[COLOUR_SPACE] = Entry(SHORT, 1, struct.pack("<H", 1))
    return replace(exif, photo=photo, interop={})


def resized(exif: Exif, *, height: int, width: int) -> Exif:
    """Give the size of the picture, where one is given."""
    sides = {PIXEL_WIDTH: width, PIXEL_HEIGHT: height}
    changed = {
        tag: Entry(LONG, 1, struct.pack("<I", side))
        for tag, side in sides.items()
        if tag in exif.photo
    }
    return replace(exif, photo={**exif.photo, **changed})


# --- Out ---


def to_blob(exif: Exif) -> bytes:
    """Return the TIFF structure that says this, in its byte order."""
    dialect = Dialect(exif.order)
    head = struct.pack(f"{exif.order}2sHI", b"II" if exif.order == "<" else b"MM", 42, 8)
    return head + pack(exif.image, exif.children, dialect, offset=8)


def pack(
    directory: Directory,
    children: Children,
    dialect: Dialect,
    *,
    offset: int,
    others: Mapping[int, bytes] | None = None,
    following: int = 0,
) -> bytes:
    """Return the bytes of a directory, its values and its children, which are to stand at `offset`, an even one.

    Args:
        directory: the entries.
        children: what is to follow, with entries that point there.
        dialect: of the file.
        offset: where the bytes will stand.
        others: entries by tag as they stand in this very file, which come before others of that tag.
        following: where the next directory of the file stands.

    """
    table = dict(others or {})
    inline = 8 if dialect.is_big else 4
    count = len({*table, *directory, *children})
    start = struct.calcsize(dialect.count) + struct.calcsize(dialect.offset)
    start += count * struct.calcsize(dialect.entry)  # where values begin
    body = bytearray(start % 2)
    for tag, entry in directory.items():
        if tag in table:
            continue
        value = _swapped(entry.data, entry.kind) if dialect.order == ">" else entry.data
        if len(value) > inline:
            at = struct.pack(dialect.offset, offset + start + len(body))
            body += value + bytes(len(value) % 2)
            value = at
        table[tag] = struct.pack(
            dialect.entry, tag, entry.kind, entry.count, value.ljust(inline, b"\0")
        )
    for tag, (child, grandchildren) in children.items():
        at = struct.pack(dialect.offset, offset + start + len(body))
        table[tag] = struct.pack(dialect.entry, tag, LONG8 if dialect.is_big else LONG, 1, at)
        body += pack(child, grandchildren, dialect, offset=offset + start + len(body))
    assert len(table) == count
    entries = b"".join(table[tag] for tag in sorted(table))
    return (
        struct.pack(dialect.count, count)
        + entries
        + struct.pack(dialect.offset, following)
        + bytes(body)
    )
