"""`classsr export` and `classsr import`: from weights to a released model."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classsr.cli.options import extra
from classsr.cli.output import say
from classsr.errors import UsageError

if TYPE_CHECKING:
    from classsr.model import Model


class MeanName(StrEnum):
    """Where a network has the mean colour subtracted."""

    inside = "inside"
    outside = "outside"


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


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", readable=False, help="RUN/joint/last.safetensors."),
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
    with extra("Exporting needs", "train"):
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


def import_foreign(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", readable=False, help="Checkpoint of other code, .pth or .safetensors."
        ),
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

    with extra("Importing needs", "train"):
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
