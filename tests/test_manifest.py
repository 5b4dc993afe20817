"""The record says what is done, whatever moment a process was killed at."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classsr.errors import OutputError
from classsr.jobs import Job
from classsr.manifest import NAME, Manifest


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A picture without a result."""
    (tmp_path / "out").mkdir()
    (tmp_path / "a.png").write_bytes(b"picture")
    return Job(tmp_path / "a.png", tmp_path / "out" / "a_x4.png")


def opened(job: Job, wanted: str = "as ever") -> Manifest:
    return Manifest(job.target.parent, wanted)


def test_nothing_is_done_at_first(job: Job) -> None:
    job.target.write_bytes(b"theirs")

    assert not opened(job).is_done(job)


def test_what_is_done_stays_done(job: Job) -> None:
    manifest = opened(job)
    manifest.begin(job)
    job.target.write_bytes(b"result")
    manifest.finish(job)

    assert manifest.is_done(job)
    assert opened(job).is_done(job)


def test_a_result_that_appeared_after_its_picture_was_begun_is_done(job: Job) -> None:
    opened(job).begin(job)
    assert not opened(job).is_done(job)
    job.target.write_bytes(b"result")

    assert opened(job).is_done(job)


def test_a_file_that_was_there_when_its_picture_was_begun_is_not_taken_for_the_result(
    job: Job,
) -> None:
    job.target.write_bytes(b"theirs")
    opened(job).begin(job)

    assert not opened(job).is_done(job)


def finished(job: Job) -> None:
    manifest = opened(job)
    manifest.begin(job)
    job.target.write_bytes(b"result")
    manifest.finish(job)


def test_other_settings_are_another_result(job: Job) -> None:
    finished(job)

    assert not opened(job, "another route").is_done(job)


def test_a_picture_that_has_changed_is_not_done(job: Job) -> None:
    finished(job)
    job.source.write_bytes(b"another")
    os.utime(job.source, ns=(1, 1))

    assert not opened(job).is_done(job)


def test_a_result_that_has_changed_or_gone_is_not_done(job: Job) -> None:
    finished(job)
    job.target.write_bytes(b"much longer than the result")
    assert not opened(job).is_done(job)
    job.target.unlink()
    assert not opened(job).is_done(job)


def test_another_picture_of_the_same_name_is_not_done(job: Job, tmp_path: Path) -> None:
    finished(job)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy2(job.source, tmp_path / "elsewhere")

    assert not opened(job).is_done(Job(tmp_path / "elsewhere" / "a.png", job.target))


def test_the_folder_may_be_moved_with_its_results(job: Job, tmp_path: Path) -> None:
    finished(job)
    moved = (tmp_path / "out").rename(tmp_path / "moved")

    assert Manifest(moved, "as ever").is_done(Job(job.source, moved / "a_x4.png"))


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0, 1))
def test_a_record_that_is_cut_off_anywhere_can_be_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    jobs = []
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(b"picture")
        jobs.append(Job(folder / f"{name}.png", folder / f"{name}_x4.png"))
        manifest = Manifest(folder, "as ever")
        manifest.begin(jobs[-1])
        jobs[-1].target.write_bytes(b"result")
        manifest.finish(jobs[-1])
    whole = (folder / NAME).read_bytes()
    cut = round(share * len(whole))
    (folder / NAME).write_bytes(whole[:cut])

    manifest = Manifest(folder, "as ever")
    begun = [whole[: cut + 1].count(b'"result": "%b_x4.png"' % name) > 0 for name in (b"a", b"b")]
    for job, was_begun in zip(jobs, begun, strict=True):
        assert was_begun or not manifest.is_done(job)
        job.target.unlink()
        manifest.begin(job)
        job.target.write_bytes(b"result")
        manifest.finish(job)
    assert all(Manifest(folder, "as ever").is_done(job) for job in jobs)


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff new\nline \xf0\x9f\x8c\x84")
    (tmp_path / f"{name}.png").write_bytes(b"picture")
    job = Job(tmp_path / f"{name}.png", tmp_path / f"{name}_x4.png")
    finished(job)

    assert opened(job).is_done(job)


def test_a_missing_picture_is_left_to_whoever_reads_it(tmp_path: Path) -> None:
    job = Job(tmp_path / "absent.png", tmp_path / "absent_x4.png")
    manifest = opened(job)

    manifest.begin(job)
    assert not manifest.is_done(job)


def test_a_record_that_cannot_be_read_or_written_is_told(job: Job) -> None:
    (job.target.parent / NAME).mkdir()

    with pytest.raises(OutputError, match="cannot be read"):
        opened(job)


def test_a_record_that_cannot_be_written_is_told(job: Job) -> None:
    manifest = opened(job)
    (job.target.parent / NAME).mkdir()

    with pytest.raises(OutputError, match="cannot be written"):
        manifest.begin(job)
