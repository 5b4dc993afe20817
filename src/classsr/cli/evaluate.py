"""`classsr evaluate`."""

import shlex
import sys
from contextlib import ExitStack
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from classsr.cli.options import (
    Asked,
    Backend,
    Budget,
    MaxLoss,
    Precision,
    PrecisionName,
    Route,
    Threads,
    extra,
)
from classsr.cli.output import tell
from classsr.errors import OutputError, UsageError

STDOUT = Path("-")


class ProtocolName(StrEnum):
    """On what a model is judged."""

    whole = "whole"
    paper = "paper"
    both = "both"


def evaluate(
    hr: Annotated[Path, typer.Option(metavar="DIR", readable=False, help="Folder of HR pictures.")],
    lr: Annotated[
        Path | None,
        typer.Option(metavar="DIR", readable=False, help="Folder of LR pictures; made by default."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FOLDER", help="A model; again for each one more."),
    ] = None,
    protocol: Annotated[
        ProtocolName,
        typer.Option(
            help="whole: whole frames. paper: only full tiles of 32 at step 28, averaged."
        ),
    ] = ProtocolName.whole,
    route: Route = "auto",
    budget: Budget = None,
    max_loss: MaxLoss = None,
    backend: Backend = "openvino",
    precision: Precision = PrecisionName.auto,
    threads: Threads = None,
    longest: Annotated[
        int | None,
        typer.Option(min=1, metavar="PIXELS", help="Shrink HR to this long side first."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="All numbers; - for stdout.")
    ] = None,
    as_csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="All numbers; - for stdout.")
    ] = None,
    as_markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="The means; - for stdout.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Make a page there that shows where results differ, for one model."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw PSNR over multiply-accumulates and over seconds."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Measure PSNR, SSIM, cost and seconds of models on a folder of pictures."""
    from classsr.evaluation import evaluate_folder, mean_score
    from classsr.evaluation_page import create_evaluation_page
    from classsr.files import check_place
    from classsr.image import check_output
    from classsr.model import DEFAULT_MODEL
    from classsr.routing import find_goal
    from classsr.scoreboard import HEAD, Results, line, markdown, to_csv, to_json
    from classsr.upscaler import Upscaler

    named = ((as_json, to_json), (as_csv, to_csv), (as_markdown, markdown))
    tables = [(path, table) for path, table in named if path is not None]
    to_stdout = sum(path == STDOUT for path, _ in tables)
    if to_stdout > 1:
        raise UsageError("Expected one table on stdout but got several.")
    files = [path for path, _ in tables if path != STDOUT]
    files += [plot] if plot is not None else []
    if len(set(files)) < len(files):
        raise UsageError("Expected a file of its own for each table and the plot.")
    for path in files:
        check_place(path, overwrite=overwrite)
    if plot is not None:
        with extra("A plot needs", "figures"):
            from classsr.figures.quality import draw_quality
        check_output(plot, height=1, width=1, has_alpha=False, overwrite=overwrite)

    both = [ProtocolName.whole, ProtocolName.paper]
    wanted = both if protocol is ProtocolName.both else [protocol]
    asked: Asked = {"route": route, "budget": budget, "max_loss": max_loss}
    upscalers = [
        Upscaler(
            name,
            backend=backend,
            precision=precision.value,
            threads=threads,
            tiling="paper" if each is ProtocolName.paper else "halo",
        )
        for name, each in product(model or [DEFAULT_MODEL], wanted)
    ]
    for upscaler in upscalers:
        find_goal(upscaler.model.config, **asked)  # told before anything is computed
    if budget is not None and ProtocolName.paper in wanted:
        raise UsageError("Expected a route or a loss with the paper's protocol but got a budget.")
    if report is not None and len(upscalers) > 1:
        raise UsageError("Expected one model and one protocol with --report; it makes one page.")
    out = sys.stderr if to_stdout else sys.stdout
    results = []
    with ExitStack() as stack:
        page = None
        if report is not None:
            page = stack.enter_context(
                create_evaluation_page(report, upscalers[0], overwrite=overwrite)
            )
        # All are checked here, before the first picture is enlarged.
        evaluations = [
            evaluate_folder(upscaler, hr, lr, longest=longest, **asked) for upscaler in upscalers
        ]
        for upscaler, evaluation in zip(upscalers, evaluations, strict=True):
            each = "paper" if upscaler.tiling == "paper" else "whole"
            name = upscaler.model.config.name
            tell(f"{name}, {_said(asked)}, {each}", out)
            tell(HEAD, out)
            scores = []
            for evaluated in evaluation:
                scores.append(evaluated.score)
                tell(line(evaluated.score), out)
                if page is not None:
                    page.add(evaluated)
            results.append(Results(name, _said(asked), each, tuple(scores), mean_score(scores)))
            tell(line(results[-1].mean), out)
        if page is not None:
            page.finish(asked=_said(asked), command=shlex.join(["classsr", *sys.argv[1:]]))
    if len(results) > 1:
        tell("", out)
        tell(HEAD, out)
        for one in results:
            tell(line(one.mean, f"{one.model}, {one.protocol}"), out)
    for path, table in tables:
        if path == STDOUT:
            for each in table(results).removesuffix("\n").split("\n"):
                tell(each)
        else:
            _write_table(path, table(results))
    if plot is not None:
        draw_quality(results, plot, overwrite=overwrite)


def _write_table(path: Path, text: str) -> None:
    from classsr.files import write_whole

    try:
        write_whole(path, text.encode(errors="backslashreplace"))  # names may be undecodable
    except OSError as exc:
        raise OutputError(f"{path} cannot be written ({exc.strerror or exc}); make room.") from exc


def _said(asked: Asked) -> str:
    """Say what was asked of the routing."""
    if asked["budget"] is not None:
        return f"budget {asked['budget']}"
    if asked["max_loss"] is not None:
        return f"at most {asked['max_loss']:g} dB lost"
    return asked["route"]
