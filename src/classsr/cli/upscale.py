"""`classsr upscale`."""

import re
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classsr import __version__
from classsr.cli.options import (
    ROUTING,
    Asked,
    Backend,
    Budget,
    MaxLoss,
    ModelChoice,
    Precision,
    PrecisionName,
    Route,
    Threads,
)
from classsr.cli.output import say, tell
from classsr.cli.pipes import PIPE, files_for_pipes
from classsr.cli.progress import Progress
from classsr.errors import UsageError

if TYPE_CHECKING:
    from classsr.batch import Outcome
    from classsr.model import Model
    from classsr.report import Report
    from classsr.upscaler import Wish

WHERE = "Where to"
HOW_LARGE = "How large"
KEPT = "What is kept"
TELLING = "What is told"
PIXEL_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}

EXAMPLES = """\
classsr upscale photo.jpg : photo_x4.png beside it

classsr upscale photos/ -o large/ -r : a folder with all folders in it, and again to go on

classsr upscale photo.jpg -o large.jpg --width 3840 : that wide

classsr upscale photo.jpg --budget 0.3 : about three times as fast, a little worse

classsr upscale - < photo.jpg > large.png : from a pipe into a file
"""


class TilingName(StrEnum):
    """How a picture is cut into tiles."""

    halo = "halo"
    exact = "exact"
    paper = "paper"


class MetadataName(StrEnum):
    """What is kept of EXIF, XMP and IPTC."""

    all = "all"
    safe = "safe"
    none = "none"


class ColorName(StrEnum):
    """What becomes of the colours."""

    keep = "keep"
    srgb = "srgb"


class FormatName(StrEnum):
    """In which format results are written."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    tif = "tif"
    avif = "avif"
    same = "same"


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, folders of pictures, or - for standard input.",
            readable=False,  # whoever reads it tells, and the others are done
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|DIR|-",
            readable=False,
            help="NAME_x4.png beside the input by default; a folder for a folder.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    file_format: Annotated[
        FormatName | None,
        typer.Option(
            "--format",
            help="Of results that get a name of ours; same: that of the picture. png by default.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option(
            "-r",
            "--recursive",
            help="Open folders inside folders, too.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=WHERE),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Leave out pictures whose result exists.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help="From 1 to the model's scale, such as 2 or 2.5; up to 2 by a model of its own.",
            rich_help_panel=HOW_LARGE,
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Of the result.", rich_help_panel=HOW_LARGE)
    ] = None,
    height: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Of the result.", rich_help_panel=HOW_LARGE)
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="As large as fits into so many pixels.",
            rich_help_panel=HOW_LARGE,
        ),
    ] = None,
    metadata: Annotated[
        MetadataName,
        typer.Option(
            help="Keep EXIF, XMP and IPTC. safe: without position and serial numbers.",
            rich_help_panel=KEPT,
        ),
    ] = MetadataName.all,
    color: Annotated[
        ColorName,
        typer.Option(
            help="keep: values and colour profile as they are. srgb: convert to sRGB.",
            rich_help_panel=KEPT,
        ),
    ] = ColorName.keep,
    route: Route = "auto",
    budget: Budget = None,
    max_loss: MaxLoss = None,
    model: ModelChoice = None,
    backend: Backend = "openvino",
    precision: Precision = PrecisionName.auto,
    threads: Threads = None,
    tiling: Annotated[
        TilingName,
        typer.Option(
            help="halo: seamless to the eye. exact: as if untiled, slower. paper: tiles of 32 at step 28, averaged.",
            rich_help_panel=ROUTING,
        ),
    ] = TilingName.halo,
    routing_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Also write a picture of the level of every tile.",
            rich_help_panel=TELLING,
        ),
    ] = None,
    max_pixels: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Refuse larger inputs: 500M, 2G; 2**30 pixels by default.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Tell what is planned for each picture, and why.",
            rich_help_panel=TELLING,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object per picture on stdout.",
            rich_help_panel=TELLING,
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=TELLING)
    ] = False,
) -> None:
    """Enlarge pictures and folders of pictures.

    What is done already in an output folder is not done again, so that a run that was broken off goes on.
    """
    from classsr.batch import upscale_files
    from classsr.files import is_folder
    from classsr.image import FORMAT_BY_SUFFIX, MAX_PIXELS
    from classsr.jobs import Naming, find_jobs
    from classsr.manifest import Manifest
    from classsr.model import default_model
    from classsr.routing import find_goal
    from classsr.sizes import Size, box_of
    from classsr.upscaler import Upscaler, Wish

    size = Size(scale, width, height, None if fit is None else box_of(fit))
    if overwrite and skip_existing:
        raise UsageError("Expected one of --overwrite and --skip-existing.")
    upscaler = Upscaler(
        model or default_model(scale),
        backend=backend,
        precision=precision.value,
        threads=threads,
        tiling=tiling.value,
    )
    config = upscaler.model.config
    asked: Asked = {"route": route, "budget": budget, "max_loss": max_loss}
    find_goal(config, **asked)  # told once, not once per input
    wish = Wish(
        **asked,
        size=size,
        metadata=metadata.value,
        color=color.value,
        max_pixels=MAX_PIXELS if max_pixels is None else pixels_of(max_pixels),
        overwrite=overwrite,
    )
    chosen = file_format or FormatName.png
    if as_json and (output == PIPE or (PIPE in inputs and output is None)):
        raise UsageError("Expected the picture or JSON on standard output but not both.")
    if chosen is FormatName.same and PIPE in {*inputs, output}:
        raise UsageError("Expected another --format than same where - stands for a picture.")
    naming = Naming(
        size.suffix(config.scale),
        None if chosen is FormatName.same else FORMAT_BY_SUFFIX[f".{chosen.value}"],
    )
    with files_for_pipes(inputs, output, f".{chosen.value}") as (sources, target, as_told):
        jobs = find_jobs(sources, target, naming, recursive=recursive)
        if file_format is not None and [job.target for job in jobs] == [output]:
            raise UsageError(f"Expected no --format beside {output}, whose name says it.")
        if routing_map is not None and len(jobs) > 1:
            raise UsageError("Expected one input with --routing-map; it writes one file.")
        manifest = None
        if target is not None and any(is_folder(source) for source in sources):
            manifest = Manifest(
                target, _settings(upscaler.model, wish, backend, precision.value, tiling.value)
            )
        with Progress() as progress:
            outcomes = upscale_files(
                upscaler,
                jobs,
                wish,
                skip_existing=skip_existing,
                manifest=manifest,
                routing_map=routing_map,
                progress=lambda job, share: progress.update(job.source, share),
                planned=lambda plan: _say_lines(upscaler.explain(plan)) if explain else None,
            )
            with closing(outcomes):
                code = _tell(outcomes, as_told, as_json=as_json, debug=debug)
    if code:
        raise typer.Exit(code)


def _say_lines(text: str) -> None:
    for each in text.splitlines():
        say(each)


def pixels_of(text: str) -> int:
    """Read the number of `--max-pixels`: `500000000`, `500M`, `2G`.

    Raises:
        UsageError: it is no such number from 1 up.

    """
    found = re.fullmatch(r"([0-9]{1,18})([KMG]?)", text.strip().upper())
    pixels = int(found[1]) * PIXEL_UNITS[found[2]] if found else 0
    if pixels < 1:
        raise UsageError(
            f"Expected a number of pixels such as 500000000, 500M or 2G for --max-pixels but got {text!r}."
        )
    return pixels


def _settings(model: "Model", wish: "Wish", *others: str) -> str:
    """Return what is equal where the same would be made of the same picture."""
    import hashlib
    import json

    what = [
        __version__,
        asdict(model.config),
        asdict(replace(wish, overwrite=False, max_pixels=0)),
        others,
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _tell(
    outcomes: "Iterable[Outcome]", as_told: Callable[[str], str], *, as_json: bool, debug: bool
) -> int:
    """Tell what becomes of every picture, and in the end of all, with names of files as told; return the exit code."""
    import json

    enlarged = there = 0
    failed: list[Outcome] = []
    for outcome in outcomes:
        if outcome.error is not None:
            if debug:
                raise outcome.error
            say(as_told(f"classsr: {outcome.error}"))
            failed.append(outcome)
        elif outcome.report is not None:
            say(as_told(summary(outcome.report)))
            enlarged += 1
        else:
            there += 1
        if as_json:
            tell(json.dumps(record(outcome, as_told)))
    if enlarged + there + len(failed) > 1:
        say(f"{enlarged} enlarged, {there} there already, {len(failed)} failed")
        for outcome in failed:
            say(f"failed: {outcome.job.source}")
    return failed[0].error.exit_code if failed and failed[0].error is not None else 0


def record(outcome: "Outcome", as_told: Callable[[str], str] = str) -> dict[str, Any]:
    """Return what `--json` prints of a picture, with names of files as told: its report, or why there is none."""
    files = {"input": str(outcome.job.source), "output": str(outcome.job.target)}
    told: dict[str, Any] = {name: as_told(path) for name, path in files.items()}
    if outcome.report is not None:
        return asdict(outcome.report) | told
    if outcome.error is None:
        return told | {"skipped": True}
    return told | {"error": as_told(str(outcome.error)), "code": outcome.error.exit_code}


def summary(report: "Report") -> str:
    """Say in one line what was done."""
    shares = " / ".join(f"{100 * share:.0f}" for share in report.shares)
    return (
        f"{report.output}: {report.input_width}x{report.input_height} -> {report.width}x{report.height}, "
        f"tiles per level {shares} %, {100 * report.cost:.0f} % of the hardest level's cost, "
        f"{report.seconds.total:.2f} s"
    )
