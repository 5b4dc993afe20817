"""A folder of all kinds of pictures comes through any number of kills as if there had been none.

CLASSSR_ENDURANCE=1000 takes so many pictures.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from classsr.manifest import NAME
from zoo import fill

COUNT = int(os.environ.get("CLASSSR_ENDURANCE", "120"))
KILLS = 10
START = [sys.executable, "-W", "error", "-m", "classsr", "upscale", "--recursive", "--json"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9"),
]


def upscale(photos: Path, out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*START, photos, "-o", out, "--model", "fsrcnn-x4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def results(out: Path) -> dict[str, bytes]:
    """All files but the record, hidden ones included."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != NAME]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_killed_ten_times_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    pictures = dict(fill(tmp_path / "photos", COUNT))
    told, _ = (whole := upscale(tmp_path / "photos", tmp_path / "whole")).communicate()
    reports = [json.loads(line) for line in told.splitlines()]

    rng = random.Random(0)
    for _ in range(KILLS):
        process = upscale(tmp_path / "photos", tmp_path / "broken off")
        done = 0
        wanted = rng.randint(1, COUNT // (2 * KILLS))
        while done < wanted:
            assert process.stdout is not None
            done += "seconds" in json.loads(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
        assert process.returncode == -9
    last = upscale(tmp_path / "photos", tmp_path / "broken off")
    last.communicate()

    good = {
        path.relative_to(tmp_path / "photos").with_name(f"{path.stem}_x4.png").as_posix(): sides
        for path, sides in pictures.items()
        if sides is not None
    }
    assert whole.returncode == last.returncode == 3
    assert results(tmp_path / "broken off") == results(tmp_path / "whole")
    assert set(results(tmp_path / "whole")) == set(good)
    for name, sides in good.items():
        with Image.open(tmp_path / "whole" / name) as result:
            result.load()
            assert sorted(result.size) == sorted(4 * side for side in sides)  # some are turned
    peaks = [report["peak_mib"] for report in reports if "peak_mib" in report]
    assert peaks[-1] < peaks[len(peaks) // 2] + 30
