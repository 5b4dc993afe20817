"""Whatever a file holds, it is read as the picture that its header tells of, or it is refused with InputError.

Real files of every kind are broken at random; `fuzzing.py` makes and breaks them. What crashes a library would end the
tests, so most of it happens in a process of its own, whose last line then is the seed to look into.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzzing
from classsr.errors import InputError
from classsr.image import FORMATS, open_picture
from classsr.image.formats import format_of
from fuzzing import Edit, Kind, broken, draw, make_files, try_to_read

FILES = make_files()

edits = st.builds(
    Edit,
    st.sampled_from(get_args(Kind)),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 300),
    st.integers(0, 2**16 - 1),
)


@pytest.mark.parametrize("name", FILES)
def test_before_it_is_broken_every_file_can_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "whole").write_bytes(broken(FILES[name], [], mended=True))
    if name == "tiff float":
        with (
            pytest.raises(InputError, match="samples of type float"),
            open_picture(tmp_path / "whole"),
        ):
            pass
        return
    with open_picture(tmp_path / "whole") as reader:
        sides = {reader.header.height, reader.header.width}
        assert sides == {fuzzing.HEIGHT, fuzzing.WIDTH}


def test_every_format_is_among_the_files(tmp_path: Path) -> None:
    found = set()
    for content in FILES.values():
        (tmp_path / "a").write_bytes(content)
        found.add(format_of(tmp_path / "a").name)
    assert found == {file_format.name for file_format in FORMATS}


@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(FILES)),
    changes=st.lists(edits, min_size=1, max_size=4),
    mended=st.booleans(),
)
def test_a_broken_file_is_read_by_its_header_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: Sequence[Edit], mended: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(broken(FILES[name], changes, mended=mended))
    try_to_read(path)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for the memory")
@pytest.mark.parametrize(
    ("first", "count"), [(0, 1_200), pytest.param(2_000, 6_000, marks=pytest.mark.slow)]
)
def test_broken_files_neither_crash_nor_hang_nor_leak(first: int, count: int) -> None:
    command = [sys.executable, fuzzing.__file__, str(first), str(count)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    except subprocess.TimeoutExpired as exc:
        pytest.fail(f"hangs: {about((exc.stdout or b'').decode())}")
    assert ended.returncode == 0, f"{about(ended.stdout)}\n{ended.stderr[-2000:]}"
    told = json.loads(ended.stdout.splitlines()[-1])
    ours = ("pages or frames", "left out")  # warnings of pages and of damaged metadata
    others = [line for line in ended.stderr.splitlines() if not any(each in line for each in ours)]
    assert not others
    assert told["open"] == 0
    assert (
        told["mib"] < 40
    )  # a thousand pictures of 40 x 56 pixels kept would be 7, their files' buffers more
    assert 0.1 * count < told["readable"] < 0.9 * count  # broken neither too little nor too much


def about(printed: str) -> str:
    """What a process was at when it ended."""
    seeds = [line for line in printed.splitlines() if line.isdecimal()]
    return (
        f"seed {seeds[-1]}: {draw(int(seeds[-1]), sorted(FILES))}" if seeds else "before any seed"
    )
