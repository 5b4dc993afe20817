"""Many pictures in turn: while one is enlarged, the next is read and the one before is written.

A picture that fails does not stop the others. With a `Manifest`, what is done already is not done again.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from classsr.engine import Planned
from classsr.errors import ClassSRError, InputError, OutputError, UsageError
from classsr.files import is_folder, remove_abandoned
from classsr.image import Header, likely_bytes, read_header
from classsr.jobs import Job
from classsr.manifest import Manifest
from classsr.report import Report
from classsr.source import Opening, ahead
from classsr.upscaler import Unfinished, Upscaler, Wish

Progress = Callable[[Job, float], None]
"""Called with the picture that is enlarged and the share of all pixels that are done, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a picture: a report, or an error, or neither where its result was there already."""

    job: Job
    report: Report | None = None
    error: ClassSRError | None = None


def upscale_files(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    wish: Wish,
    *,
    skip_existing: bool = False,
    manifest: Manifest | None = None,
    routing_map: Path | None = None,
    progress: Progress = lambda job, share: None,
    planned: Planned = lambda plan: None,
) -> Generator[Outcome, None, None]:
    """Enlarge pictures from files to files.

    Args:
        upscaler: enlarges them.
        jobs: the pictures, and where their results go.
        wish: how they are to be enlarged.
        skip_existing: whether a picture is left out where a file lies in the place of its result.
        manifest: knows what was done before, and is told what is done. With one, folders that are missing are
            made, and what a killed process left half-written is removed.
        routing_map: also draw the level of every tile of the only picture into this file.
        progress: called while pictures are enlarged.
        planned: called with the plan of every picture before it is run.

    Yields:
        What became of every picture: first those that were done already, then the others, in the order of `jobs`.

    Raises:
        OutputError: a folder of results is closed to writing, or they are not likely to fit on the disk.

    """
    to_do: list[Job] = []
    for job in jobs:
        if (skip_existing and os.path.lexists(job.target)) or (manifest and manifest.is_done(job)):
            yield Outcome(job)
        else:
            to_do.append(job)
    if manifest is not None:
        for folder in {job.target.parent for job in jobs}:
            remove_abandoned(folder)
    _check_folders(to_do)
    headers = [_header(job, wish) for job in to_do]
    _check_room(to_do, headers, wish, upscaler.model.config.scale)
    meter = _Meter(headers)
    reading = _ReadingAhead([wish.opening(job.source) for job in to_do])
    last: tuple[Job, Unfinished] | None = None
    try:
        for index, job in enumerate(to_do):

            def update(share: float, job: Job = job, index: int = index) -> None:
                progress(job, meter.share(index, share))

            outcome = begun = None
            try:
                if manifest is not None:
                    _make_folder(job.target.parent)
                    manifest.begin(job)
                begun = upscaler.begin_file(
                    job.source,
                    job.target,
                    wish,
                    opening=reading.take(index),
                    routing_map=routing_map,
                    progress=update,
                    planned=planned,
                )
            except ClassSRError as exc:
                outcome = Outcome(job, error=exc)
            ended, last = last, (job, begun) if begun is not None else None
            if ended is not None:
                yield _finish(*ended, manifest)
            if outcome is not None:
                yield outcome
        if last is not None:
            ended, last = last, None
            yield _finish(*ended, manifest)
    finally:
        reading.stop()
        if last is not None:
            last[1].abandon()


def _finish(job: Job, begun: Unfinished, manifest: Manifest | None) -> Outcome:
    try:
        report = begun.finish()
        if manifest is not None:
            manifest.finish(job)
    except ClassSRError as exc:
        return Outcome(job, error=exc)
    return Outcome(job, report)


def _header(job: Job, wish: Wish) -> Header | None:
    """Return the header of a picture; None where it cannot be read, which is told in its turn."""
    with suppress(InputError):
        return read_header(job.source, max_pixels=wish.max_pixels)
    return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(
            f"The folder {folder} cannot be made ({exc.strerror}); choose another place."
        ) from exc


def _nearest_folder(path: Path) -> Path:
    """Return the folder that a file lies in, or the one above in which that would be made."""
    return next(folder for folder in path.absolute().parents if is_folder(folder))


def _check_folders(jobs: Sequence[Job]) -> None:
    """Check that no result is to go where nothing may be written."""
    for folder in sorted({_nearest_folder(job.target) for job in jobs}):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"The folder {folder} is closed to writing; choose another place.")


def _check_room(
    jobs: Sequence[Job], headers: Sequence[Header | None], wish: Wish, scale: int
) -> None:
    """Check that the results are likely to fit on their disks."""
    wanted: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    for job, header in zip(jobs, headers, strict=True):
        place = _nearest_folder(job.target)
        disk = place.stat().st_dev
        places[disk] = place
        with suppress(UsageError, OutputError):  # told in its turn
            if header is not None:
                wanted[disk] += likely_bytes(wish.size_of(header, most=scale), job.target)
    for disk, place in places.items():
        free = shutil.disk_usage(place).free
        if wanted[disk] > free:
            raise OutputError(
                f"The results are likely to take {_size(wanted[disk])} but {_size(free)} are free where "
                f"{place} lies; make room or choose another place."
            )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class _Meter:
    """The share of all pixels that is done."""

    def __init__(self, headers: Sequence[Header | None]) -> None:
        sizes = [0 if each is None else each.height * each.width for each in headers]
        self._sizes, self._total = sizes, max(sum(sizes), 1)

    def share(self, index: int, share: float) -> float:
        """Return it for this share of one picture, those before it done."""
        return (sum(self._sizes[:index]) + share * self._sizes[index]) / self._total


class _ReadingAhead:
    """Reads the picture after the one that was asked for last, on a thread of its own."""

    def __init__(self, openings: Sequence[Opening]) -> None:
        self._openings = openings
        self._pool = ThreadPoolExecutor(1, "classsr-reading")
        self._begun: tuple[int, Future[Opening]] | None = None

    def take(self, index: int) -> Opening:
        """Return what opens a picture; raise InputError where it was read and cannot be."""
        begun, self._begun = self._begun, None
        try:
            if begun is None or begun[0] != index:
                return self._openings[index]
            return begun[1].result()
        except MemoryError:  # there may be enough for it alone
            return self._openings[index]
        finally:
            following = index + 1
            if following < len(self._openings):
                self._begun = following, self._pool.submit(ahead, self._openings[following])

    def stop(self) -> None:
        """Read no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
