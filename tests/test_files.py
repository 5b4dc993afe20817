"""A file is seen whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from classsr.errors import OutputError
from classsr.files import (
    check_place,
    is_folder,
    publish,
    remove_abandoned,
    temporary_beside,
    write_whole,
)


def test_what_is_written_is_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.bin", b"first")
    write_whole(tmp_path / "a.bin", b"second")

    assert (tmp_path / "a.bin").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("fails", ["os.fsync", "pathlib.Path.replace"])
def test_a_failure_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    write_whole(tmp_path / "a.bin", b"first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fails, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.bin", b"second")

    assert (tmp_path / "a.bin").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_temporary_file_is_hidden_and_gone_in_the_end(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.read_bytes() == b""
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), temporary_beside(tmp_path / "a.png") as temporary:
        fail(temporary)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_links", [False, True])
def test_publishing_takes_a_name_only_where_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")  # what exFAT says

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "a.png"
    for content, overwrite in ((b"first", False), (b"second", True), (b"third", False)):
        with temporary_beside(path) as temporary:
            temporary.write_bytes(content)
            if content == b"third":
                with pytest.raises(FileExistsError):
                    publish(temporary, path, overwrite=overwrite)
            else:
                publish(temporary, path, overwrite=overwrite)

    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys
from pathlib import Path
from classsr.files import temporary_beside
with temporary_beside(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("there", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    for index in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / f"{index}.bin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        if index == 0:
            process.kill()
            process.communicate()
    (tmp_path / ".theirs.part").touch()
    assert len(list(tmp_path.glob(".classsr-*"))) == 2

    remove_abandoned(tmp_path)
    assert len(list(tmp_path.glob(".classsr-*"))) == 1
    process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".theirs.part"]


@pytest.mark.parametrize("name", [300 * "n" + ".png", 20 * (250 * "n" + "/") + "a.png"])
def test_a_name_that_no_system_takes_is_no_folder_and_no_place(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert not is_folder(path)
    with pytest.raises(OutputError, match="cannot be written"):
        check_place(path, overwrite=True)
