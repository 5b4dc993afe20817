"""`classsr data` and `classsr train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classsr.cli.options import extra
from classsr.cli.output import say
from classsr.errors import UsageError

if TYPE_CHECKING:
    from classsr.training.stages import Experiment

data_app = typer.Typer(help="Prepare pictures for training.", no_args_is_help=True)
train_app = typer.Typer(help="Train a ClassSR model, one command per stage.", no_args_is_help=True)


def shrinks_of(text: str) -> tuple[float, ...]:
    """Read the factors of `--shrinks`.

    Raises:
        UsageError: it is no list of different numbers above 0 and up to 2.

    """
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        factors = ()
    if not factors or len(set(factors)) < len(factors) or not all(0 < f <= 2 for f in factors):
        raise UsageError(
            f"Expected different numbers above 0 and up to 2, such as 1,0.8,0.6, for --shrinks but got {text!r}."
        )
    return factors


@data_app.command()
def pack(
    hr: Annotated[
        Path, typer.Argument(metavar="HR_DIR", readable=False, help="Folder of HR pictures.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder to write the pairs to.")],
    scale: Annotated[int | None, typer.Option(min=2, max=4, help="4 by default.")] = None,
    shrinks: Annotated[
        str | None,
        typer.Option(
            metavar="F,F,...",
            help="Copies to make, 1 being the picture itself, 1.5 its middle enlarged; 1,0.9,0.8,0.7,0.6 by default.",
        ),
    ] = None,
    grain: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="One more copy, the middle enlarged so much, with noise as in large photographs; none by default.",
        ),
    ] = None,
    drawn: Annotated[
        int | None,
        typer.Option(
            min=0, help="Pages, charts, screens and drawings to draw besides; none by default."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The experiment that says all this instead.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Make LR and HR pairs of every picture and of its copies."""
    from classsr.data.pairs import SHRINKS
    from classsr.data.pairs import pack as pack_pairs

    factors = SHRINKS if shrinks is None else shrinks_of(shrinks)
    if config is not None:
        if any(option is not None for option in (scale, shrinks, grain, drawn)):
            raise UsageError(
                "Expected --config, or --scale, --shrinks, --grain and --drawn, but not both."
            )
        with extra("Reading a config needs", "train"):
            from classsr.training.config import load_config
        experiment = load_config(config)
        data = experiment.data
        scale, factors, grain, drawn = experiment.model.scale, data.shrinks, data.grain, data.drawn
    elif grain is not None and not 1 < grain <= 2:
        raise UsageError(f"Expected a number above 1 and up to 2 for --grain but got {grain:g}.")

    def progress(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            say(f"{done}/{total} pictures")

    pack_pairs(
        hr,
        out,
        scale=scale or 4,
        shrinks=factors,
        draw=drawn or 0,
        grain=grain,
        workers=workers,
        progress=progress,
    )


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file of the experiment.")]
PairsFolder = Annotated[
    Path,
    typer.Option(
        "--pairs", metavar="DIR", readable=False, help="Folder made by `classsr data pack`."
    ),
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
    with extra("Training needs", "train"):
        from classsr.training.stages import open_experiment
    return open_experiment(config, pairs, run, threads=threads, device=device)


def _is_asked(section: object, name: str) -> bool:
    """Return whether the config has a section; say that its stage is left out where it has not."""
    if section is None:
        say(f"The config has no [{name}]: nothing to do.")
    return section is not None


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

    if _is_asked(experiment.config.reference, "reference"):
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

    if reference is not None or _is_asked(experiment.config.reference, "reference"):
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

    if _is_asked(experiment.config.classifier, "classifier"):
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

    if _is_asked(experiment.config.joint, "joint"):
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
