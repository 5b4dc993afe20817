"""How much faster a folder is than its pictures one after the other, since reading, networks and writing overlap.

    python benchmarks/folders.py

Enlarges the pictures of Kodak24, halved and saved as JPEG, from files to files: each alone in turn, and all as the
folder command does, alternating, on all processor threads. Prints Markdown: medians and the range of ratios.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from classsr.batch import upscale_files
from classsr.image import PNG, Picture, find_pictures, read, write
from classsr.jobs import Job, Naming, find_jobs
from classsr.model import bundled_models
from classsr.resize import resize
from classsr.upscaler import Upscaler, Wish
from machine import describe, take_turns
from subjects import DATA, SETS
from tables import head, line, median_and_range

WISH = Wish(overwrite=True)


def prepare(data: Path, folder: Path) -> list[Job]:
    """Fill a folder with small pictures, and name their results."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    for path in find_pictures(data / SETS["Kodak24"][0]):
        write(Picture(resize(read(path).rgb, 0.5)), folder / "in" / f"{path.stem}.jpg")
    return find_jobs([folder / "in"], folder / "out", Naming("x4", PNG))


def in_turn(upscaler: Upscaler, jobs: Sequence[Job]) -> None:
    """Enlarge the pictures one after the other."""
    for job in jobs:
        upscaler.upscale_file(job.source, job.target, overwrite=True)


def as_folder(upscaler: Upscaler, jobs: Sequence[Job]) -> None:
    """Enlarge the pictures as a folder."""
    for outcome in upscale_files(upscaler, jobs, WISH):
        if outcome.error is not None:
            raise outcome.error


def outside(upscaler: Upscaler, jobs: Sequence[Job]) -> float:
    """Return the share of the time that is spent on reading and on waiting for the encoder, one after the other."""
    reports = [upscaler.upscale_file(job.source, job.target, overwrite=True) for job in jobs]
    total = sum(report.seconds.total for report in reports)
    return sum(report.seconds.read + report.seconds.write for report in reports) / total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of all pictures")
    parser.add_argument("--models", nargs="+", default=bundled_models(), help="names or folders")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{describe()}\n")
    columns = ["model", "in turn, s", "as a folder, s", "in turn / folder, median (range)"]
    print("\n".join(head(*columns, "reading and writing, share of in turn")))
    with tempfile.TemporaryDirectory() as name:
        jobs = prepare(options.data, Path(name))
        for model in options.models:
            upscaler = Upscaler(model)
            ways = {each.__name__: partial(each, upscaler, jobs) for each in (in_turn, as_folder)}
            share = outside(upscaler, jobs)
            seconds = take_turns(ways, repeats=options.repeats)
            first, second = seconds.values()
            ratios = [one / other for one, other in zip(first, second, strict=True)]
            row = [model, *(f"{statistics.median(each):.2f}" for each in (first, second))]
            print(line(*row, median_and_range(ratios), f"{100 * share:.0f} %"))


if __name__ == "__main__":
    main()
