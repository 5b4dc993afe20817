"""What a user meets who starts the program: seconds until the first output, and memory, each in a fresh process."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from classsr.image import Picture, write
from subjects import RGB8
from tables import head, line


def run_program(*arguments: str) -> str:
    """Run `classsr ARGUMENTS` in a process of its own; return what it prints."""
    command = [sys.executable, "-m", "classsr", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def time_program(*arguments: str, starts: int) -> list[float]:
    """Return the seconds that the whole process took, start by start."""
    seconds = []
    for _ in range(starts):
        started = time.perf_counter()
        run_program(*arguments)
        seconds.append(time.perf_counter() - started)
    return seconds


def startup_table(picture: RGB8, options: Sequence[str], *, starts: int) -> list[str]:
    """Time `classsr --version` and the first output of a 512x512 input, a crop of `picture`."""
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "in.png", Path(name) / "out.png"
        crop = picture[:512, :512]
        write(Picture(crop.copy()), source)
        version = time_program("--version", starts=starts)
        enlarge = ["upscale", str(source), "-o", str(output), "--overwrite", *options]
        first = time_program(*enlarge, starts=starts)
    return [
        *head(f"whole process, {starts} starts", "best, s", "median, s"),
        line("`classsr --version`", f"{min(version):.2f}", f"{statistics.median(version):.2f}"),
        line(
            f"`classsr upscale` of {crop.shape[1]} x {crop.shape[0]}",
            f"{min(first):.2f}",
            f"{statistics.median(first):.2f}",
        ),
    ]


def memory_table(lrs: Mapping[str, RGB8], options: Sequence[str]) -> list[str]:
    """Read how much memory `classsr upscale` held at most, for the LR picture of every set."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "in.png", Path(name) / "out.png"
        for set_name, lr in lrs.items():
            write(Picture(lr), source, overwrite=True)
            peaks = []
            for route in ("auto", "hardest"):
                given = [
                    "upscale",
                    str(source),
                    "-o",
                    str(output),
                    "--overwrite",
                    "--json",
                    *options,
                ]
                report = json.loads(run_program(*given, "--route", route))
                peaks.append(f"{report['peak_mib']:.0f}")
            rows.append(line(set_name, f"{lr.shape[1]} x {lr.shape[0]}", *peaks))
    return [*head("set", "first picture, LR", "MiB at most, auto", "MiB, hardest"), *rows]
