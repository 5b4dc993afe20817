"""`classsr info` and `classsr models`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from classsr.cli.output import tell

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info(as_json: AsJson = False) -> None:
    """Show versions, backends, models, cache and settings; put this into a bug report."""
    import json

    from classsr.about import find_info, lines_of

    found = find_info()
    for line in [json.dumps(asdict(found))] if as_json else lines_of(found):
        tell(line)


def models(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="Models beside the bundled ones."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the released models, whose checksums are verified on the way."""
    import json

    from classsr.about import find_models
    from classsr.model import DEFAULT_MODEL, DEFAULT_MODEL_X2

    default = {DEFAULT_MODEL: " (default)", DEFAULT_MODEL_X2: " (default for --scale up to 2)"}
    found = find_models(folders or [])
    if as_json:
        tell(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        tell(
            f"{each.name}{default.get(each.name, '')}: x{each.scale}, "
            f"{' / '.join(each.levels)}, {each.parameters:,} parameters, {each.megabytes:g} MB, "
            f"routes by {each.routes_by}"
        )
