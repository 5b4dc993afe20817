"""Inputs become pictures with a place for every result, and no result falls onto another file."""

from pathlib import Path

import pytest

from classsr.errors import InputError, UsageError
from classsr.image import FORMAT_BY_SUFFIX, PNG
from classsr.jobs import Job, Naming, find_jobs

NAMING = Naming("x4", PNG)
SAME = Naming("x4", None)


def make(folder: Path, *names: str) -> list[Path]:
    """Put empty files into a folder."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def targets(jobs: list[Job], folder: Path) -> list[str]:
    return [job.target.relative_to(folder).as_posix() for job in jobs]


def test_a_result_lies_beside_its_picture(tmp_path: Path) -> None:
    (source,) = make(tmp_path, "deep/photo.one.jpg")

    assert find_jobs([source], None, NAMING) == [Job(source, source.with_name("photo.one_x4.png"))]


def test_a_result_may_get_a_name_or_a_folder_that_exists(tmp_path: Path) -> None:
    first, second = make(tmp_path, "a.jpg", "b/b.jpg")

    assert find_jobs([first], tmp_path / "c.tif", NAMING) == [Job(first, tmp_path / "c.tif")]
    jobs = find_jobs([first, second], tmp_path / "b", NAMING)
    assert targets(jobs, tmp_path) == ["b/a_x4.png", "b/b_x4.png"]


@pytest.mark.parametrize("suffix", FORMAT_BY_SUFFIX)
def test_a_result_keeps_the_format_where_that_is_wanted(tmp_path: Path, suffix: str) -> None:
    (source,) = make(tmp_path, f"a{suffix.upper()}")

    assert find_jobs([source], None, SAME)[0].target == tmp_path / f"a_x4{suffix.upper()}"


def test_the_tree_of_a_folder_is_mirrored(tmp_path: Path) -> None:
    make(tmp_path / "in", "b.png", "a.jpg", "z/c.tif", "z/y/d.webp", "notes.txt", "z/.hidden.png")
    make(tmp_path / "in", ".thumbnails/e.png")

    jobs = find_jobs([tmp_path / "in"], tmp_path / "out", NAMING, recursive=True)

    assert targets(jobs, tmp_path / "out") == [
        "a_x4.png",
        "b_x4.png",
        "z/c_x4.png",
        "z/y/d_x4.png",
    ]
    assert not (tmp_path / "out").exists()


def test_folders_inside_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "z/b.png")

    jobs = find_jobs([tmp_path / "in"], tmp_path / "out", NAMING)

    assert targets(jobs, tmp_path / "out") == ["a_x4.png"]


def test_folders_and_pictures_may_be_mixed(tmp_path: Path) -> None:
    (single,) = make(tmp_path, "a.png")
    make(tmp_path / "in", "b.png")

    jobs = find_jobs([single, tmp_path / "in"], tmp_path / "out", NAMING)

    assert targets(jobs, tmp_path / "out") == ["a_x4.png", "b_x4.png"]


def test_results_inside_the_folder_are_not_enlarged_again(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "out/a_x4.png", "out/deep/b_x4.png")

    jobs = find_jobs([tmp_path], tmp_path / "out", NAMING, recursive=True)

    assert targets(jobs, tmp_path) == ["out/a_x4.png"]


def test_results_beside_their_pictures_are_not_enlarged_again(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a_x4.png")

    assert find_jobs([tmp_path], tmp_path, NAMING) == [
        Job(tmp_path / "a.png", tmp_path / "a_x4.png")
    ]


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "z/b.png")
    (tmp_path / "in" / "z" / "up").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "self.png").symlink_to("self.png")

    jobs = find_jobs([tmp_path / "in"], tmp_path / "out", NAMING, recursive=True)

    assert targets(jobs, tmp_path / "out") == ["a_x4.png", "self_x4.png", "z/b_x4.png"]


def test_two_pictures_that_would_have_one_result_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.jpg", "a.png")

    with pytest.raises(
        UsageError, match=r"a\.jpg and .*a\.png would both be written to .*a_x4\.png.*--format same"
    ):
        find_jobs([tmp_path / "in"], tmp_path / "out", NAMING)
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out", SAME)
    assert targets(jobs, tmp_path / "out") == ["a_x4.jpg", "a_x4.png"]


def test_a_result_is_not_written_over_another_input(tmp_path: Path) -> None:
    first, second = make(tmp_path, "a.jpg", "a_x4.png")

    with pytest.raises(UsageError, match=r"a\.jpg would be written over the input .*a_x4\.png"):
        find_jobs([first, second], None, NAMING)


def test_the_same_picture_twice_is_refused(tmp_path: Path) -> None:
    (source,) = make(tmp_path, "a.jpg")

    with pytest.raises(UsageError, match="would both be written"):
        find_jobs([source, tmp_path / "." / "a.jpg"], None, NAMING)


def test_a_folder_needs_a_folder_for_its_results(tmp_path: Path) -> None:
    (source,) = make(tmp_path, "a.jpg")

    for output in (None, source):
        with pytest.raises(UsageError, match="Expected -o to name a folder"):
            find_jobs([tmp_path], output, NAMING)


def test_many_inputs_need_a_folder_that_exists(tmp_path: Path) -> None:
    sources = make(tmp_path, "a.jpg", "b.jpg")

    with pytest.raises(UsageError, match="folder that exists, for 2 inputs"):
        find_jobs(sources, tmp_path / "c.png", NAMING)


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    make(tmp_path / "in", "notes.txt", "z/a.png")

    with pytest.raises(InputError, match=r"holds no picture.*--recursive"):
        find_jobs([tmp_path / "in"], tmp_path / "out", NAMING)
