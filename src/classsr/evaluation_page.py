"""The report page of an evaluation: what a picture is compared with, and the scores and settings in words."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from classsr import __version__
from classsr.comparison import compare
from classsr.evaluation import Evaluated, Score, judge, mean_score
from classsr.page import LevelText, Page, Table, create_page
from classsr.resize import resize
from classsr.scoreboard import shares_in_words
from classsr.upscaler import Upscaler

ROUTED, BICUBIC = "ClassSR", "bicubic"
COLUMNS = ("method", "PSNR, dB", "luma", "SSIM", "luma", "tiles per level", "GMACs", "seconds")


class EvaluationPage:
    """The page of one model in the making; made by `create_evaluation_page`."""

    def __init__(self, page: Page, upscaler: Upscaler) -> None:
        self._page, self._upscaler = page, upscaler
        self._scores: dict[str, list[Score]] = {}

    def add(self, evaluated: Evaluated) -> None:
        """Run the picture at the easiest and at the hardest level too, and show what differs.

        Raises:
            OutputError: the disk is full.

        """
        config = self._upscaler.model.config
        is_bicubic = config.levels[0].network == BICUBIC
        results = {ROUTED: evaluated.result}
        if len(config.levels) > 1:
            easiest = f"{BICUBIC}, easiest" if is_bicubic else "easiest"
            results = {
                easiest: self._upscaler.upscale(evaluated.lr, route="easiest"),
                ROUTED: evaluated.result,
                "hardest": self._upscaler.upscale(evaluated.lr, route="hardest"),
            }
        scores = {
            label: judge(label, config, result, evaluated.hr) for label, result in results.items()
        }
        methods = {label: result.image for label, result in results.items()}
        if not is_bicubic:
            methods = {BICUBIC: resize(evaluated.lr, config.scale), **methods}
        comparison = compare(
            evaluated.lr,
            evaluated.hr,
            methods,
            routed=ROUTED,
            hardest=list(methods)[-1],
            levels=evaluated.result.levels,
            grid=evaluated.result.grid,
        )
        caption = f"Border of {config.scale} pixels left out"
        self._page.add(evaluated.score.name, comparison, _table(caption, scores))
        for label, score in scores.items():
            self._scores.setdefault(label, []).append(score)

    def finish(self, *, asked: str, command: str) -> None:
        """Put the page together.

        Args:
            asked: of the routing, in words.
            command: what makes the page again.

        Raises:
            OutputError: the disk is full, or the name has been taken meanwhile.

        """
        config = self._upscaler.model.config
        means = {label: mean_score(scores) for label, scores in self._scores.items()}
        count = len(self._scores[ROUTED])
        protocol = "the papers' protocol" if self._upscaler.tiling == "paper" else "whole frames"
        self._page.finish(
            title=f"{config.name} on {count} picture{'s' if count > 1 else ''}",
            facts=[
                ("Model", f"{config.name}, x{config.scale}"),
                ("Asked", f"{asked}, {protocol}"),
                ("Runtime", self._upscaler.runtime),
                (
                    "Machine",
                    f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                ),
                ("Version", f"classsr {__version__}, Python {platform.python_version()}"),
                ("Date", f"{datetime.now(UTC):%Y-%m-%d}"),
            ],
            command=command,
            tables=[_table(f"Means of {count}", means)],
        )


@contextmanager
def create_evaluation_page(
    folder: Path, upscaler: Upscaler, *, overwrite: bool
) -> Iterator[EvaluationPage]:
    """Begin the page `index.html` of a folder; without `finish` nothing is left.

    Raises:
        OutputError: it cannot be written there.

    """
    levels = [
        LevelText(level.label, f"{level.macs_per_pixel / 1e3:.1f} k MACs a pixel")
        for level in upscaler.model.config.levels
    ]
    with create_page(folder, levels=levels, overwrite=overwrite) as page:
        yield EvaluationPage(page, upscaler)


def _table(caption: str, scores: dict[str, Score]) -> Table:
    rows: list[Sequence[str]] = [
        (
            label,
            f"{score.psnr_rgb:.2f}",
            f"{score.psnr_luma:.2f}",
            f"{score.ssim_rgb:.4f}",
            f"{score.ssim_luma:.4f}",
            shares_in_words(score),
            f"{score.macs / 1e9:.2f}",
            f"{score.seconds:.3f}",
        )
        for label, score in scores.items()
    ]
    return Table(caption, COLUMNS, rows)
