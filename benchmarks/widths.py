"""What the branches of every backbone cost by the clock, and what routing between the paper's widths can save at most.

    python benchmarks/widths.py --precision f32 bf16

Weights are random, which the clock does not see. Every branch runs in windows of 40 LR pixels (a tile and its halo) and
of 136 (a block of four tiles a side), in turns; the better of both counts. Prints Markdown: seconds, GFLOP/s, the share
of the widest branch in multiply-accumulates and in seconds, and the mean of the shares over the levels of a backbone,
which is what the paper's equal classes cost without overlap and Class-Module.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from classsr.backends import Choice, open_backend
from classsr.checkpoint import save_branch
from classsr.export import export_model
from classsr.networks import BranchSpec, build_branch
from machine import describe, medians, take_turns

LADDERS: dict[str, tuple[BranchSpec, ...]] = {
    "FSRCNN, the paper's": tuple(BranchSpec("fsrcnn", width, 4) for width in (16, 36, 56)),
    "CARN-M, the paper's": tuple(BranchSpec("carn", width, 4) for width in (36, 52, 64)),
    "CARN-M, multiples of 16": tuple(BranchSpec("carn", width, 4) for width in (16, 32, 64)),
    "MSRResNet, the paper's": tuple(BranchSpec("srresnet", width, 4) for width in (36, 52, 64)),
    "MSRResNet, multiples of 16": tuple(BranchSpec("srresnet", width, 4) for width in (16, 32, 64)),
    "compact": tuple(
        BranchSpec("compact", width, 4, depth) for width, depth in ((16, 6), (32, 8), (64, 12))
    ),
}
WINDOWS = (40, 136)  # LR pixels to a side
PIXELS = 24 * 1024  # LR pixels in a batch


def measure(precision: Choice, *, threads: int, repeats: int) -> Iterator[str]:
    """Time all branches in one precision: lines of a Markdown table."""
    backend = open_backend("openvino", precision=precision, threads=threads)
    yield (
        "| levels | branch | thousand MACs per LR pixel | ns per LR pixel | GFLOP/s | MACs, share | seconds, share |"
    )
    yield "|---|---|---|---|---|---|---|"
    for ladder, specs in LADDERS.items():
        seconds, macs = [], []
        for spec in specs:
            with tempfile.TemporaryDirectory() as folder:
                weights = Path(folder) / "branch.safetensors"
                save_branch(build_branch(spec), spec, weights)
                model = export_model(
                    weights, Path(folder) / "model", name="any", tile=32, halos=[4]
                )
                network = backend.branch(model, 0)
            jobs = {}
            for side in WINDOWS:
                count = max(PIXELS // side**2, 1)
                batch = np.random.default_rng(0).random((count, 3, side, side), np.float32)
                jobs[f"{count * side * side}"] = partial(network, batch)
                network(batch)
            found = medians(take_turns(jobs, repeats=repeats))
            seconds.append(min(each / int(pixels) for pixels, each in found.items()))
            macs.append(model.config.levels[0].macs_per_pixel)
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{describe()}\n")
    for precision in options.precision:
        print(f"OpenVINO, {precision}, {options.threads} threads:\n")
        for line in measure(precision, threads=options.threads, repeats=options.repeats):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
