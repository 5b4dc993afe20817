"""Files that are seen whole or not at all, also after a power cut or on a full disk."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from classsr.errors import OutputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, down to the disk, then give it its own: what was there before stays until then.

    Raises:
        OSError: it cannot be written; nothing is left behind.

    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; not so, too, where a name is too long, for which `Path.is_dir` raises."""
    try:
        return path.is_dir()
    except OSError:
        return False


def check_place(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be put at `path`.

    Raises:
        OutputError: the folder is missing or closed to writing, the name is too long for it, or the file exists and
            `overwrite` is False.

    """
    folder = path.parent
    if not is_folder(folder):
        raise OutputError(
            f"{path} cannot be written because the folder {folder} does not exist; create it first."
        )
    if is_folder(path):
        raise OutputError(f"{path} is a folder; name a file.")
    if _exists(path) and not overwrite:
        raise OutputError(
            f"{path} exists already; choose another name or allow it with --overwrite."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path} cannot be written because the folder {folder} is closed to writing; choose another."
        )


def _exists(path: Path) -> bool:
    """Return whether something has this name, a broken link included."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as exc:  # the name is too long, above all: NAME_x4.png is longer than NAME.png
        raise OutputError(
            f"{path} cannot be written ({exc.strerror or exc}); name another file with -o."
        ) from exc
    return True


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Create an empty hidden file beside `path`, and see to it that it is gone in the end."""
    # Not made from the name of `path`, which may already be as long as a file system allows.
    temporary = path.with_name(f".classsr-{secrets.token_hex(8)}.part")
    with temporary.open("xb") as file:
        try:
            with suppress(OSError):  # a file system that knows no locks
                _lock(file)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files that processes have left in a folder which were killed."""
    for path in folder.glob(".classsr-*.part"):
        with suppress(OSError), path.open("rb+") as file:  # in use, or not ours to delete
            _lock(file)
            path.unlink()


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep other processes that ask for the same file out while the block runs; not so on Windows.

    Raises:
        BlockingIOError: another process is in.
        OSError: the file is missing and cannot be made.

    """
    with path.open("ab") as file:
        try:
            _lock(file)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system that knows no locks
        yield


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed, at the latest by the end of the process; raise OSError where it is locked."""
    if sys.platform == "win32":
        file.close()  # a file that is open can neither be renamed nor deleted there, which is lock enough
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name in one step; without `overwrite`, raise FileExistsError where it is taken."""
    if overwrite:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links (exFAT, some network drives): take the name, then the place
        path.touch(exist_ok=False)
        temporary.replace(path)
