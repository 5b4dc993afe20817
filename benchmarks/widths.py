"""What the branches of every backbone cost by the clock, and what routing between the paper's widths can save at most.

    python benchmarks/widths.py --precision f32 bf16

Weights are random, which the clock does not see. Every branch runs in windows of 40 LR pixels (a tile and its halo) and
of 136 (a block of four tiles a side), in turns; the better of both counts. Prints Markdown: seconds, GFLOP/s, the share
of the widest branch in multiply-accumulates and in seconds, and the mean of the shares over the levels of a backbone,
which is what the paper's equal classes cost without overlap and Class-Module.

Then the same branches, plain bicubic before them, behind the Class-Module of compact-x4, on the first picture of each
set, routed and with the hardest branch everywhere in turns. The plan takes the levels to err as those of compact-x4 do,
and goes by the costs of these, so that the clock shows what such widths allow; PSNR would show nothing. What random
weights make of a picture is none, so that results are looked at, as always, but never run again.
"""

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from classsr.backends import Backend, Choice, open_backend
from classsr.checkpoint import load_classsr, save_branch, save_classsr
from classsr.export import export_model
from classsr.model import DEFAULT_MODEL, Model, find_model
from classsr.networks import BranchSpec, ClassSR, ErrorClassifier, build_branch
from classsr.upscaler import Upscaler
from machine import describe, medians, take_turns
from subjects import DATA, SETS, subjects

EASY = (BranchSpec("compact", 16, 4, 6), BranchSpec("compact", 32, 4, 8))
LADDERS: dict[str, tuple[BranchSpec, ...]] = {
    "FSRCNN, the paper's": tuple(BranchSpec("fsrcnn", width, 4) for width in (16, 36, 56)),
    "CARN-M, the paper's": tuple(BranchSpec("carn", width, 4) for width in (36, 52, 64)),
    "CARN-M, multiples of 16": tuple(BranchSpec("carn", width, 4) for width in (16, 32, 64)),
    "MSRResNet, the paper's": tuple(BranchSpec("srresnet", width, 4) for width in (36, 52, 64)),
    "MSRResNet, multiples of 16": tuple(BranchSpec("srresnet", width, 4) for width in (16, 32, 64)),
    "CARN-M above compact": (*EASY, BranchSpec("carn", 64, 4)),
    "MSRResNet above compact": (*EASY, BranchSpec("srresnet", 64, 4)),
    "compact": (*EASY, BranchSpec("compact", 64, 4, 12)),
}
WINDOWS = (40, 136)  # LR pixels to a side
PIXELS = 24 * 1024  # LR pixels in a batch


def time_branch(spec: BranchSpec, backend: Backend, *, repeats: int) -> tuple[float, int]:
    """Return seconds and multiply-accumulates per LR pixel of a branch with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "branch.safetensors"
        save_branch(build_branch(spec), spec, weights)
        model = export_model(weights, Path(folder) / "model", name="any", tile=32, halos=[4])
        network = backend.branch(model, 0)
    jobs = {}
    for side in WINDOWS:
        count = max(PIXELS // side**2, 1)
        batch = np.random.default_rng(0).random((count, 3, side, side), np.float32)
        jobs[f"{count * side * side}"] = partial(network, batch)
        network(batch)
    found = medians(take_turns(jobs, repeats=repeats))
    seconds = min(each / int(pixels) for pixels, each in found.items())
    return seconds, model.config.levels[0].macs_per_pixel


def measure(precision: Choice, *, threads: int, repeats: int) -> Iterator[str]:
    """Time all branches in one precision: lines of a Markdown table."""
    backend = open_backend("openvino", precision=precision, threads=threads)
    yield (
        "| levels | branch | thousand MACs per LR pixel | ns per LR pixel | GFLOP/s | MACs, share | seconds, share |"
    )
    yield "|---|---|---|---|---|---|---|"
    for ladder, specs in LADDERS.items():
        timed = [time_branch(spec, backend, repeats=repeats) for spec in specs]
        seconds, macs = zip(*timed, strict=True)
        for spec, each, work in zip(specs, seconds, macs, strict=True):
            name = f"{spec.width}" if spec.depth is None else f"{spec.width}x{spec.depth}"
            yield (
                f"| {ladder} | {name} | {work / 1e3:,.0f} | {1e9 * each:,.0f} | {2e-9 * work / each:,.0f} "
                f"| {work / macs[-1]:.2f} | {each / seconds[-1]:.2f} |"
            )
        yield (
            f"| {ladder} | mean | | | | {statistics.mean(macs) / macs[-1]:.2f} "
            f"| {statistics.mean(seconds) / seconds[-1]:.2f} |"
        )


def behind_a_lent_classifier(specs: Sequence[BranchSpec], folder: Path) -> Model:
    """Make a model of bicubic and these branches, their weights random, with the Class-Module of compact-x4."""
    lender = find_model(DEFAULT_MODEL)
    lent = load_classsr(lender.path(lender.config.weights)).classifier
    first = BranchSpec("bicubic", None, lender.config.scale)
    model = ClassSR([first, *specs], ErrorClassifier(len(lender.config.levels)))
    model.classifier.load_state_dict(lent.state_dict())
    save_classsr(model, folder / "all.safetensors")
    halos = [level.halo for level in lender.config.levels]
    return export_model(
        folder / "all.safetensors", folder / "model", name="any", tile=32, halos=halos
    )


def measure_routed(precision: Choice, *, data: Path, threads: int, repeats: int) -> Iterator[str]:
    """Time whole pictures, routed and not: lines of a Markdown table."""
    yield "| levels | set | tiles per level, % | seconds, routed | seconds, hardest branch | ratio |"
    yield "|---|---|---|---|---|---|"
    for ladder, specs in LADDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            model = behind_a_lent_classifier(specs, Path(folder))
            upscaler = Upscaler(str(model.folder), precision=precision, threads=threads)
            for name in SETS:
                (subject,) = subjects(data, name, pictures=1, scale=model.config.scale)
                jobs = {
                    "routed": partial(upscaler.upscale, subject.lr),
                    "hardest": partial(upscaler.upscale, subject.lr, route="hardest"),
                }
                with patch.multiple("classsr.guard", SUSPECT=math.inf, WRONG=math.inf):
                    shares = jobs["routed"]().report.shares
                    found = medians(take_turns(jobs, repeats=repeats))
                levels = " / ".join(f"{100 * share:.0f}" for share in shares)
                yield (
                    f"| {ladder} | {name} | {levels} | {found['routed']:.2f} | {found['hardest']:.2f} "
                    f"| {found['routed'] / found['hardest']:.2f} |"
                )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5, help="of each window; pictures take two")
    parser.add_argument("--data", type=Path, default=DATA, help="all pictures")
    options = parser.parse_args()
    print(f"{describe()}\n")
    for precision in options.precision:
        print(f"OpenVINO, {precision}, {options.threads} threads:\n")
        for line in measure(precision, threads=options.threads, repeats=options.repeats):
            print(line, flush=True)
        print()
        for line in measure_routed(
            precision, data=options.data, threads=options.threads, repeats=2
        ):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
