"""What several commands share: options, and what is missing."""

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


ROUTING = "Quality and speed"

Route = Annotated[
    str,
    typer.Option(
        metavar="auto|argmax|easiest|hardest|LEVEL",
        help="auto: at most 0.02 dB below the hardest level everywhere, as predicted; or force a level.",
        rich_help_panel=ROUTING,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE|SECONDS",
        help="Spend at most this share of the hardest level's cost (0.5) or so many seconds (2s).",
        rich_help_panel=ROUTING,
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        metavar="DB",
        help="Lose at most so many dB to the hardest level, as predicted.",
        rich_help_panel=ROUTING,
    ),
]
ModelChoice = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|FOLDER",
        help="A bundled model or a model's folder.",
        envvar="CLASSSR_MODEL",
        rich_help_panel=ROUTING,
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        help="openvino, onnx or torch.", envvar="CLASSSR_BACKEND", rich_help_panel=ROUTING
    ),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(
        help="What the branches compute in.",
        envvar="CLASSSR_PRECISION",
        rich_help_panel=ROUTING,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processor threads; all by default.",
        envvar="CLASSSR_THREADS",
        rich_help_panel=ROUTING,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


class Asked(TypedDict):
    """What is asked of the routing."""

    route: str
    budget: str | None
    max_loss: float | None
