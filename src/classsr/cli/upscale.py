"""`classsr upscale`."""

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classsr.cli.options import Asked, Budget, MaxLoss, PrecisionName, Route, say
from classsr.cli.progress import Progress
from classsr.errors import ClassSRError, UsageError

if TYPE_CHECKING:
    from classsr.report import Report


class TilingName(StrEnum):
    """How a picture is cut into tiles."""

    halo = "halo"
    paper = "paper"


def upscale(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures to enlarge.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE_OR_DIR",
            help="Where to write; beside the input by default.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    route: Route = "auto",
    budget: Budget = None,
    max_loss: MaxLoss = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER", help="A bundled model or a model's folder.")
    ] = None,
    backend: Annotated[str, typer.Option(help="openvino, onnx or torch.")] = "openvino",
    precision: Annotated[
        PrecisionName, typer.Option(help="What the branches compute in.")
    ] = PrecisionName.auto,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads; all by default.")
    ] = None,
    tiling: Annotated[
        TilingName, typer.Option(help="halo: seamless. paper: tiles of 32 at step 28, averaged.")
    ] = TilingName.halo,
    routing_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a picture of the level of every tile."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what is planned for each picture, and why.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per picture on stdout.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Enlarge pictures four times."""
    from classsr.model import DEFAULT_MODEL
    from classsr.routing import find_goal
    from classsr.upscaler import Upscaler

    if routing_map is not None and len(inputs) > 1:
        raise UsageError("Expected one input with --routing-map; it writes one file.")
    outputs = output_paths(inputs, output)
    upscaler = Upscaler(
        model or DEFAULT_MODEL,
        backend=backend,
        precision=precision.value,
        threads=threads,
        tiling=tiling.value,
    )
    asked: Asked = {"route": route, "budget": budget, "max_loss": max_loss}
    find_goal(upscaler.model.config, **asked)  # told once, not once per input
    failure = 0
    for source, target in zip(inputs, outputs, strict=True):
        try:
            with Progress(source) as progress:
                report = upscaler.upscale_file(
                    source,
                    target,
                    overwrite=overwrite,
                    routing_map=routing_map,
                    progress=progress.update,
                    planned=lambda plan: say(upscaler.explain(plan)) if explain else None,
                    **asked,
                )
        except ClassSRError as exc:
            if debug:
                raise
            say(f"classsr: {exc}")
            failure = failure or exc.exit_code
            continue
        say(summary(report))
        if as_json:
            sys.stdout.write(json.dumps(asdict(report)) + "\n")
            sys.stdout.flush()
    if failure:
        raise typer.Exit(failure)


def output_paths(inputs: list[Path], output: Path | None) -> list[Path]:
    """Name the result of every input: NAME_x4.png beside it or in the folder `output`, or `output` itself.

    Raises:
        UsageError: several inputs would be written to one file, or one over another input.

    """
    if output is None:
        outputs = [source.with_name(f"{source.stem}_x4.png") for source in inputs]
    elif output.is_dir():
        outputs = [output / f"{source.stem}_x4.png" for source in inputs]
    elif len(inputs) == 1:
        outputs = [output]
    else:
        raise UsageError(
            f"Expected -o to name a folder that exists, for {len(inputs)} inputs, but got {output}."
        )
    for index, target in enumerate(outputs):
        if target in outputs[:index]:
            first = inputs[outputs.index(target)]
            raise UsageError(
                f"{first} and {inputs[index]} would both be written to {target}; enlarge one alone with -o."
            )
        if target in inputs and target != inputs[index]:
            raise UsageError(
                f"The result of {inputs[index]} would be written over the input {target}; leave one of them out."
            )
    return outputs


def summary(report: "Report") -> str:
    """Say in one line what was done."""
    width, height = report.width // report.scale, report.height // report.scale
    shares = " / ".join(f"{100 * share:.0f}" for share in report.shares)
    return (
        f"{report.output}: {width}x{height} -> {report.width}x{report.height}, "
        f"tiles per level {shares} %, {100 * report.cost:.0f} % of the hardest level's cost, "
        f"{report.seconds.total:.2f} s"
    )
