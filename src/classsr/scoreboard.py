"""Scores as people and programs read them: lines for a terminal, Markdown, CSV, JSON. Knows no picture."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from classsr.evaluation import Score

NAME_WIDTH = 22  # of a line for the terminal, which fits into 100 columns


@dataclass(frozen=True, slots=True)
class Results:
    """What one model reached by one protocol: the scores of the pictures, and their mean."""

    model: str
    route: str  # or budget, as it was asked for
    protocol: str
    scores: tuple[Score, ...]
    mean: Score


COLUMNS = (
    "model",
    "route",
    "protocol",
    "pictures",
    "PSNR, dB",
    "luma",
    "SSIM",
    "luma",
    "tiles per level, %",
    "GMACs",
    "of the hardest",
    "MFLOPs a tile as papers print them",
    "seconds",
    "peak MiB",
)  # of the Markdown table
HEAD = (
    f"{'':{NAME_WIDTH}} {'PSNR':>6} {'luma':>6} {'SSIM':>6} {'luma':>6}  {'tiles per level':<16}"
    f" {'GMACs':>8} {'share':>6} {'s':>7} {'MiB':>6}"
)


def line(score: Score, name: str | None = None) -> str:
    """Say a score in one line under `HEAD`."""
    told = score.name if name is None else name
    memory = "" if score.peak_mib is None else f"{score.peak_mib:.0f}"
    return (
        f"{told:<{NAME_WIDTH}.{NAME_WIDTH}} {score.psnr_rgb:6.2f} {score.psnr_luma:6.2f} "
        f"{score.ssim_rgb:.4f} {score.ssim_luma:.4f}  {shares_in_words(score):<16} {_giga(score.macs):>8} "
        f"{100 * score.cost:4.0f} % {score.seconds:7.3f} {memory:>6}"
    )


def shares_in_words(score: Score) -> str:
    """Say which part of the tiles every level got."""
    return "/".join(f"{100 * share:.0f}" for share in score.shares) + " %"


def _giga(macs: float) -> str:
    return f"{macs / 1e9:.{2 if macs >= 1e9 else 4}f}"


def markdown(results: Sequence[Results]) -> str:
    """Return a table of the means."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    for each in results:
        mean = each.mean
        rows.append(
            [
                each.model,
                each.route,
                each.protocol,
                str(len(each.scores)),
                f"{mean.psnr_rgb:.2f}",
                f"{mean.psnr_luma:.2f}",
                f"{mean.ssim_rgb:.4f}",
                f"{mean.ssim_luma:.4f}",
                " / ".join(f"{100 * share:.0f}" for share in mean.shares),
                _giga(mean.macs),
                f"{100 * mean.cost:.0f} %",
                f"{mean.flops / 1e6:,.1f} ({100 * mean.flops / mean.flops_hardest:.0f} %)",
                f"{mean.seconds:.3f}",
                "" if mean.peak_mib is None else f"{mean.peak_mib:,.0f}",
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_csv(results: Sequence[Results]) -> str:
    """Return a row for every picture and mean; the share of each level in a column of its own."""
    levels = max(len(each.mean.shares) for each in results)
    shares = [f"share_{level}" for level in range(levels)]
    numbers = [name for name in _numbers(results[0].mean) if name != "shares"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "route", "protocol", "picture", *numbers, *shares])
    for each in results:
        for score in (*each.scores, each.mean):
            values = _numbers(score)
            given = [*values.pop("shares"), *[None] * (levels - len(score.shares))]
            writer.writerow(
                [each.model, each.route, each.protocol, score.name, *values.values(), *given]
            )
    return out.getvalue()


def to_json(results: Sequence[Results]) -> str:
    """Return everything as one JSON array; PSNR of equal pictures, which is infinite, is null."""
    content = [
        {
            "model": each.model,
            "route": each.route,
            "protocol": each.protocol,
            "pictures": [{"name": score.name, **_numbers(score)} for score in each.scores],
            "mean": _numbers(each.mean),
        }
        for each in results
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _numbers(score: Score) -> dict[str, Any]:
    """Return the numbers of a score by name, None for what is infinite."""
    values = asdict(score) | {"cost": score.cost}
    del values["name"]
    return {
        name: None if isinstance(value, float) and math.isinf(value) else value
        for name, value in values.items()
    }
