"""What several commands share: options, how they say something, what is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, TypedDict

import typer

from classsr.errors import UsageError


class PrecisionName(StrEnum):
    """What the branches may compute in."""

    auto = "auto"
    f32 = "f32"
    bf16 = "bf16"
    f16 = "f16"


@contextmanager
def extra(who_needs: str, extra: str) -> Iterator[None]:
    """Say how to install an extra where an import inside finds that it is missing."""
    try:
        yield
    except ImportError as exc:
        raise UsageError(
            f"{who_needs} more packages ({exc}); run: pip install 'classsr[{extra}]'"
        ) from exc


def say(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


Route = Annotated[
    str,
    typer.Option(
        metavar="auto|argmax|easiest|hardest|LEVEL",
        help="auto: at most 0.02 dB below the hardest level everywhere, as predicted; or force a level.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE|SECONDS",
        help="Spend at most this share of the hardest level's cost (0.5) or so many seconds (2s).",
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(metavar="DB", help="Lose at most so many dB to the hardest level, as predicted."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a figure that exists.")]


class Asked(TypedDict):
    """What is asked of the routing."""

    route: str
    budget: str | None
    max_loss: float | None
