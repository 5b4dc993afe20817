"""Which pictures are to be enlarged, and where the result of each goes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from classsr.errors import InputError, UsageError
from classsr.files import is_folder
from classsr.image import FORMAT_BY_SUFFIX, Format


@dataclass(frozen=True, slots=True)
class Job:
    """A picture and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Naming:
    """How results are called: NAME_x4.png, where `suffix` is x4. `file_format` None is that of the picture's name."""

    suffix: str
    file_format: Format | None

    def name(self, source: Path) -> str:
        """Return the name of the result of a picture."""
        ending = source.suffix if self.file_format is None else self.file_format.suffixes[0]
        return f"{source.stem}_{self.suffix}{ending}"


def find_jobs(
    inputs: Sequence[Path], output: Path | None, naming: Naming, *, recursive: bool = False
) -> list[Job]:
    """List the pictures that are meant, folders opened, each with where its result goes.

    Args:
        inputs: pictures, and folders of pictures.
        output: the result of a single picture, or a folder: one that exists or, where a folder is among the inputs, one
            that is made. Results of a folder lie in it as the pictures lie in their folder. None is beside the picture.
        naming: how results are called.
        recursive: whether folders inside folders are opened, too.

    Returns:
        Jobs in the order of `inputs`, in folders by name. Hidden files and folders, symbolic links to folders, the
        folder `output` itself, files without a picture's suffix and results of other jobs are left out of folders.

    Raises:
        InputError: a folder holds no picture or cannot be read.
        UsageError: several inputs would be written to one file, or one over another input, or a folder has no output.

    """
    folders = [each for each in inputs if is_folder(each)]
    if folders and (output is None or (os.path.lexists(output) and not is_folder(output))):
        raise UsageError(
            f"Expected -o to name a folder for the results of {folders[0]}; it is made where it is missing."
        )
    into = output if output is not None and (folders or is_folder(output)) else None
    if output is not None and into is None and len(inputs) > 1:
        raise UsageError(
            f"Expected -o to name a folder that exists, for {len(inputs)} inputs, but got {output}."
        )
    jobs: list[Job] = []
    for each in inputs:
        if is_folder(each):
            assert into is not None
            jobs += _in_folder(each, into, naming, recursive=recursive)
        elif output is not None and into is None:
            jobs.append(Job(each, output))
        else:
            folder = each.parent if into is None else into
            jobs.append(Job(each, folder / naming.name(each)))
    _check(jobs)
    return jobs


def _in_folder(folder: Path, into: Path, naming: Naming, *, recursive: bool) -> list[Job]:
    sources = list(_pictures(folder, leave_out=into, recursive=recursive))
    jobs = [
        Job(source, into / source.parent.relative_to(folder) / naming.name(source))
        for source in sources
    ]
    results = {job.target.absolute() for job in jobs}
    jobs = [job for job in jobs if job.source.absolute() not in results]
    if not jobs:
        deeper = "" if recursive else "; --recursive opens the folders in it, too"
        raise InputError(f"{folder} holds no picture; name a folder that does{deeper}.")
    return jobs


def _pictures(folder: Path, *, leave_out: Path, recursive: bool) -> Iterator[Path]:
    """Yield the pictures of a folder by name, those of folders in it after them."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); allow reading it or leave it out."
        ) from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        here = Path(root)
        kept = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(
            name for name in kept if recursive and (here / name).absolute() != leave_out.absolute()
        )
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in FORMAT_BY_SUFFIX:
                yield here / name


def _check(jobs: Sequence[Job]) -> None:
    """Check that every job has a file of its own to write, and that it is none that another job reads."""
    writers: dict[str, Job] = {}
    sources = {_key(job.source): job for job in jobs}
    for job in jobs:
        key = _key(job.target)
        if key in writers:
            raise UsageError(
                f"{writers[key].source} and {job.source} would both be written to {job.target}; enlarge one alone with "
                f"-o, or keep their formats with --format same."
            )
        writers[key] = job
        if sources.get(key, job) != job:
            raise UsageError(
                f"The result of {job.source} would be written over the input {job.target}; leave one of them out."
            )


def _key(path: Path) -> str:
    """Return what is equal for two names of one file."""
    return os.path.normcase(path.absolute())
