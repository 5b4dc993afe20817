"""ClassSR against its own hardest branch everywhere: the same pictures, the same machine, the same run.

    python benchmarks/run.py                    # what `make bench` runs
    python benchmarks/run.py --pictures 0 --out docs/benchmark.md

The opponent is `--route hardest`: no Class-Module, and tiles as large as waste the fewest pixels on halos. Both run in
one process and take turns, which of the two comes first too; each is run once before the clock counts. Pictures are
the first by name of each set. LR by MATLAB-style bicubic. Prints Markdown.
"""

import argparse
import importlib.metadata
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import classsr
from classsr.data.pairs import to_eight_bit
from classsr.evaluation import read_hr
from classsr.image import Picture, find_pictures, read, write
from classsr.metrics import psnr
from classsr.model import DEFAULT_MODEL
from classsr.report import Report
from classsr.resize import resize
from classsr.upscaler import Upscaler

SETS: dict[str, tuple[str, int | None]] = {
    "Kodak24": ("benchmark/Kodak24/HR", None),
    "large/2k": ("large/2k", None),
    "large/4k": ("large/4k", 3840),
    "large/8k": ("large/8k", None),
}
"""Folder of HR pictures, and the long side that they are shrunk to first."""

ROUTES = ("auto", "hardest")
PACKAGES = ("openvino", "numpy", "pyvips-binary")
STARTS = 5  # processes started for each start-up time


@dataclass(frozen=True, slots=True)
class Run:
    """One route on one picture: the median of its seconds, the last report, and PSNR on RGB in dB."""

    seconds: float
    report: Report
    psnr_rgb: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both routes on one picture."""

    auto: Run
    hardest: Run


def compare(upscaler: Upscaler, lr: NDArray[Any], hr: NDArray[Any], *, repeats: int) -> Comparison:
    """Run both routes in turn, `repeats` times each after one that is not counted."""
    scale = upscaler.model.config.scale
    results = {route: upscaler.upscale(lr, route=route) for route in ROUTES}
    quality = {
        route: psnr(result.image, hr, data_range=255, border=scale)
        for route, result in results.items()
    }
    seconds: dict[str, list[float]] = {route: [] for route in ROUTES}
    for turn in range(repeats):
        for route in ROUTES if turn % 2 == 0 else reversed(ROUTES):
            started = time.perf_counter()
            upscaler.upscale(lr, route=route)
            seconds[route].append(time.perf_counter() - started)
    auto, hardest = (
        Run(statistics.median(seconds[route]), results[route].report, quality[route])
        for route in ROUTES
    )
    return Comparison(auto, hardest)


def compare_set(
    upscaler: Upscaler, folder: Path, *, longest: int | None, pictures: int, repeats: int
) -> Iterator[Comparison]:
    """Compare on the first pictures of a folder by name; 0 means all."""
    for path in find_pictures(folder)[: pictures or None]:
        scale = upscaler.model.config.scale
        hr = read_hr(path, scale=scale, longest=longest)
        yield compare(upscaler, resize(hr, 1 / scale), hr, repeats=repeats)


def row(name: str, comparisons: Sequence[Comparison]) -> str:
    """Sum up one set: means over its pictures; the ratios of seconds also as median and range."""

    def mean(values: list[float]) -> float:
        return statistics.fmean(values)

    autos = [comparison.auto for comparison in comparisons]
    hardests = [comparison.hardest for comparison in comparisons]
    seconds = [mean([run.seconds for run in runs]) for runs in (autos, hardests)]
    ratios = sorted(a.seconds / h.seconds for a, h in zip(autos, hardests, strict=True))
    macs = [mean([run.report.macs / 1e9 for run in runs]) for runs in (autos, hardests)]
    quality = [mean([run.psnr_rgb for run in runs]) for runs in (autos, hardests)]
    tiles = np.sum([run.report.tiles for run in autos], axis=0)
    megapixels = mean([run.report.width * run.report.height / 1e6 for run in autos])
    cells = [
        name,
        str(len(comparisons)),
        f"{megapixels:.1f}",
        f"{seconds[0]:.3f}",
        f"{seconds[1]:.3f}",
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        f"{macs[0]:.2f}",
        f"{macs[1]:.2f}",
        f"{macs[0] / macs[1]:.2f}",
        f"{quality[0]:.2f}",
        f"{quality[1]:.2f}",
        f"{quality[0] - quality[1]:+.3f}",
        " / ".join(f"{100 * share:.0f}" for share in tiles / tiles.sum()),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """\
| set | pictures | SR Mpx | s auto | s hardest | ratio, median (range) | GMACs auto | GMACs hardest | ratio \
| dB auto | dB hardest | difference | tiles per level, % |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def time_process(arguments: Sequence[str | Path]) -> list[float]:
    """Start `classsr ARGUMENTS` several times; return the seconds that the whole process took, sorted."""
    seconds = []
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "classsr", *arguments], check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)


def startup_table(picture: Path, options: Sequence[str]) -> str:
    """Time `classsr --version` and the first output of a 512x512 input, a crop of `picture`."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.png"
        write(Picture(to_eight_bit(read(picture).rgb)[:512, :512]), source)
        size = read(source)
        output = Path(name) / "out.png"
        version = time_process(["--version"])
        first = time_process(["upscale", source, "-o", output, "--overwrite", *options])
    lines = [
        f"| whole process, {STARTS} starts | best, s | median, s |",
        "|---|---|---|",
        f"| `classsr --version` | {version[0]:.2f} | {statistics.median(version):.2f} |",
        f"| `classsr upscale` of {size.width}x{size.height} | {first[0]:.2f} | {statistics.median(first):.2f} |",
    ]
    return "\n".join(lines)


def describe_machine() -> str:
    """Say on what this ran: processor, cores, load, versions, date."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0].partition(":")[2].strip() if models else processor
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = [f"classsr {classsr.__version__}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} (not installed)")
    return (
        f"{processor}, {os.cpu_count()} cores, load {load} before the start; {', '.join(versions)}; "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )


def parse() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="all pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pictures", type=int, default=3, help="of each set; 0: all")
    parser.add_argument("--repeats", type=int, default=5, help="of each route on each picture")
    parser.add_argument("--threads", type=int, help="all cores by default")
    parser.add_argument("--precision", choices=("auto", "f32", "bf16"), default="auto")
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    machine = describe_machine()
    upscaler = Upscaler(options.model, threads=options.threads, precision=options.precision)
    rows = []
    for name in options.sets:
        folder, longest = SETS[name]
        limits = {"longest": longest, "pictures": options.pictures, "repeats": options.repeats}
        rows.append(row(name, list(compare_set(upscaler, options.data / folder, **limits))))
        print(rows[-1], file=sys.stderr)
    passed_on = ["--model", options.model, "--precision", options.precision]
    passed_on += [] if options.threads is None else ["--threads", str(options.threads)]
    first = find_pictures(options.data / SETS["large/2k"][0])[0]
    report = upscaler.upscale(np.zeros((8, 8, 3), np.uint8)).report
    text = "\n".join(
        [
            f"Model {report.model}, {report.backend} {report.precision}. {machine}",
            f"Made by `{shlex.join(['python', 'benchmarks/run.py', *sys.argv[1:]])}`; means over the pictures, "
            f"medians of {options.repeats} runs.",
            "",
            HEAD,
            *rows,
            "",
            startup_table(first, passed_on),
        ]
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
