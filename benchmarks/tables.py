"""The tables of `run.py`, in Markdown: what was measured, and how it is summed up. Measures nothing."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from classsr.report import Report, Seconds

NAME = 12  # letters of a picture's name
HARDEST, RESEARCH, AUTO = "a", "b", "c"  # ways; that of a budget is named by its number
INTEGERS = "e"


@dataclass(frozen=True, slots=True)
class Run:
    """One way on one picture: the median of its seconds, PSNR on RGB in dB, and the report where there is one."""

    seconds: float
    psnr_rgb: float
    report: Report | None = None


Runs = Mapping[str, Run]
"""All ways on one picture."""


def line(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> list[str]:
    """Return the head of a Markdown table."""
    return [line(*cells), "|---" * len(cells) + "|"]


def median_and_range(values: Sequence[float]) -> str:
    """Say where values lie."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _seconds(runs: Sequence[Runs], *ways: str) -> list[str]:
    return [f"{statistics.fmean(each[way].seconds for each in runs):.3f}" for way in ways]


def _quality(runs: Sequence[Runs], *ways: str) -> list[str]:
    return [f"{statistics.fmean(each[way].psnr_rgb for each in runs):.2f}" for way in ways]


def _ratio(runs: Sequence[Runs], way: str, other: str) -> str:
    return median_and_range([each[way].seconds / each[other].seconds for each in runs])


def _lost(runs: Sequence[Runs], way: str) -> str:
    lost = [each[HARDEST].psnr_rgb - each[way].psnr_rgb for each in runs]
    return f"{statistics.fmean(lost):+.3f} (at most {max(lost):+.3f})"


def _reports(runs: Sequence[Runs], way: str) -> list[Report]:
    return [report for each in runs if (report := each[way].report) is not None]


AUTO_HEAD = head(
    "set",
    "pictures",
    "SR Mpx",
    "s, (a)",
    "s, (c)",
    "(c) / (a), median (range)",
    "GMACs, whole",
    "GMACs, (c)",
    "dB, (a)",
    "dB lost by (c)",
    "tiles per level, %",
)


def auto_row(name: str, runs: Sequence[Runs]) -> str:
    """Sum up (c) against (a) on a set: means, the ratio as median and range."""
    reports = _reports(runs, AUTO)
    tiles = np.sum([report.tiles for report in reports], axis=0)
    return line(
        name,
        len(runs),
        f"{statistics.fmean(report.width * report.height / 1e6 for report in reports):.1f}",
        *_seconds(runs, HARDEST, AUTO),
        _ratio(runs, AUTO, HARDEST),
        f"{statistics.fmean(report.macs_hardest / 1e9 for report in reports):.1f}",
        f"{statistics.fmean(report.macs / 1e9 for report in reports):.1f}",
        *_quality(runs, HARDEST),
        _lost(runs, AUTO),
        " / ".join(f"{100 * share:.0f}" for share in tiles / tiles.sum()),
    )


BUDGET_HEAD = head(
    "set", "budget", "pictures", "planned", "(d) / (a), median (range)", "dB lost by (d)"
)


def budget_rows(name: str, runs: Sequence[Runs], budgets: Iterable[float]) -> list[str]:
    """Sum up (d) against (a) on a set, budget by budget; a picture that a budget is too small for does not count."""
    rows = []
    for budget in map(str, budgets):
        met = [each for each in runs if budget in each]
        if met:
            planned = statistics.fmean(report.cost for report in _reports(met, budget))
            ratio = _ratio(met, budget, HARDEST)
            rows.append(line(name, budget, len(met), f"{planned:.2f}", ratio, _lost(met, budget)))
    return rows


INTEGERS_HEAD = head(
    "set",
    "pictures",
    "s, (e)",
    "(e) / (a), median (range)",
    "(c) / (e), median (range)",
    "dB lost by (e)",
)


def integers_row(name: str, runs: Sequence[Runs]) -> str:
    """Sum up (e) against (a), and (c) against (e), on a set."""
    return line(
        name,
        len(runs),
        *_seconds(runs, INTEGERS),
        _ratio(runs, INTEGERS, HARDEST),
        _ratio(runs, AUTO, INTEGERS),
        _lost(runs, INTEGERS),
    )


RESEARCH_HEAD = head(
    "set",
    "pictures",
    "LR, at most",
    "s, (b)",
    "s, (a)",
    "s, (c)",
    "(b) / (c), median (range)",
    "dB, (b)",
    "dB, (c)",
)


def research_row(name: str, runs: Sequence[Runs], size: str) -> str:
    """Sum up (b) against (c) on crops of a set."""
    return line(
        name,
        len(runs),
        size,
        *_seconds(runs, RESEARCH, HARDEST, AUTO),
        _ratio(runs, RESEARCH, AUTO),
        *_quality(runs, RESEARCH, AUTO),
    )


TRIED_HEAD = head("set", "picture", "(a)", "s", "the best of every runtime, and whole pictures")


def tried_row(
    name: str, picture: str, chosen: str, seconds: float, others: Mapping[str, float]
) -> str:
    """Say which way of the hardest branch everywhere won, and how many times as long the others took."""
    shown: dict[str, str] = {}  # one for every runtime and precision, and the whole picture in each
    for way, times in others.items():
        runtime = way.partition(",")[0]
        place = way if "at once" in way else runtime
        took = f"x{times:.2f}" if math.isfinite(times) else "did not fit into memory"
        shown.setdefault(place, f"{way} {took}")
    return line(name, picture[:NAME], chosen, f"{seconds:.3f}", "; ".join(shown.values()))


SPEED_HEAD = head(
    "precision", "branch", "GFLOP/s, median", "best", "of the peak", "GEMM peak, GFLOP/s"
)


def speed_row(precision: str, label: str, speeds: Sequence[float], peak: float, by: str) -> str:
    """Sum up the GFLOP/s of a branch, run by run, against the peak of matrix products."""
    typical = statistics.median(speeds)
    share = f"{100 * typical / peak:.0f} %"
    best = f"{max(speeds):.0f}"
    return line(precision, label, f"{typical:.0f}", best, share, f"{peak:.0f}: {by}")


PARTS = [field.name for field in fields(Seconds)]
FILE_HEAD = head(
    "set",
    "picture",
    *(f"{part}, s" for part in PARTS),
    "outside the networks",
    "networks without a file, s",
    "outside these",
)


def file_row(name: str, picture: str, runs: Sequence[Seconds], alone: float) -> str:
    """Sum up where the time goes from file to file.

    Args:
        name: of the set.
        picture: its name.
        runs: seconds, run by run.
        alone: seconds of the networks where nothing is written beside them.

    """
    parts = {part: statistics.median(getattr(each, part) for each in runs) for part in PARTS}
    outside = statistics.median(1 - each.networks / each.total for each in runs)
    return line(
        name,
        picture[:NAME],
        *(f"{seconds:.3f}" for seconds in parts.values()),
        f"{100 * outside:.0f} %",
        f"{alone:.3f}",
        f"{100 * (1 - alone / parts['total']):.0f} %",
    )
