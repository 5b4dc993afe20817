"""PNG files hold what they were given, by a reader of their own after the specification."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from classsr.image import png
from classsr.image.metadata import NO_METADATA, Metadata

Array = npt.NDArray[Any]

CHANNELS_BY_COLOUR_TYPE = {0: 1, 4: 2, 2: 3, 6: 4}


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and contents, with their checksums checked."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        inside = content[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", content, at + 8 + length) == (zlib.crc32(kind + inside),)
        found.append((kind, inside))
        at += 12 + length
    return found


def samples_of(content: bytes) -> Array:
    """(H, W, channels), of a file whose rows are all less those above them."""
    chunks = chunks_of(content)
    assert chunks[0][0] == b"IHDR"
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [0, 0, 0]
    # zlib checks the Adler-32.
    stream = zlib.decompress(b"".join(inside for kind, inside in chunks if kind == b"IDAT"))
    rows = np.frombuffer(stream, np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()
    above = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    samples: Array = np.ascontiguousarray(above).view(f">u{depth // 8}").astype(f"u{depth // 8}")
    return samples.reshape(height, width, CHANNELS_BY_COLOUR_TYPE[colour])


def save(samples: Array, path: Path, metadata: Metadata = NO_METADATA) -> bytes:
    png.save(pyvips.Image.new_from_array(samples), path, metadata, lambda: False)
    return path.read_bytes()


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    is_flat=st.booleans(),
    piece=st.sampled_from([1, 100, 1000, png.PIECE_BYTES]),
)
@settings(max_examples=200)
def test_a_file_holds_the_samples(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    channels: int,
    dtype: npt.DTypeLike,
    is_flat: bool,
    piece: int,
) -> None:
    """In one piece or many, that compress or do not."""
    high = 2 if is_flat else np.iinfo(np.dtype(dtype)).max
    samples = np.random.default_rng(height).integers(0, high, (height, width, channels), dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "PIECE_BYTES", piece)
        content = save(samples, tmp_path_factory.mktemp("law") / "a.png")
    np.testing.assert_array_equal(samples_of(content), samples, strict=True)


def test_a_file_is_the_same_however_many_cores_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).integers(0, 9, (500, 300, 3), np.uint8)
    monkeypatch.setattr(png, "PIECE_BYTES", 10_000)
    contents = set()
    for cores in (1, 3, 64):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        contents.add(save(samples, tmp_path / "a.png"))
    assert len(contents) == 1


def test_all_that_is_told_stands_before_the_pixels(tmp_path: Path) -> None:
    """The profile must, and readers that stop at the pixels want the rest there, too."""
    image = pyvips.Image.black(5, 4).copy(xres=2, yres=3)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"profile")
    png.save(image, tmp_path / "a.png", Metadata(b"exif", b"xmp"), lambda: False)
    chunks = chunks_of((tmp_path / "a.png").read_bytes())
    kinds = [kind for kind, _ in chunks]
    assert kinds[:5] == [b"IHDR", b"pHYs", b"iCCP", b"eXIf", b"iTXt"]
    assert set(kinds[5:-1]) == {b"IDAT"}
    assert chunks[-1] == (b"IEND", b"")
    assert dict(chunks)[b"pHYs"] == struct.pack(">IIB", 2000, 3000, 1)
    name, packed = dict(chunks)[b"iCCP"].split(b"\0\0", 1)
    assert (0 < len(name) < 80, zlib.decompress(packed)) == (True, b"profile")


def test_rows_are_fetched_only_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture higher than memory would not fit otherwise; and nothing is fetched once it is broken off."""
    monkeypatch.setattr(png, "PIECE_BYTES", 1000)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    written = tmp_path / "a.png"
    samples = np.random.default_rng(0).integers(0, 255, (400, 1000), np.uint8)
    asked, ahead = 0, []

    def is_broken_off() -> bool:
        nonlocal asked
        asked += 1
        ahead.append(1000 * asked - written.stat().st_size)
        return asked == 300

    png.save(pyvips.Image.new_from_array(samples), written, NO_METADATA, is_broken_off)
    assert asked == 300
    assert max(ahead) < 1000 * 7 + 2 * 8192  # pieces in work, and what waits for the disk
