"""Many pictures in turn are the same as each alone, and one that fails harms no other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classsr.batch import Outcome, upscale_files
from classsr.costs import by_macs
from classsr.errors import OutputError
from classsr.jobs import Job
from classsr.manifest import Manifest
from classsr.model import find_model
from classsr.sizes import Size
from classsr.upscaler import Upscaler, Wish
from fakes import FakeBackend

WISH = Wish()


@pytest.fixture
def upscaler(monkeypatch: pytest.MonkeyPatch) -> Upscaler:
    """Enlarges by repetition."""
    monkeypatch.setattr("classsr.upscaler.open_backend", lambda name, **options: FakeBackend())
    return Upscaler("fsrcnn-x4", costs=by_macs(find_model("fsrcnn-x4").config))


def make(folder: Path, *sides: int) -> list[Job]:
    """Write pictures of noise, as wide as is said, and name their results."""
    jobs = []
    for index, side in enumerate(sides):
        source = folder / f"{index}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (20, side, 3), np.uint8)
        Image.fromarray(pixels).save(source)
        jobs.append(Job(source, folder / f"{index}_x4.png"))
    return jobs


def kinds(outcomes: list[Outcome]) -> list[str]:
    """What became of every picture, in a word."""
    return [
        "done" if each.report else "there" if each.error is None else type(each.error).__name__
        for each in outcomes
    ]


def results(jobs: list[Job]) -> list[bytes | None]:
    return [job.target.read_bytes() if job.target.exists() else None for job in jobs]


def test_many_are_the_same_as_each_alone(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 7, 100, 64)
    outcomes = list(upscale_files(upscaler, jobs, WISH))
    together = results(jobs)
    for job in jobs:
        job.target.unlink()
        upscaler.upscale_file(job.source, job.target)

    assert kinds(outcomes) == ["done"] * 4
    assert [each.job for each in outcomes] == jobs
    assert together == results(jobs)


def test_reports_name_their_files_and_sizes(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 7)
    for outcome in upscale_files(upscaler, jobs, Wish(size=Size(scale=2))):
        assert outcome.report is not None
        assert outcome.report.input == str(outcome.job.source)
        assert outcome.report.output == str(outcome.job.target)
        with Image.open(outcome.job.source) as source, Image.open(outcome.job.target) as target:
            assert (outcome.report.input_width, outcome.report.input_height) == source.size
            assert (outcome.report.width, outcome.report.height) == target.size
            assert target.size == (2 * source.width, 2 * source.height)


@pytest.mark.parametrize("bad", range(3))
def test_a_bad_picture_harms_no_other(upscaler: Upscaler, tmp_path: Path, bad: int) -> None:
    jobs = make(tmp_path, 30, 7, 50)
    jobs[bad].source.write_bytes(jobs[bad].source.read_bytes()[:200])

    outcomes = list(upscale_files(upscaler, jobs, WISH))

    expected = ["done"] * 3
    expected[bad] = "InputError"
    assert kinds(outcomes) == expected
    assert [each.job for each in outcomes] == jobs
    assert [result is not None for result in results(jobs)] == [n != bad for n in range(3)]


def test_a_result_that_cannot_be_written_harms_no_other(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 7, 50)
    jobs[1].target.mkdir()

    assert kinds(list(upscale_files(upscaler, jobs, WISH))) == ["done", "OutputError", "done"]


def test_a_size_out_of_reach_harms_no_other(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 100, 7, 50)
    outcomes = list(upscale_files(upscaler, jobs, Wish(size=Size(width=150))))

    assert kinds(outcomes) == ["done", "UsageError", "done"]


def test_what_exists_is_an_error_or_skipped_or_replaced(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 7)
    jobs[0].target.write_bytes(b"theirs")

    assert kinds(list(upscale_files(upscaler, jobs, WISH))) == ["OutputError", "done"]
    assert kinds(list(upscale_files(upscaler, jobs, WISH, skip_existing=True))) == ["there"] * 2
    assert jobs[0].target.read_bytes() == b"theirs"
    assert kinds(list(upscale_files(upscaler, jobs, Wish(overwrite=True)))) == ["done"] * 2
    assert jobs[0].target.read_bytes() != b"theirs"


def test_what_the_manifest_knows_is_not_done_again(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 7)
    first = list(upscale_files(upscaler, jobs[:1], WISH, manifest=Manifest(tmp_path, "s")))
    second = list(upscale_files(upscaler, jobs, WISH, manifest=Manifest(tmp_path, "s")))

    assert (kinds(first), kinds(second)) == (["done"], ["there", "done"])


def test_folders_of_results_are_made_with_a_manifest(upscaler: Upscaler, tmp_path: Path) -> None:
    (job,) = make(tmp_path, 30)
    deep = Job(job.source, tmp_path / "deep" / "er" / "0_x4.png")

    assert kinds(list(upscale_files(upscaler, [deep], WISH))) == ["OutputError"]
    manifest = Manifest(tmp_path / "deep", "s")
    assert kinds(list(upscale_files(upscaler, [deep], WISH, manifest=manifest))) == ["done"]


def test_a_picture_that_cannot_be_begun_leaves_the_next_its_own_result(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    jobs = [
        Job(job.source, tmp_path / f"out {index}" / "x.png")
        for index, job in enumerate(make(tmp_path, 30, 7, 50, 20))
    ]
    (tmp_path / "out 1").write_bytes(b"no folder")

    outcomes = list(upscale_files(upscaler, jobs, WISH, manifest=Manifest(tmp_path, "s")))

    assert kinds(outcomes) == ["done", "OutputError", "done", "done"]
    for job in (jobs[0], *jobs[2:]):
        with Image.open(job.source) as source, Image.open(job.target) as target:
            expected = np.asarray(source).repeat(4, axis=0).repeat(4, axis=1)
            np.testing.assert_array_equal(np.asarray(target), expected)


def test_progress_goes_by_pixels_and_ends_at_all_of_them(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    jobs = make(tmp_path, 30, 10, 60)
    told: list[tuple[Job, float]] = []

    list(upscale_files(upscaler, jobs, WISH, progress=lambda job, share: told.append((job, share))))

    shares = [share for _, share in told]
    assert shares == sorted(shares)
    last = dict(told)
    assert [last[job] for job in jobs] == pytest.approx([0.3, 0.4, 1.0])


def test_pictures_that_cannot_be_read_count_as_nothing(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 10)
    jobs[0].source.write_bytes(b"")
    told: list[float] = []

    list(upscale_files(upscaler, jobs, WISH, progress=lambda _, share: told.append(share)))

    assert told[-1] == 1.0


def test_a_run_that_is_left_leaves_no_half_result(upscaler: Upscaler, tmp_path: Path) -> None:
    jobs = make(tmp_path, 30, 10, 60, 20)
    outcomes = upscale_files(upscaler, jobs, WISH)
    next(outcomes)
    outcomes.close()

    assert {path.name for path in tmp_path.iterdir()} == {
        *(job.source.name for job in jobs),
        jobs[0].target.name,
    }


def test_a_disk_that_is_too_small_is_told_before_anything_is_done(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make(tmp_path, 30, 10)
    monkeypatch.setattr("classsr.batch.likely_bytes", lambda header, path: 2**60)

    with pytest.raises(OutputError, match=r"likely to take [\d.]+ GB but [\d.]+ .B are free"):
        list(upscale_files(upscaler, jobs, WISH))
    assert results(jobs) == [None, None]
