"""How good the released models are on all test pictures, by both protocols, beside public networks.

    python benchmarks/quality.py --out docs/results.md

Runs what the commands that it prints run. Every model is measured at its default route and at its hardest branch
everywhere, one whose Class-Module gives probabilities at `argmax` too. Prints Markdown.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from classsr.engine import Tiling
from classsr.evaluation import evaluate_folder, mean_score
from classsr.model import Model, bundled_models, find_model
from classsr.scoreboard import Results, markdown
from classsr.upscaler import Upscaler
from machine import describe
from subjects import DATA

CONDITIONS = (
    "LR as shipped with Set5, Set14 and BSD100, else made by our MATLAB-style bicubic; large/4k shrunk to 3,840 pixels "
    "first. [evaluation.md](evaluation.md) tells what the numbers mean."
)
LOAD = (
    "Load at the end {:.1f}: where that is more than the two of the networks, other work ran, and the seconds tell "
    "little; speed is in [benchmarks/results.md](../benchmarks/results.md)."
)
WHOLE = (
    "PSNR on RGB / on luma in dB, a border of 4 left out. The public networks' numbers were measured on the same LR "
    "pictures, whole, in float32 (weights of PCSR's authors, 2 M iterations on DIV2K, 2026-11-22)."
)
PROTOCOLS: dict[str, Tiling] = {"whole": "halo", "paper": "paper"}


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Where pictures lie under the folder of all, and what public networks reach on them: PSNR on RGB and on luma."""

    folder: str
    longest: int | None
    public_fsrcnn: tuple[float, float]
    public_carn: tuple[float, float]


# The public weights of PCSR's authors (FSRCNN with 56 channels and CARN-M with 64, 2 M iterations on DIV2K), run whole
# in float32 on the same LR pictures, 2026-11-22.
SETS = {
    "Set5": PictureSet("benchmark/Set5", None, (28.83, 30.69), (29.93, 31.82)),
    "Set14": PictureSet("benchmark/Set14", None, (25.92, 27.69), (26.64, 28.43)),
    "BSD100": PictureSet("benchmark/BSD100", None, (25.64, 26.98), (26.08, 27.43)),
    "Kodak24": PictureSet("benchmark/Kodak24", None, (26.91, 28.26), (27.42, 28.78)),
    "McMaster18": PictureSet("benchmark/McMaster18", None, (28.23, 30.20), (29.22, 31.16)),
    "large/2k": PictureSet("large/2k", None, (28.36, 29.90), (29.22, 30.71)),
    "large/4k": PictureSet("large/4k", 3840, (30.36, 31.67), (30.73, 32.05)),
    "large/8k": PictureSet("large/8k", None, (33.03, 34.48), (33.47, 34.94)),
}


def folders(data: Path, pictures: PictureSet) -> tuple[Path, Path | None]:
    """Return the folders of HR and, where they are shipped, of LR pictures."""
    folder = data / pictures.folder
    hr = folder / "HR" if (folder / "HR").is_dir() else folder
    lr = folder / "LR_x4"
    return hr, lr if lr.is_dir() else None


def routes(model: Model) -> Sequence[str]:
    """Return the routes at which a model is measured."""
    info = model.config.classifier
    if info is None:
        return ["auto"]
    return ["auto", "hardest"] if info.predicts == "log-errors" else ["auto", "argmax", "hardest"]


def measure(data: Path, pictures: PictureSet, models: Sequence[str]) -> Iterator[Results]:
    """Run every model on a set at all its routes, by both protocols."""
    hr, lr = folders(data, pictures)
    for name in models:
        for protocol, tiling in PROTOCOLS.items():
            upscaler = Upscaler(name, tiling=tiling)
            for route in routes(upscaler.model):
                found = evaluate_folder(upscaler, hr, lr, route=route, longest=pictures.longest)
                scores = tuple(each.score for each in found)
                yield Results(name, route, protocol, scores, mean_score(scores))
                print(f"{pictures.folder}: {name}, {route}, {protocol}", file=sys.stderr)


def summary(found: dict[str, list[Results]]) -> Iterator[str]:
    """Yield a table of whole frames: a row for every set, a column for every model and route."""
    whole = {
        name: [each for each in results if each.protocol == "whole"]
        for name, results in found.items()
    }
    heads = [f"{each.model}, {each.route}" for each in next(iter(whole.values()))]
    heads = ["set", *heads, "public FSRCNN", "public CARN-M"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for name, results in whole.items():
        pairs = [(each.mean.psnr_rgb, each.mean.psnr_luma) for each in results]
        pairs += [SETS[name].public_fsrcnn, SETS[name].public_carn]
        yield f"| {name} | " + " | ".join(f"{rgb:.2f} / {luma:.2f}" for rgb, luma in pairs) + " |"


def commands(name: str, models: Sequence[str]) -> Iterator[str]:
    """Yield the commands that make the rows of a set, with DATA for the folder of all pictures."""
    pictures = SETS[name]
    hr, lr = folders(DATA, pictures)
    for model in models:
        for route in routes(find_model(model)):
            words = [
                "classsr",
                "evaluate",
                "--model",
                model,
                "--hr",
                f"DATA/{hr.relative_to(DATA)}",
            ]
            if lr is not None:
                words += ["--lr", f"DATA/{lr.relative_to(DATA)}"]
            if pictures.longest is not None:
                words += ["--longest", str(pictures.longest)]
            if route != "auto":
                words += ["--route", route]
            yield shlex.join([*words, "--protocol", "both"])


def page(found: dict[str, list[Results]], models: Sequence[str], machine: str) -> str:
    """Put the page together; `machine` describes what it was made on, as it was before the start."""
    lines = [
        "# Results\n",
        f"{machine} {LOAD.format(os.getloadavg()[0])}\n",
        f"Made by `{shlex.join(['python', 'benchmarks/quality.py', *sys.argv[1:]])}`. {CONDITIONS}\n",
        "## Whole frames\n",
        f"{WHOLE}\n",
        *summary(found),
    ]
    for name, results in found.items():
        lines += [f"\n## {name}\n", "```", *commands(name, models), "```\n"]
        lines.append(markdown(results).rstrip())
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of all pictures")
    fourfold = [name for name in bundled_models() if find_model(name).config.scale == 4]
    parser.add_argument("--models", nargs="+", default=fourfold, help="names or folders, at x4")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--out", type=Path, help="also write the page into this file")
    options = parser.parse_args()
    found: dict[str, list[Results]] = {}
    machine = describe()
    for name in options.sets:
        found[name] = list(measure(options.data, SETS[name], options.models))
        if options.out is not None:  # after every set, for all of them take an hour
            options.out.write_text(page(found, options.models, machine), encoding="utf-8")
    print(page(found, options.models, machine))


if __name__ == "__main__":
    main()
