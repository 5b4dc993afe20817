"""The application: all commands, and every error's way to its exit code."""

import sys
from typing import Annotated

import typer

from classsr import __version__
from classsr.cli.about import info, models
from classsr.cli.evaluate import evaluate
from classsr.cli.figure import figure_app
from classsr.cli.output import say, say_what_is_logged
from classsr.cli.release import export, import_foreign
from classsr.cli.train import data_app, train_app
from classsr.cli.upscale import EXAMPLES, upscale
from classsr.errors import ClassSRError, UsageError

INTERRUPTED = 130  # as shells report a process ended by Ctrl-C

app = typer.Typer(
    name="classsr",
    help="Enlarge pictures, spending computation only where a picture is hard.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
EVERYDAY, RESEARCH = "Everyday", "Research"

app.command(epilog=EXAMPLES, rich_help_panel=EVERYDAY)(upscale)
app.command(rich_help_panel=EVERYDAY)(models)
app.command(rich_help_panel=EVERYDAY)(info)
app.command(rich_help_panel=RESEARCH)(evaluate)
app.add_typer(data_app, name="data", rich_help_panel=RESEARCH)
app.add_typer(train_app, name="train", rich_help_panel=RESEARCH)
app.command(rich_help_panel=RESEARCH)(export)
app.command("import", rich_help_panel=RESEARCH)(import_foreign)
app.add_typer(figure_app, name="figure", rich_help_panel=RESEARCH)


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
    say_what_is_logged()


def main() -> None:
    """Run the command line and exit with the documented code."""
    try:
        sys.exit(app(standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        say("classsr: interrupted")
        sys.exit(INTERRUPTED)
    except typer.TyperException as exc:  # an option or an argument that does not exist or fit
        message = " ".join(exc.format_message().replace("Value error, ", "").split()).rstrip(".")
        if message:  # without arguments the help has been printed instead
            say(f"classsr: {message}; see `classsr --help`.")
        sys.exit(UsageError.exit_code)
    except ClassSRError as exc:
        if "--debug" in sys.argv:
            raise
        say(f"classsr: {exc}")
        sys.exit(exc.exit_code)
