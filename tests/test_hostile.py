"""Whatever is given to the command line, it ends with one sentence and the documented code, and leaves nothing behind.

Files that claim more than they hold, names that no terminal can print, what is no file at all, places that take no
file. Most tests call `main` in this process on a NumPy backend; what could hang or break the streams gets one of its
own.
"""

import errno
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from classsr.cli.upscale import pixels_of
from classsr.errors import UsageError
from command_line import INPUT, OUTPUT, CommandLine, Ended, command, noise
from command_line import pixels_of as pixels_in
from fakes import repeat
from fuzzing import make_files
from privileges import as_anybody

FILES = make_files()
SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "avif": ".avif"}


def assert_refused(ended: Ended, code: int, told: str) -> None:
    """One sentence on one line, and the code."""
    assert ended.code == code
    assert re.fullmatch(rf"classsr: .*{told}.*\.\n", ended.err)
    assert ended.out == ""


def names_in(folder: Path) -> set[str]:
    """Everything in a folder, whatever it is."""
    return {path.name for path in folder.iterdir()}


# --- Files that are not what they should be ---


@pytest.mark.parametrize(
    "name",
    [
        *("png", "png interlaced", "png 16 bits", "jpeg", "jpeg progressive", "jpeg cmyk", "webp"),
        *("webp lossless", "tiff", "tiff lzw", "tiff tiled", "avif", "avif alpha"),
    ],
)
def test_a_truncated_file_is_refused_or_nothing_of_the_picture_was_cut_off(
    run: CommandLine, name: str
) -> None:
    file, content = f"a{SUFFIX[name.split()[0]]}", FILES[name]
    (run.folder / file).write_bytes(content)
    assert run("upscale", file, "-o", "whole.tif").code == 0
    refused = 0
    for share in np.linspace(0, 1, 25):
        (run.folder / file).write_bytes(content[: int(share * (len(content) - 1))])

        ended = run("upscale", file, "-o", "cut.tif")

        if ended.code == 0:
            cut, whole = (pixels_in(run.folder / f"{each}.tif") for each in ("cut", "whole"))
            np.testing.assert_array_equal(cut, whole)
            (run.folder / "cut.tif").unlink()
        else:
            refused += 1
            assert_refused(ended, INPUT, rf"{file} .*(truncated|is empty|is not a)")
            assert run.files() == {file, "whole.tif"}
    assert refused >= 20


def test_a_wrong_suffix_does_no_harm(run: CommandLine) -> None:
    (run.folder / "a.png").write_bytes(FILES["jpeg grey"])

    assert run("upscale", "a.png").code == 0


def png(width: int, height: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    """A PNG file of 8-bit grey that claims this size, whatever rows there are."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    data = zlib.compress(rows, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(**changed: tuple[int, int, int]) -> bytes:
    """A TIFF file of 8-bit grey, 10 x 10 pixels, with entries (type, count, value) changed, by number."""
    short, long, rows_at = 3, 4, 400
    entries = {
        256: (long, 1, 10),
        257: (long, 1, 10),
        258: (short, 1, 8),
        259: (short, 1, 1),
        262: (short, 1, 1),
        273: (long, 1, rows_at),
        277: (short, 1, 1),
        278: (long, 1, 10),
        279: (long, 1, 100),
    } | {int(name[1:]): entry for name, entry in changed.items()}
    packed = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed
    return head.ljust(rows_at, b"\0") + bytes(100)


def claiming(name: str, marker: bytes, skip: int, size: bytes) -> bytes:
    """One of the small files with another size written over its own, `skip` bytes after a marker."""
    content = FILES[name]
    at = content.index(marker) + skip
    return content[:at] + size + content[at + len(size) :]


LIMIT = r"claims {0} x {1} pixels, [\d,]+ in all, more than the limit of 1,073,741,824; raise it with --max-pixels"
DAMAGED = r"cannot be decoded as {0} \(.+\); it may be truncated or damaged"

# Content, and what the sentence tells.
BROKEN: dict[str, tuple[bytes, str]] = {
    "zero bytes": (b"", "is empty"),
    "text": (b"Dear diary, this is no picture.\n" * 20, "is not a PNG, JPEG"),
    "a web page": (b"<!DOCTYPE html><html><body>404</body></html>", "is not a PNG, JPEG"),
    "zeros": (bytes(5000), "is not a PNG, JPEG"),
    "a large PNG": (png(100_000, 100_000, bytes(99)), LIMIT.format(100_000, 100_000)),
    "the largest PNG": (png(2**31 - 1, 2**31 - 1, bytes(99)), DAMAGED.format("PNG")),
    "an empty PNG": (png(0, 9, bytes(99)), DAMAGED.format("PNG")),
    "a PNG of few rows": (png(9_000, 9_000, bytes(99)), DAMAGED.format("PNG")),
    "an interlaced PNG of few rows": (
        png(9_000, 9_000, bytes(99), interlaced=True),
        DAMAGED.format("PNG"),
    ),
    "a large JPEG": (
        claiming("jpeg", b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500)),
        LIMIT.format(65_500, 65_500),
    ),
    "a JPEG beyond libjpeg": (
        claiming("jpeg", b"\xff\xc0", 5, struct.pack(">HH", 65_535, 65_535)),
        r"Maximum supported image dimension is 65500 pixels",
    ),
    "a large WebP": (
        claiming("webp", b"VP8X", 12, b"\xff\xff\0\xff\xff\0"),
        DAMAGED.format("WebP"),
    ),
    "a large AVIF": (
        claiming("avif", b"ispe", 8, struct.pack(">II", 100_000, 100_000)),
        LIMIT.format(100_000, 100_000),
    ),
    "the largest AVIF": (
        claiming("avif", b"ispe", 8, b"\xff" * 8),
        r"claims 4294967295 x 4294967295 pixels, which no AVIF file can have",
    ),
    "a high AVIF": (
        claiming("avif", b"ispe", 8, struct.pack(">II", 1, 100_000_001)),
        r"claims 1 x 100000001 pixels, which no AVIF file can have",
    ),
    "an AVIF beyond libheif": (
        claiming("avif", b"ispe", 8, struct.pack(">II", 17_000, 17_000)),
        r"limit exceeded: Image size 17000x17000 exceeds .*; save it as PNG or TIFF",
    ),
    "an AVIF of another size": (
        claiming("avif", b"ispe", 8, struct.pack(">II", 128, 128)),
        DAMAGED.format("AVIF"),
    ),
    "a large TIFF": (
        tiff(t256=(4, 1, 100_000), t257=(4, 1, 100_000)),
        LIMIT.format(100_000, 100_000),
    ),
    "the largest TIFF": (tiff(t256=(4, 1, 2**32 - 1), t257=(4, 1, 2**32 - 1)), r"TIFF"),
    "a TIFF of few rows": (tiff(t256=(4, 1, 9_000), t257=(4, 1, 9_000)), DAMAGED.format("TIFF")),
    "a TIFF of countless strips": (
        tiff(t273=(4, 2**31, 400), t279=(4, 2**31, 400)),
        DAMAGED.format("TIFF"),
    ),
    "a TIFF with strips beyond its end": (tiff(t273=(4, 1, 2**32 - 9)), DAMAGED.format("TIFF")),
    "a TIFF of a giant tile": (
        tiff(t322=(4, 1, 2**31 - 16), t323=(4, 1, 2**31 - 16), t324=(4, 1, 400), t325=(4, 1, 9)),
        DAMAGED.format("TIFF"),
    ),
    "a TIFF of many channels": (tiff(t277=(3, 1, 65_535)), DAMAGED.format("TIFF")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(run: CommandLine, what: str) -> None:
    content, told = BROKEN[what]
    (run.folder / "bad.jpg").write_bytes(content)

    ended = run("upscale", "bad.jpg")

    assert_refused(ended, INPUT, rf"bad\.jpg .*{told}")
    assert run.files() == {"bad.jpg"}
    assert run.backend.calls == []


def test_pages_that_lead_in_a_circle_are_not_followed(run: CommandLine) -> None:
    content = tiff()
    (run.folder / "a.tif").write_bytes(content[:118] + struct.pack("<I", 8) + content[122:])

    assert run("upscale", "a.tif").code == 0


@pytest.mark.parametrize(("limit", "code"), [("599999", INPUT), ("600K", 0)])
def test_a_real_picture_is_refused_from_one_pixel_above_the_limit(
    run: CommandLine, limit: str, code: int
) -> None:
    (run.folder / "a.png").write_bytes(png(6_000, 100, bytes(6_001 * 100)))

    ended = run("upscale", "a.png", "--max-pixels", limit, "--route", "easiest", "-o", "b.tif")

    assert ended.code == code
    assert (run.folder / "b.tif").exists() == (code == 0)


@pytest.mark.parametrize(
    ("text", "pixels"), [("1", 1), ("500M", 500_000_000), ("2g", 2 * 10**9), (" 30k ", 30_000)]
)
def test_a_number_of_pixels_may_have_a_unit(text: str, pixels: int) -> None:
    assert pixels_of(text) == pixels


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "2T", "many", "1e9", "²", "0M"])
def test_a_number_of_pixels_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 500000000, 500M or 2G for --max-pixels"):
        pixels_of(text)


def test_a_picture_that_does_not_fit_into_memory_is_told_and_the_others_are_done(
    run: CommandLine,
) -> None:
    run.add("wide.png", noise(5, 4000))
    run.add("good.png", noise(5, 4))

    def allocate(batch: npt.NDArray[Any], level: int) -> npt.NDArray[Any]:
        if batch.shape[-1] > 200:
            np.empty(2**60, np.uint8)
        return repeat(batch)

    run.backend.enlarge = allocate

    ended = run("upscale", "wide.png", "good.png", "--route", "hardest")

    assert ended.code == INPUT
    assert "wide.png does not fit into memory" in ended.err
    assert run.files() == {"wide.png", "good.png", "good_x4.png"}


# --- What is no file, or not for us ---


def a_circle(folder: Path) -> None:
    (folder / "bad.png").symlink_to(folder / "other.png")
    (folder / "other.png").symlink_to(folder / "bad.png")


def a_broken_link(folder: Path) -> None:
    (folder / "bad.png").symlink_to(folder / "gone.png")


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad.png")


def a_device(folder: Path) -> None:
    (folder / "bad.png").symlink_to("/dev/zero")


def under_a_file(folder: Path) -> None:
    (folder / "bad.png").symlink_to(folder / "good.png" / "bad.png")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (a_circle, r"cannot be read \(Too many levels of symbolic links\)"),
        (a_broken_link, r"cannot be read \(No such file or directory\)"),
        (a_pipe, r"is a pipe or a device, not a file; save the picture to a file first"),
        (a_device, r"is a pipe or a device, not a file; save the picture to a file first"),
        (under_a_file, r"cannot be read \(Not a directory\)"),
    ],
)
def test_what_is_no_file_is_refused(
    run: CommandLine, make: Callable[[Path], None], told: str
) -> None:
    run.add("good.png", noise(3, 4))
    make(run.folder)
    before = names_in(run.folder)

    ended = run("upscale", "bad.png")

    assert_refused(ended, INPUT, rf"bad\.png {told}")
    assert names_in(run.folder) == before


def test_a_file_that_may_not_be_read_is_refused_and_the_others_are_done(run: CommandLine) -> None:
    run.add("bad.png", noise(3, 4))
    run.add("good.png", noise(3, 4))
    (run.folder / "bad.png").chmod(0)

    one = as_anybody(lambda: run("upscale", "bad.png"))
    both = as_anybody(lambda: run("upscale", "bad.png", "good.png"))

    assert_refused(one, INPUT, r"cannot be read \(Permission denied\)")
    assert (both.code, both.err.count("Permission denied")) == (INPUT, 1)
    assert (run.folder / "good_x4.png").is_file()


def test_a_folder_closed_to_writing_is_told_before_anything_is_computed(run: CommandLine) -> None:
    for name in ("photos/a.png", "photos/deep/b.png"):
        (run.folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(3, 4)).save(run.folder / name)
    (run.folder / "out" / "deep").mkdir(parents=True)
    (run.folder / "out" / "deep").chmod(0o500)

    ended = as_anybody(lambda: run("upscale", "photos", "-o", "out", "--recursive"))

    assert_refused(ended, OUTPUT, r"out/deep is closed to writing; choose another place")
    assert names_in(run.folder / "out") == {"deep"}


def alone(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":  # noqa: ANN401 - theirs
    """Run the command line as a process of its own, which must not hang."""
    return subprocess.run(
        command(*arguments), stderr=subprocess.PIPE, check=False, timeout=120, **options
    )


@pytest.mark.parametrize("make", [a_pipe, a_device])
def test_what_has_no_end_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)

    ended = alone("upscale", tmp_path / "bad.png")

    assert ended.returncode == INPUT
    assert b"is a pipe or a device" in ended.stderr
    assert ended.stderr.count(b"\n") == 1


# --- Names ---


NAMES = [
    "a\nb",
    "a\tb",
    "\x1b[31mred\x07",
    "😀 ünï",
    "\udcff\udc80",
    "right\u202eleft",
    "-a",
    "[b]",
    "%s {0}",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_is_no_obstacle(run: CommandLine, name: str) -> None:
    run.add("a.png", noise(3, 4))
    (run.folder / "a.png").rename(run.folder / f"{name}.png")

    ended = run("upscale", "--json", "--", f"{name}.png")

    assert ended.code == 0
    assert names_in(run.folder) == {f"{name}.png", f"{name}_x4.png"}
    assert ended.err.count("\n") == ended.out.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_is_told_on_one_line_that_a_terminal_can_print(
    run: CommandLine, name: str
) -> None:
    ended = run("upscale", "--", f"{name}.png")

    assert_refused(ended, INPUT, "cannot be read")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", ended.err)
    shown = {"a\nb": r"a\nb", "\udcff\udc80": r"\udcff\udc80", "😀 ünï": "😀 ünï"}
    assert shown.get(name, "") in ended.err


def test_an_undecodable_name_is_printed_by_a_process_too(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "\udcff\n.png")

    strange = tmp_path / "\udcff\n.png"
    ended = alone("upscale", strange, "--json", "--route", "easiest", stdout=subprocess.PIPE)

    assert ended.returncode == 0
    assert (ended.stdout.count(b"\n"), ended.stderr.count(b"\n")) == (1, 1)
    assert rb"/\udcff\n_x4.png: 4x4 -> 16x16" in ended.stderr


def test_a_name_that_leaves_no_room_for_the_ending_is_told(run: CommandLine) -> None:
    name = 251 * "n" + ".png"
    run.add("a.png", noise(3, 4))
    (run.folder / "a.png").rename(run.folder / name)

    assert_refused(
        run("upscale", name), OUTPUT, r"_x4\.png cannot be written \(File name too long\); .* -o"
    )
    assert run.files() == {name}
    assert run("upscale", name, "-o", "short.png").code == 0


@pytest.mark.parametrize("option", ["-o", "--routing-map"])
def test_an_output_of_too_long_a_name_is_told(run: CommandLine, option: str) -> None:
    run.add("a.png", noise(3, 4))

    ended = run("upscale", "a.png", option, 300 * "n" + ".png")

    assert_refused(ended, OUTPUT, r"cannot be written \(File name too long\)")
    assert run.files() == {"a.png"}


# --- Places that take no file ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", SUFFIX.values())
def test_a_full_disk_is_told_and_nothing_is_left(
    run: CommandLine, small_disk: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.add("a.png", noise(200, 200))
    ended = run("upscale", "a.png", "-o", f"disk/b{suffix}")
    assert_refused(ended, OUTPUT, r"likely to take [\d.]+ MB but [\d.]+ MB are free where .* lies")
    monkeypatch.setattr("classsr.batch.likely_bytes", lambda header, path: 0)  # too low

    ended = run("upscale", "a.png", "-o", f"disk/b{suffix}")

    assert_refused(ended, OUTPUT, rf"b{suffix} cannot be written \(.*\); make room or choose")
    assert not list(small_disk.iterdir())


def test_no_room_for_standard_input_is_told(small_disk: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        command("upscale", "-", "-o", str(tmp_path / "a.png")),
        input=bytes(100_000),
        env={**os.environ, "TMPDIR": str(small_disk)},
        capture_output=True,
        check=False,
    )

    told = ended.stderr.decode()
    assert ended.returncode == OUTPUT
    assert told.startswith(f"classsr: Standard input cannot be kept in {small_disk} (")
    assert len(told.splitlines()) == 1
    assert not list(small_disk.iterdir())


def test_no_place_for_temporary_files_is_told(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)

    ended = run("upscale", "-", "-o", "a.png")

    assert_refused(ended, OUTPUT, r"No temporary file can be made \(No usable .*\); set TMPDIR")


def test_a_read_only_disk_is_told_before_anything_is_computed(
    run: CommandLine, small_disk: Path
) -> None:
    run.add("a.png", noise(3, 4))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    ended = run("upscale", "a.png", "-o", "disk")

    assert_refused(ended, OUTPUT, r"disk is closed to writing")
    assert run.backend.calls == []


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("/dev/full", r"/dev/full does not end in the suffix"),
        ("full.png", r"full\.png exists already"),
        ("circle.png", r"circle\.png exists already"),
        ("circle.png/b.png", r"the folder circle\.png does not exist"),
        ("a.png/b.png", r"the folder a\.png does not exist"),
        ("pipe.png", r"pipe\.png exists already"),
    ],
)
def test_what_is_no_place_for_a_file_is_told(run: CommandLine, output: str, told: str) -> None:
    run.add("a.png", noise(3, 4))
    (run.folder / "full.png").symlink_to("/dev/full")
    (run.folder / "circle.png").symlink_to("circle.png")
    os.mkfifo(run.folder / "pipe.png")
    before = names_in(run.folder)

    assert_refused(run("upscale", "a.png", "-o", output), OUTPUT, told)
    assert_refused(run("upscale", "a.png", "--routing-map", output), OUTPUT, told)
    assert names_in(run.folder) == before


def test_a_folder_that_vanishes_midway_is_told(run: CommandLine) -> None:
    run.add("a.png", noise(70, 70))
    (run.folder / "out").mkdir()

    def remove(batch: npt.NDArray[Any], level: int) -> npt.NDArray[Any]:
        shutil.rmtree(run.folder / "out", ignore_errors=True)
        return repeat(batch)

    run.backend.enlarge = remove

    ended = run("upscale", "a.png", "-o", "out/b.png")

    assert_refused(ended, OUTPUT, r"out/b\.png cannot be written \(No such file or directory\)")
    assert run.files() == {"a.png"}


def test_a_full_disk_behind_the_standard_output_is_told(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")

    with Path("/dev/full").open("wb") as full:
        ended = alone("upscale", tmp_path / "a.png", "--json", "--route", "easiest", stdout=full)

    assert ended.returncode == OUTPUT
    assert b"standard output cannot be written (No space left" in ended.stderr
    assert ended.stderr.count(b"\n") == 2  # the summary and the sentence
