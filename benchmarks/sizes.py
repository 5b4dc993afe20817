"""How good compact is for what it costs, by width and depth: the study behind the levels of compact-x4.

    python benchmarks/sizes.py --pairs PAIRS --work WORK

PAIRS is a folder of `classsr data pack --config configs/compact-x4-3.toml`; WORK keeps what is trained, so that an
interrupted study goes on. Every size learns equally long, from scratch, in the same way: far too short for its best,
but alike. PSNR is that of the mean error of 1,024 patches of pictures that were held out; time is that of OpenVINO on
all threads. `hull` marks the sizes that no mixture of two others beats at their cost. Markdown on stdout.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from classsr.backends import open_backend
from classsr.data.pairs import open_pairs
from classsr.networks import BranchSpec
from classsr.training.config import Config
from classsr.training.loop import METRICS
from classsr.training.stages import Experiment, train_branch
from machine import describe
from tables import head, line
from widths import time_branch

SIZES = (
    (16, 4),
    (16, 6),
    (16, 10),
    (32, 4),
    (32, 8),
    (32, 16),
    (48, 8),
    (64, 6),
    (64, 12),
    (64, 16),
)
SCALE = 4


def config(width: int, depth: int, iterations: int) -> Config:
    """Return the training of one size; a config needs two branches, the second is never trained."""
    branch = {"network": "compact", "width": width, "depth": depth}
    schedule = {
        "optimizer": "soap",
        "iterations": iterations,
        "batch": 8,
        "learning_rate": 1e-3,
        "patches": "all",
        "patch_size": 48,
        "loss": "l2",
        "validate_every": 500,
    }
    return Config.model_validate(
        {
            "name": f"compact-{width}x{depth}",
            "seed": 1,
            "model": {"scale": SCALE, "branches": [branch, branch]},
            "data": {"validation_pictures": 24},
            "branch": schedule,
        }
    )


def quality(options: argparse.Namespace, width: int, depth: int) -> float:
    """Train one size and return its PSNR in the end."""
    run = options.work / f"{width}x{depth}"
    experiment = Experiment(
        config(width, depth, options.iterations), open_pairs(options.pairs), run
    )
    train_branch(experiment, 0)
    lines = (run / "branch-0" / METRICS).read_text(encoding="utf-8").splitlines()
    scores = [json.loads(each) for each in lines]
    return float([score["psnr"] for score in scores if "psnr" in score][-1])


def on_hull(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark the points (cost, quality) that no line between two others passes above, and none reaches for less."""
    found = []
    for cost, score in points:
        best = max(other for other_cost, other in points if other_cost <= cost)
        above = [
            low + (high - low) * (cost - left) / (right - left)
            for left, low in points
            for right, high in points
            if left < cost < right
        ]
        found.append(score >= max([best, *above]))
    return found


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="packed training pairs")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is trained")
    parser.add_argument("--iterations", type=int, default=3_000)
    parser.add_argument("--threads", type=int, default=1, help="of the training")
    parser.add_argument("--precision", choices=("f32", "bf16", "auto"), default="auto")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    scores = [quality(options, width, depth) for width, depth in SIZES]
    backend = open_backend("openvino", precision=options.precision, threads=os.cpu_count() or 1)
    specs = [BranchSpec("compact", width, SCALE, depth) for width, depth in SIZES]
    costs = [time_branch(spec, backend, repeats=options.repeats) for spec in specs]
    hull = on_hull([(cost, score) for (cost, _), score in zip(costs, scores, strict=True)])
    print(f"{describe()} OpenVINO {backend.precision}, {options.iterations} iterations.\n")
    print(
        *head(
            "size", "MACs per LR pixel, thousand", "ns per LR pixel", "PSNR of patches, dB", "hull"
        ),
        sep="\n",
    )
    for (width, depth), (seconds, macs), score, best in zip(
        SIZES, costs, scores, hull, strict=True
    ):
        mark = "yes" if best else ""
        print(
            line(
                f"{width}x{depth}",
                f"{macs / 1e3:,.0f}",
                f"{1e9 * seconds:,.0f}",
                f"{score:.3f}",
                mark,
            )
        )


if __name__ == "__main__":
    main()
