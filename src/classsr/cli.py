"""The command line: parses, calls one function, prints. Results go to stdout, everything else to stderr."""

import json
import logging
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from classsr import __version__
from classsr.errors import ClassSRError, OutputError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from classsr.model import Model
    from classsr.report import Report
    from classsr.training.stages import Experiment

INTERRUPTED = 130  # as shells report a process ended by Ctrl-C
PLAIN_EVERY = 5.0  # seconds between progress lines where there is no terminal

app = typer.Typer(
    name="classsr",
    help="Enlarge pictures four times, spending computation only where a picture is hard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Prepare pictures for training.", no_args_is_help=True)
train_app = typer.Typer(help="Train a ClassSR model, one command per stage.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(train_app, name="train")
figure_app = typer.Typer(
    help="Draw how hard patches are and how training went.", no_args_is_help=True
)
app.add_typer(figure_app, name="figure")


class PrecisionName(StrEnum):
    """What the branches may compute in."""

    auto = "auto"
    f32 = "f32"
    bf16 = "bf16"
    f16 = "f16"


class TilingName(StrEnum):
    """How a picture is cut into tiles."""

    halo = "halo"
    paper = "paper"


class MeanName(StrEnum):
    """Where a network has the mean colour subtracted."""

    inside = "inside"
    outside = "outside"


@contextmanager
def _extra(who_needs: str, extra: str) -> Iterator[None]:
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


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"classsr {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


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


@app.command()
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
    asked: _Asked = {"route": route, "budget": budget, "max_loss": max_loss}
    find_goal(upscaler.model.config, **asked)  # told once, not once per input
    failure = 0
    for source, target in zip(inputs, outputs, strict=True):
        try:
            with _Progress(source) as progress:
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


class _Asked(TypedDict):
    """What is asked of the routing."""

    route: str
    budget: str | None
    max_loss: float | None


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


class _Progress:
    """A bar with time left on a terminal, plain lines elsewhere; both on stderr."""

    def __init__(self, source: Path) -> None:
        self._name = source.name
        self._bar: RichProgress | None = None
        self._said = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=1.0)

    def __enter__(self) -> "_Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, share: float) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=share)
        elif time.monotonic() - self._said >= PLAIN_EVERY:
            self._said = time.monotonic()
            say(f"{self._name}: {100 * share:.0f} %")


class ProtocolName(StrEnum):
    """On what a model is judged."""

    whole = "whole"
    paper = "paper"
    both = "both"


STDOUT = Path("-")


@app.command()
def evaluate(
    hr: Annotated[Path, typer.Option(metavar="DIR", help="Folder of HR pictures.")],
    lr: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of LR pictures; made by default.")
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
    backend: Annotated[str, typer.Option(help="openvino, onnx or torch.")] = "openvino",
    precision: Annotated[PrecisionName, typer.Option()] = PrecisionName.auto,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
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
        with _extra("A plot needs", "figures"):
            from classsr.figures.quality import draw_quality
        check_output(plot, height=1, width=1, has_alpha=False, overwrite=overwrite)

    both = [ProtocolName.whole, ProtocolName.paper]
    wanted = both if protocol is ProtocolName.both else [protocol]
    asked: _Asked = {"route": route, "budget": budget, "max_loss": max_loss}
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
            print(f"{name}, {_said(asked)}, {each}\n{HEAD}", file=out)
            scores = []
            for evaluated in evaluation:
                scores.append(evaluated.score)
                print(line(evaluated.score), file=out, flush=True)
                if page is not None:
                    page.add(evaluated)
            results.append(Results(name, _said(asked), each, tuple(scores), mean_score(scores)))
            print(line(results[-1].mean), file=out, flush=True)
        if page is not None:
            page.finish(asked=_said(asked), command=shlex.join(["classsr", *sys.argv[1:]]))
    if len(results) > 1:
        print(f"\n{HEAD}", file=out)
        for one in results:
            print(line(one.mean, f"{one.model}, {one.protocol}"), file=out)
    for path, table in tables:
        if path == STDOUT:
            sys.stdout.write(table(results))
        else:
            _write_table(path, table(results))
    if plot is not None:
        draw_quality(results, plot, overwrite=overwrite)


def _write_table(path: Path, text: str) -> None:
    from classsr.files import write_whole

    try:
        write_whole(path, text.encode())
    except OSError as exc:
        raise OutputError(f"{path} cannot be written ({exc.strerror or exc}); make room.") from exc


def _said(asked: _Asked) -> str:
    """Say what was asked of the routing."""
    if asked["budget"] is not None:
        return f"budget {asked['budget']}"
    if asked["max_loss"] is not None:
        return f"at most {asked['max_loss']:g} dB lost"
    return asked["route"]


def shrinks_of(text: str) -> list[float]:
    """Read the factors of `--shrinks`.

    Raises:
        UsageError: it is no list of different numbers above 0 and up to 1.

    """
    try:
        factors = [float(part) for part in text.split(",")]
    except ValueError:
        factors = []
    if not factors or len(set(factors)) < len(factors) or not all(0 < f <= 1 for f in factors):
        raise UsageError(
            f"Expected different numbers above 0 and up to 1, such as 1,0.8,0.6, for --shrinks but got {text!r}."
        )
    return factors


@data_app.command()
def pack(
    hr: Annotated[Path, typer.Argument(metavar="HR_DIR", help="Folder of HR pictures.")],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder to write the pairs to.")],
    scale: Annotated[int, typer.Option(min=2, max=4)] = 4,
    shrinks: Annotated[
        str, typer.Option(metavar="F,F,...", help="Copies to make; 1 is the picture itself.")
    ] = "1,0.9,0.8,0.7,0.6",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Make LR and HR pairs of every picture and of its shrunk copies."""
    from classsr.data.pairs import pack as pack_pairs

    factors = shrinks_of(shrinks)

    def progress(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            say(f"{done}/{total} pictures")

    pack_pairs(hr, out, scale=scale, shrinks=factors, workers=workers, progress=progress)


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file of the experiment.")]
PairsFolder = Annotated[
    Path, typer.Option("--pairs", metavar="DIR", help="Folder made by `classsr data pack`.")
]
RunFolder = Annotated[
    Path, typer.Option("--run", metavar="DIR", help="Folder of the run; goes on where it stopped.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="auto: CUDA where there is any.")
]


def _experiment(
    config: Path, pairs: Path, run: Path, threads: int | None, device: str
) -> "Experiment":
    with _extra("Training needs", "train"):
        from classsr.training.stages import open_experiment
    return open_experiment(config, pairs, run, threads=threads, device=device)


@train_app.command("reference")
def train_reference(
    config: ConfigFile,
    pairs: PairsFolder,
    run: RunFolder,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Train the network that ranks the patches, on all of them."""
    experiment = _experiment(config, pairs, run, threads, device)
    from classsr.training import stages

    stages.train_reference(experiment)


@train_app.command("rank")
def train_rank(
    config: ConfigFile,
    pairs: PairsFolder,
    run: RunFolder,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME|FOLDER",
            help="Checkpoint or released model that ranks, at its hardest level; RUN/reference by default.",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Rank all patches by PSNR and cut them into classes."""
    experiment = _experiment(config, pairs, run, threads, device)
    from classsr.training import stages

    stages.rank_patches(experiment, reference)


@train_app.command("branch")
def train_branch(
    config: ConfigFile,
    pairs: PairsFolder,
    run: RunFolder,
    level: Annotated[
        int | None, typer.Option(min=0, help="Which branch, 0 the easiest; all in turn by default.")
    ] = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Stage 1: train each branch on the patches of its class."""
    experiment = _experiment(config, pairs, run, threads, device)
    from classsr.training import stages

    levels = range(len(experiment.config.model.branches)) if level is None else [level]
    for each in levels:
        stages.train_branch(experiment, each)


@train_app.command("classifier")
def train_classifier(
    config: ConfigFile,
    pairs: PairsFolder,
    run: RunFolder,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Stage 2: train the Class-Module, the branches frozen."""
    experiment = _experiment(config, pairs, run, threads, device)
    from classsr.training import stages

    stages.train_classifier(experiment)


@train_app.command("joint")
def train_joint(
    config: ConfigFile,
    pairs: PairsFolder,
    run: RunFolder,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Stage 3: train the branches and the Class-Module together."""
    experiment = _experiment(config, pairs, run, threads, device)
    from classsr.training import stages

    stages.train_joint(experiment)


@train_app.command("errors")
def train_errors(
    config: ConfigFile,
    pairs: PairsFolder,
    run: RunFolder,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Last stage, ours: train a Class-Module that predicts errors, which budgets need."""
    experiment = _experiment(config, pairs, run, threads, device)
    from classsr.training import error_classifier

    error_classifier.train_errors(experiment)


ReleasedFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The released model to write.")
]
ModelName = Annotated[str | None, typer.Option(help="Of the model; the folder's name by default.")]
Tile = Annotated[int, typer.Option(min=4, help="Side of a tile in LR pixels.")]
Halo = Annotated[
    str,
    typer.Option(
        metavar="N[,N...]",
        help="Neighbours around a window in LR pixels: one for all levels, or one each.",
    ),
]


def halos_of(text: str) -> list[int]:
    """Read the halos of `--halo`.

    Raises:
        UsageError: it is no list of whole numbers from 0 up.

    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"Expected whole numbers such as 4 or 3,4,6 for --halo but got {text!r}.")
    return [int(part) for part in parts]


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="RUN/joint/last.safetensors.")
    ],
    folder: ReleasedFolder,
    name: ModelName = None,
    tile: Tile = 32,
    halo: Halo = "4",
    openvino: Annotated[
        bool, typer.Option("--openvino", help="Also write every graph as OpenVINO IR.")
    ] = False,
) -> None:
    """Turn a trained checkpoint into a released model, and say how far every runtime is from it."""
    with _extra("Exporting needs", "train"):
        from classsr.export import export_model
    halos = halos_of(halo)
    model = export_model(
        checkpoint,
        folder,
        name=name or folder.name,
        tile=tile,
        halos=halos,
        openvino=openvino,
    )
    _say_released(model)


def _say_released(model: "Model") -> None:
    count = len(model.config.levels)
    say(f"{model.folder}: {model.config.name}, {count} level{'s' if count > 1 else ''}")


@app.command("import")
def import_foreign(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Checkpoint of other code, .pth or .safetensors.")
    ],
    folder: ReleasedFolder,
    name: ModelName = None,
    tile: Tile = 32,
    halo: Halo = "4",
    scale: Annotated[
        int | None,
        typer.Option(min=2, max=4, help="Of the network; read off the weights where they tell."),
    ] = None,
    mean: Annotated[
        MeanName | None,
        typer.Option(help="Where the mean colour is subtracted; read off the names by default."),
    ] = None,
) -> None:
    """Turn a ClassSR model or a single branch trained by other code into a released model."""
    import tempfile

    with _extra("Importing needs", "train"):
        from classsr.export import export_model
        from classsr.foreign import read_foreign
    halos = halos_of(halo)
    imported = read_foreign(file, scale=scale, mean=None if mean is None else mean.value)
    say(f"{file}: {imported.description}")
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "imported.safetensors"
        imported.save(checkpoint)
        model = export_model(checkpoint, folder, name=name or folder.name, tile=tile, halos=halos)
    _say_released(model)


RunFolders = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, to be compared.")
]
FigureFile = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The figure.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a figure that exists.")]


@figure_app.command("ranking")
def figure_ranking(
    runs: RunFolders,
    pairs: Annotated[
        list[Path],
        typer.Option("--pairs", metavar="DIR", help="Pairs of each run, in their order."),
    ],
    output: FigureFile,
    smooth: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="PSNR from which a patch is smooth; the first class border by default.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw PSNR over rank with example patches of every level, and print the share of smooth patches."""
    with _extra("Figures need", "figures"):
        from classsr.figures.ranking import draw_ranking, open_ranked

    if len(pairs) != len(runs):
        raise UsageError(
            f"Expected --pairs once for each of {len(runs)} runs but got it {len(pairs)} times."
        )
    sets = open_ranked(runs, pairs)
    for smoothness in draw_ranking(sets, output, smooth=smooth, overwrite=overwrite):
        sys.stdout.write(smoothness.line() + "\n")
    say(f"{output}: drawn")


@figure_app.command("training")
def figure_training(runs: RunFolders, output: FigureFile, overwrite: Overwrite = False) -> None:
    """Draw PSNR, cost and shares of the levels over the iterations of training."""
    with _extra("Figures need", "figures"):
        from classsr.figures.training import draw_training, read_courses

    draw_training(read_courses(runs), output, overwrite=overwrite)
    say(f"{output}: drawn")


def main() -> None:
    """Run the command line and exit with the documented code."""
    logger = logging.getLogger("classsr")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        sys.exit(app(standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        say("classsr: interrupted")
        sys.exit(INTERRUPTED)
    except typer.TyperException as exc:  # an option or an argument that does not exist or fit
        message = exc.format_message().replace("Value error, ", "").rstrip(".")
        if message:  # without arguments the help has been printed instead
            say(f"classsr: {message}; see `classsr --help`.")
        sys.exit(UsageError.exit_code)
    except ClassSRError as exc:
        if "--debug" in sys.argv:
            raise
        say(f"classsr: {exc}")
        sys.exit(exc.exit_code)
