"""ClassSR against its own hardest branch everywhere and against the research code's way: same machine, same run.

    python benchmarks/run.py --quick                        # a try, two minutes a model
    python benchmarks/run.py --out benchmarks/results.md    # what `make bench` runs: all released models, for hours

(a) the hardest branch over the whole picture, in the fastest of all runtimes, precisions and tiles, which are tried on
the middle of the first picture of every set, and on all of it where they may win; (b) the research code's way, each
tile of 32 at step 28 alone, torch float32; (c) ours; (d) ours at budgets; (e) the hardest level of 8-bit integers
everywhere, where the model has one. All in one process, in turns, each run once before the clock counts. Pictures are
the first by name of each set. Start-up and memory are those of fresh processes.
Prints Markdown.
"""

import argparse
import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from classsr.backends import Choice, open_backend
from classsr.engine import BATCH_PIXELS
from classsr.errors import UsageError
from classsr.image import Picture, write
from classsr.metrics import psnr
from classsr.model import Model, bundled_models, find_model
from classsr.upscaler import Upscaled, Upscaler
from machine import describe, gemm_peak, limit_memory, medians, take_turns
from opponents import Enlarge, Opponent, ResearchWay, find_opponent, hardest, unrouted_window
from processes import memory_table, startup_table
from subjects import DATA, RGB8, SETS, Subject, subjects
from tables import (
    AUTO,
    AUTO_HEAD,
    BUDGET_HEAD,
    FILE_HEAD,
    HARDEST,
    INTEGERS,
    INTEGERS_HEAD,
    RESEARCH,
    RESEARCH_HEAD,
    SPEED_HEAD,
    TRIED_HEAD,
    Run,
    Runs,
    auto_row,
    budget_rows,
    file_row,
    integers_row,
    research_row,
    speed_row,
    tried_row,
)

BUDGETS = (0.2, 0.3, 0.5, 0.8)
CROP = (384, 512)  # LR pixels at most for the research code's way, which takes seconds for these
TRIAL = (96, 128)  # of these to find out with how many threads it is faster

Ways = Mapping[str, Callable[[], RGB8 | Upscaled]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, as the command says. The first number of threads is that of most tables."""

    data: Path
    sets: Sequence[str]
    pictures: int
    repeats: int
    threads: Sequence[int]
    budgets: Sequence[float] = BUDGETS
    research_pictures: int = 2  # of each set
    crop: tuple[int, int] = CROP
    starts: int = 5  # processes for each start-up time


@dataclass(frozen=True, slots=True)
class Measured:
    """All ways on one set: runs on whole pictures, on crops, and, by number of threads, with fewer threads."""

    name: str
    first: Subject
    opponent: Opponent
    runs: list[Runs]
    crops: list[Runs]
    fewer: dict[int, list[Runs]]


def compare(ways: Ways, subject: Subject, *, repeats: int) -> Runs:
    """Run ways in turn, after one run of each that is not counted; leave out budgets that cannot be met."""
    results = {}
    for name, way in ways.items():
        try:
            results[name] = way()
        except UsageError as exc:
            print(f"{subject.name}: {exc}", file=sys.stderr)
    seconds = medians(take_turns({name: ways[name] for name in results}, repeats=repeats))
    border = len(subject.hr) // len(subject.lr)
    runs = {}
    for name, result in results.items():
        image = result.image if isinstance(result, Upscaled) else result
        report = result.report if isinstance(result, Upscaled) else None
        quality = psnr(image, subject.hr, data_range=255, border=border)
        runs[name] = Run(seconds[name], quality, report)
    return runs


def ways(
    lr: RGB8, opponent: Enlarge, upscaler: Upscaler, budgets: Sequence[float] = ()
) -> dict[str, Callable[[], RGB8 | Upscaled]]:
    """Return (a), (c), (d) and (e) for one picture."""
    found: dict[str, Callable[[], RGB8 | Upscaled]] = {
        HARDEST: partial(opponent, lr),
        AUTO: partial(upscaler.upscale, lr),
    }
    integers = [k for k, level in enumerate(upscaler.model.config.levels) if level.quantized]
    if integers:
        found[INTEGERS] = partial(upscaler.upscale, lr, route=str(integers[-1]))
    for budget in budgets:
        found[str(budget)] = partial(upscaler.upscale, lr, budget=budget)
    return found


def predicts_errors(model: Model) -> bool:
    """Whether the model can be given budgets."""
    info = model.config.classifier
    return info is not None and (info.predicts == "log-errors" or info.errors is not None)


def measure_set(name: str, upscaler: Upscaler, settings: Settings) -> Measured:
    """Compare all ways on the first pictures of a set."""
    model, repeats = upscaler.model, settings.repeats
    budgets = settings.budgets if predicts_errors(model) else ()
    most, *less = settings.threads
    fewer = {count: Upscaler(str(model.folder), threads=count) for count in less}
    pictures = subjects(settings.data, name, pictures=settings.pictures, scale=model.config.scale)
    research = ResearchWay(model, threads=most)
    measured: Measured | None = None
    for subject in pictures:
        lr = subject.lr
        if measured is None:
            opponent = find_opponent(upscaler, subject, threads=most)
            research.choose_threads(subject.centre(*TRIAL).lr)
            measured = Measured(name, subject, opponent, [], [], {count: [] for count in less})
        found = ways(lr, measured.opponent.enlarge, upscaler, budgets)
        measured.runs.append(compare(found, subject, repeats=repeats))
        if len(measured.crops) < settings.research_pictures:
            crop = subject.centre(*settings.crop)
            research.tune(crop.lr, upscaler.upscale(crop.lr).levels)
            found = ways(crop.lr, measured.opponent.enlarge, upscaler)
            found[RESEARCH] = partial(research, crop.lr)
            measured.crops.append(compare(found, crop, repeats=repeats))
        for count, other in fewer.items():
            found = ways(lr, partial(hardest, other), other)
            measured.fewer[count].append(compare(found, subject, repeats=repeats))
        print(f"{model.config.name}: {name}, {subject.name}", file=sys.stderr)
    assert measured is not None
    return measured


def measure_speed(model: Model, lr: RGB8, *, threads: int) -> Iterator[str]:
    """Measure GFLOP/s of every branch in the tiles of the hardest branch everywhere, and of matrix products."""
    native = open_backend("openvino", precision="auto", threads=threads).precision
    precisions: list[Choice] = ["f32"] if native == "f32" else [native, "f32"]
    height, width = unrouted_window(model, lr)
    count = max(BATCH_PIXELS // (height * width), 1)
    batch = np.random.default_rng(0).random((count, 3, height, width), np.float32)
    yield f"Windows of {width} x {height}, {count} at a time, OpenVINO; GFLOP/s are 2 x MACs / s.\n"
    yield from SPEED_HEAD
    for precision in precisions:
        backend = open_backend("openvino", precision=precision, threads=threads)
        jobs = {}
        for level in range(len(model.config.levels)):
            network = backend.branch(model, level)
            network(batch)
            jobs[str(level)] = partial(network, batch)
        seconds = take_turns(jobs, repeats=9)
        peak, by = gemm_peak(precision, threads=threads)
        for level, info in enumerate(model.config.levels):
            work = 2e-9 * info.macs_per_pixel * count * height * width
            speeds = [work / each for each in seconds[str(level)]]
            yield speed_row(precision, info.label, speeds, peak, by)


def measure_files(upscaler: Upscaler, measured: Measured, *, repeats: int) -> str:
    """Measure where the time of (c) goes from PNG to PNG."""
    lr = measured.first.lr
    in_memory = [upscaler.upscale(lr).report.seconds.networks for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.png", Path(folder) / "out.png"
        write(Picture(lr), source)
        reports = [upscaler.upscale_file(source, output, overwrite=True) for _ in range(repeats)]
    seconds = [report.seconds for report in reports]
    return file_row(measured.name, measured.first.name, seconds, statistics.median(in_memory))


def measure_model(name: str, settings: Settings) -> Iterator[str]:
    """Measure everything for one model: lines of Markdown."""
    most, *less = settings.threads
    upscaler = Upscaler(name, threads=most)
    model = upscaler.model
    sets = [measure_set(each, upscaler, settings) for each in settings.sets]
    largest, smallest = sets[-1], sets[0]
    report = upscaler.upscale(smallest.first.lr).report
    yield f"## {model.config.name}, {report.backend} {report.precision}, {most} threads\n"
    yield from [*AUTO_HEAD, *(auto_row(each.name, each.runs) for each in sets)]
    rows = [row for each in sets for row in budget_rows(each.name, each.runs, settings.budgets)]
    if rows:
        yield "\nAt budgets, shares of the hardest branch's cost:\n"
        yield from [*BUDGET_HEAD, *rows]
    if all(INTEGERS in runs for each in sets for runs in each.runs):
        yield "\nThe hardest level of 8-bit integers everywhere, (e), in as large tiles as suit it:\n"
        yield from [*INTEGERS_HEAD, *(integers_row(each.name, each.runs) for each in sets)]
    levels = "its argmax"
    if ResearchWay(model, threads=most).predicts_errors:
        levels = (
            "argmin of predicted error + price x MACs, priced to the mean MACs of the levels of (c)"
        )
    yield f"\nThe research code's way, on one thread or {most}, whichever is faster, levels by {levels}."
    yield "The middle of every picture:\n"
    size = f"{settings.crop[1]} x {settings.crop[0]}"
    yield from [*RESEARCH_HEAD, *(research_row(each.name, each.crops, size) for each in sets)]
    yield "\nWhat (a) is, and how many times as long other ways took:\n"
    yield from TRIED_HEAD
    for each in sets:
        best = each.opponent
        yield tried_row(each.name, each.first.name, best.name, best.seconds, best.others)
    for count in less:
        yield f"\nThreads: {count}; here (a) is the engine's own:\n"
        yield from [*AUTO_HEAD, *(auto_row(each.name, each.fewer[count]) for each in sets)]
    yield "\nFrom PNG to PNG, first picture, medians:\n"
    yield from FILE_HEAD
    for each in sets:
        yield measure_files(upscaler, each, repeats=settings.repeats)
    yield ""
    yield from measure_speed(model, largest.first.lr, threads=most)
    options = ["--model", str(model.folder), "--threads", str(most)]
    yield ""
    yield from memory_table({each.name: each.first.lr for each in sets}, options)
    yield ""
    yield from startup_table(largest.first.lr, options, starts=settings.starts)
    yield ""


def parse() -> tuple[Settings, list[str], Path | None]:
    """Parse the arguments: what to measure, on which models, and where to write it."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="all pictures")
    configs = [find_model(name).config for name in bundled_models()]
    routed = [each.name for each in configs if each.classifier is not None]
    parser.add_argument("--models", nargs="+", default=routed, help="names or folders")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pictures", type=int, default=3, help="of each set; 0: all")
    parser.add_argument("--repeats", type=int, default=5, help="of each way on each picture")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({cores, 1}, reverse=True))
    parser.add_argument("--out", type=Path, help="also write the tables into this file")
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it")
    options = parser.parse_args()
    given = (options.data, options.sets, options.pictures, options.repeats, options.threads)
    settings = Settings(*given)
    if options.quick:
        settings = Settings(
            options.data,
            sets=options.sets[:2],
            pictures=1,
            repeats=2,
            threads=options.threads,
            budgets=BUDGETS[1:3],
            research_pictures=1,
            crop=TRIAL,
            starts=2,
        )
    return settings, options.models, options.out


def main() -> None:
    """Measure and print."""
    settings, models, out = parse()
    limit_memory()
    lines = [
        "# Measured\n",
        f"{describe()}\n",
        f"Made by `{shlex.join(['python', 'benchmarks/run.py', *sys.argv[1:]])}`: {(__doc__ or '').splitlines()[0]}",
        "(a) the hardest branch everywhere at its fastest, (b) the research code's way, (c) ours, (d) ours at budgets, "
        "(e) the hardest level of 8-bit integers everywhere; "
        f"seconds from LR to SR in memory, medians of {settings.repeats} runs in turns, means over pictures; PSNR on "
        f"RGB, a border of the scale left out.\n",
    ]
    print("\n".join(lines))
    for model in models:
        for row in measure_model(model, settings):
            print(row, flush=True)
            lines.append(row)
    if out is not None:
        out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
