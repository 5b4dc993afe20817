"""Folders, sizes, formats and pipes through the command line."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import INPUT, OUTPUT, USAGE, Array, CommandLine, noise, pixels_of
from fakes import enlarged_by_repetition


@pytest.fixture
def photos(run: CommandLine) -> dict[str, Array]:
    """A folder with pictures on two floors, by their names without suffix."""
    (run.folder / "photos" / "trip").mkdir(parents=True)
    names = ["photos/a", "photos/b", "photos/trip/c"]
    return {
        name: run.add(f"{name}.png", noise(10, 12, seed=seed)) for seed, name in enumerate(names)
    }


def is_enlarged(run: CommandLine, photos: dict[str, Array], name: str) -> bool:
    result = run.folder / "out" / f"{Path(name).relative_to('photos')}_x4.png"
    return np.array_equal(pixels_of(result), enlarged_by_repetition(photos[name]))


def test_a_folder_is_enlarged_with_all_folders_in_it(
    run: CommandLine, photos: dict[str, Array]
) -> None:
    ended = run("upscale", "photos", "-o", "out", "--recursive")

    assert ended.code == 0
    assert all(is_enlarged(run, photos, name) for name in photos)
    assert ended.err.splitlines()[-1] == "3 enlarged, 0 there already, 0 failed"
    assert len(run.files()) == 3 + 3 + 1  # pictures, results, the record


def test_the_same_command_again_does_nothing(run: CommandLine, photos: dict[str, Array]) -> None:
    run("upscale", "photos", "-o", "out", "--recursive")
    before = {path: (run.folder / path).stat().st_mtime_ns for path in run.files()}
    ended = run("upscale", "photos", "-o", "out", "--recursive", "--json")

    assert ended.code == 0
    assert ended.err.splitlines() == ["0 enlarged, 3 there already, 0 failed"]
    assert [json.loads(line)["skipped"] for line in ended.out.splitlines()] == [True] * 3
    assert {path: (run.folder / path).stat().st_mtime_ns for path in run.files()} == before


def test_what_is_new_or_changed_is_enlarged(run: CommandLine, photos: dict[str, Array]) -> None:
    run("upscale", "photos", "-o", "out")
    run.add("photos/d.png", noise(5, 5))
    photos["photos/a"] = run.add("photos/a.png", noise(6, 6, seed=7))
    ended = run("upscale", "photos", "-o", "out", "--overwrite")

    assert ended.err.splitlines()[-1] == "2 enlarged, 1 there already, 0 failed"
    assert is_enlarged(run, photos, "photos/a")


def test_other_options_do_not_pass_for_the_same(run: CommandLine, photos: dict[str, Array]) -> None:
    run("upscale", "photos", "-o", "out")
    ended = run("upscale", "photos", "-o", "out", "--route", "easiest")

    assert ended.code == OUTPUT
    assert "a_x4.png exists already; choose another name or allow it with --overwrite" in ended.err
    assert run("upscale", "photos", "-o", "out", "--route", "easiest", "--skip-existing").code == 0


def test_a_bad_picture_is_listed_in_the_end(run: CommandLine, photos: dict[str, Array]) -> None:
    (run.folder / "photos" / "b.png").write_bytes(b"no picture")
    ended = run("upscale", "photos", "-o", "out", "-r")

    assert ended.code == INPUT
    assert ended.err.splitlines()[-2:] == [
        "2 enlarged, 0 there already, 1 failed",
        f"failed: {Path('photos', 'b.png')}",
    ]
    assert is_enlarged(run, photos, "photos/a")
    assert is_enlarged(run, photos, "photos/trip/c")


def test_pictures_that_would_collide_are_told_before_any_work(
    run: CommandLine, photos: dict[str, Array]
) -> None:
    run.add("photos/a.jpg", noise(4, 4))
    ended = run("upscale", "photos", "-o", "out")

    assert ended.code == USAGE
    assert "would both be written to" in ended.err
    assert not (run.folder / "out").exists()
    assert run("upscale", "photos", "-o", "out", "--format", "same").code == 0
    assert (run.folder / "out" / "a_x4.jpg").exists()


@pytest.mark.parametrize(
    ("options", "size", "name"),
    [
        (["--scale", "2"], (24, 20), "a_x2.png"),
        (["--scale", "2.5"], (30, 25), "a_x2.5.png"),
        (["--scale", "3"], (36, 30), "a_x3.png"),
        (["--scale", "4"], (48, 40), "a_x4.png"),
        (["--width", "31"], (31, 26), "a_31w.png"),
        (["--height", "30"], (36, 30), "a_30h.png"),
        (["--fit", "40x30"], (36, 30), "a_40x30.png"),
    ],
)
def test_a_result_has_the_size_that_is_asked_for(
    run: CommandLine, options: list[str], size: tuple[int, int], name: str
) -> None:
    run.add("a.png", noise(10, 12))
    ended = run("upscale", "a.png", *options, "--json")

    assert ended.code == 0
    with Image.open(run.folder / name) as opened:
        assert opened.size == size
    told = json.loads(ended.out)
    assert (told["input_width"], told["input_height"], told["width"], told["height"]) == (
        *(12, 10),
        *size,
    )
    assert f"12x10 -> {size[0]}x{size[1]}" in ended.err


def test_a_size_out_of_reach_is_told_with_its_picture(
    run: CommandLine, photos: dict[str, Array]
) -> None:
    run.add("photos/small.png", noise(2, 3))
    ended = run("upscale", "photos", "-o", "out", "--width", "13")

    assert ended.code == USAGE
    assert f"classsr: {Path('photos', 'small.png')}: Expected a result of 1 to 4 times" in ended.err
    assert "2 enlarged, 0 there already, 1 failed" in ended.err


def test_flat_colour_is_kept_at_any_size(run: CommandLine) -> None:
    run.add("a.png", np.full((10, 12, 3), (200, 100, 7), np.uint8))
    run("upscale", "a.png", "--scale", "2.7")

    assert (pixels_of(run.folder / "a_x2.7.png") == (200, 100, 7)).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--scale", "5"], "1 to 4 times"),
        (["--scale", "0"], "above 0"),
        (["--scale", "2", "--width", "30"], "one of a scale"),
        (["--fit", "40"], "a box such as 3840x2160"),
        (["--width", "11"], "1 to 4 times"),
        (["--overwrite", "--skip-existing"], "--skip-existing"),
        (["-o", "b.png", "--format", "jpg"], "no --format"),
        (["--format", "gif"], "--format"),
    ],
)
def test_what_cannot_be_meant_is_told(run: CommandLine, options: list[str], told: str) -> None:
    run.add("a.png", noise(10, 12))
    ended = run("upscale", "a.png", *options)

    assert ended.code == USAGE
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
    assert run.files() == {"a.png"}


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tif", "avif"])
def test_results_are_written_in_the_format_that_is_asked_for(run: CommandLine, name: str) -> None:
    run.add("a.png", noise(10, 12))

    assert run("upscale", "a.png", "--format", name).code == 0
    with Image.open(run.folder / f"a_x4.{name}") as opened:
        assert opened.size == (48, 40)


def test_options_may_stand_in_the_environment(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.add("a.png", noise(10, 12))
    monkeypatch.setenv("CLASSSR_MODEL", "fsrcnn-x4")

    assert json.loads(run("upscale", "a.png", "--json").out)["model"] == "fsrcnn-x4"
    monkeypatch.setenv("CLASSSR_THREADS", "none")
    assert run("upscale", "a.png").code == USAGE


# --- Pipes ---

START = [sys.executable, "-W", "error", "-m", "classsr", "upscale", "--model", "bicubic"]


def as_png(pixels: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_picture_goes_from_a_pipe_into_a_pipe(tmp_path: Path) -> None:
    given = as_png(noise(10, 12))
    (tmp_path / "a.png").write_bytes(given)
    ended = subprocess.run([*START, "-"], input=given, capture_output=True, check=True)
    subprocess.run([*START, tmp_path / "a.png"], check=True)

    assert ended.stdout == (tmp_path / "a_x4.png").read_bytes()
    assert ended.stderr.startswith(b"<stdout>: 12x10 -> 48x40")


@pytest.mark.parametrize(
    ("options", "kind"), [([], "PNG"), (["--format", "jpg"], "JPEG"), (["--format", "tif"], "TIFF")]
)
def test_a_pipe_carries_any_format(tmp_path: Path, options: list[str], kind: str) -> None:
    Image.fromarray(noise(10, 12)).save(tmp_path / "a.webp")
    ended = subprocess.run(
        [*START, tmp_path / "a.webp", "-o", "-", *options], capture_output=True, check=True
    )

    with Image.open(io.BytesIO(ended.stdout)) as opened:
        assert (opened.format, opened.size) == (kind, (48, 40))


def test_a_pipe_may_end_in_a_file(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    ended = subprocess.run(
        [*START, "-", "-o", target, "--json"],
        input=as_png(noise(10, 12)),
        capture_output=True,
        check=True,
    )

    told = json.loads(ended.stdout)
    assert (told["input"], told["output"]) == ("<stdin>", str(target))
    assert pixels_of(tmp_path / "a.png").shape == (40, 48, 3)


Ask = Callable[[Path], list[str | Path]]


@pytest.mark.parametrize(
    ("arguments", "given", "code", "told"),
    [
        (["-"], b"", INPUT, "classsr: <stdin> is empty"),
        (["-"], b"no picture", INPUT, "classsr: <stdin> is not a PNG"),
        (["-", "-o", "nowhere/a.png"], as_png(noise(1, 1)), OUTPUT, "nowhere"),
        (["-", "a.png"], b"", USAGE, "one picture where - stands"),
        (["-", "--json"], b"", USAGE, "not both"),
        (["-", "--format", "same"], b"", USAGE, "--format"),
    ],
)
def test_what_cannot_come_from_a_pipe_is_told(
    tmp_path: Path, arguments: list[str], given: bytes, code: int, told: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ended = subprocess.run(
        [*START, *arguments],
        input=given,
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary)},
    )

    assert (ended.returncode, ended.stdout) == (code, b"")
    assert told in ended.stderr.decode()
    assert len(ended.stderr.splitlines()) == 1
    assert list(temporary.iterdir()) == []


def test_a_reader_that_leaves_early_is_no_crash(tmp_path: Path) -> None:
    given = as_png(noise(400, 400))
    process = subprocess.Popen(
        [*START, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate(given)

    assert process.returncode == OUTPUT
    assert "Traceback" not in told.decode()
