"""IPTC-IIM, the older record of captions and rights: checked, without previews, in and out of Photoshop's wrapping."""

import struct

SIGNATURE = b"Photoshop 3.0\0"  # how the segment of a JPEG file begins
RESOURCE = b"8BIM"
IIM_RESOURCE = 0x0404
MARKER = 0x1C  # before every data set
PREVIEWS = frozenset({200, 201, 202})  # data sets of record 2
RECORDS = (1, 6)  # the first and the last that describe; above lies the object itself


def cleaned(iim: bytes) -> bytes | None:
    """Return the data sets without previews of the small picture; None where none are left.

    Raises:
        ValueError: they are damaged.

    """
    kept, at, last = bytearray(), 0, len(iim.rstrip(b"\0"))  # zeros fill up to four bytes
    while at < last:
        if iim[at] != MARKER or len(iim) < at + 5:
            raise ValueError("a data set does not begin where it should")
        record, number, size = struct.unpack_from(">BBH", iim, at + 1)
        begin = at + 5
        if size & 0x8000:  # more than 32 KiB: this many bytes are the size
            begin += size & 0x7FFF
            size = int.from_bytes(iim[at + 5 : min(begin, at + 13)], "big")
        end = begin + size
        if end > len(iim):
            raise ValueError("a data set goes on beyond its end")
        is_preview = record == 2 and number in PREVIEWS
        if RECORDS[0] <= record <= RECORDS[1] and not is_preview:
            kept += iim[at:end]
        at = end
    return bytes(kept) or None


def unwrapped(segment: bytes) -> bytes | None:
    """Return the data sets among the resources that Photoshop puts into a JPEG file; None where there are none.

    Raises:
        ValueError: the resources are damaged.

    """
    if not segment.startswith(SIGNATURE):
        return None
    at = len(SIGNATURE)
    while segment[at : at + 4] == RESOURCE:
        name_at = at + 6
        size_at = name_at + (segment[name_at : name_at + 1] or b"\0")[0] // 2 * 2 + 2
        if len(segment) < size_at + 4:
            raise ValueError("a resource goes on beyond its end")
        (size,) = struct.unpack_from(">I", segment, size_at)
        content = segment[size_at + 4 : size_at + 4 + size]
        if len(content) < size:
            raise ValueError("a resource goes on beyond its end")
        if struct.unpack_from(">H", segment, at + 4)[0] == IIM_RESOURCE:
            return content
        at = size_at + 4 + size + size % 2
    return None


def wrapped(iim: bytes) -> bytes:
    """Return the content of a JPEG segment that holds these data sets."""
    head = SIGNATURE + RESOURCE + struct.pack(">HHI", IIM_RESOURCE, 0, len(iim))
    return head + iim + bytes(len(iim) % 2)


def swapped(iim: bytes) -> bytes:
    """Undo the swapping that some programs do when they store the data sets as numbers of four bytes."""
    if iim[:1] == bytes([MARKER]) or iim[3:4] != bytes([MARKER]):
        return iim
    return b"".join(iim[at : at + 4][::-1] for at in range(0, len(iim), 4))
