"""`classsr info` and `classsr models`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info(as_json: AsJson = False) -> None:
    """Show versions, backends, models, cache and settings; put this into a bug report."""
    import json

    from classsr.about import find_info, lines_of

    found = find_info()
    told = json.dumps(asdict(found), indent=2) if as_json else "\n".join(lines_of(found))
    sys.stdout.write(told + "\n")


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
    from classsr.model import DEFAULT_MODEL

    found = find_models(folders or [])
    if as_json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
        return
    for each in found:
        sys.stdout.write(
            f"{each.name}{' (default)' if each.name == DEFAULT_MODEL else ''}: x{each.scale}, "
            f"{' / '.join(each.levels)}, {each.parameters:,} parameters, {each.megabytes:g} MB, "
            f"routes by {each.routes_by}\n"
        )
