"""`classsr figure`."""

from pathlib import Path
from typing import Annotated

import typer

from classsr.cli.options import Overwrite, extra
from classsr.cli.output import say, tell
from classsr.errors import UsageError

figure_app = typer.Typer(
    help="Draw how hard patches are and how training went.", no_args_is_help=True
)


RunFolders = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, to be compared.")
]
FigureFile = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The figure.")]


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
    with extra("Figures need", "figures"):
        from classsr.figures.ranking import draw_ranking, open_ranked

    if len(pairs) != len(runs):
        raise UsageError(
            f"Expected --pairs once for each of {len(runs)} runs but got it {len(pairs)} times."
        )
    sets = open_ranked(runs, pairs)
    for smoothness in draw_ranking(sets, output, smooth=smooth, overwrite=overwrite):
        tell(smoothness.line())
    say(f"{output}: drawn")


@figure_app.command("training")
def figure_training(runs: RunFolders, output: FigureFile, overwrite: Overwrite = False) -> None:
    """Draw PSNR, cost and shares of the levels over the iterations of training."""
    with extra("Figures need", "figures"):
        from classsr.figures.training import draw_training, read_courses

    draw_training(read_courses(runs), output, overwrite=overwrite)
    say(f"{output}: drawn")
