"""The released model: a folder that says everything needed to run it.

    fsrcnn-x4/
    ├── config.json         what this module describes, with a checksum of every other file
    ├── classifier.onnx     the Class-Module: RGB (N, 3, tile, tile) in [0, 1] -> (N, levels), probabilities or
    │                       logarithms of errors; absent where there is one level
    ├── branch-0.onnx ...   one per level: RGB (N, 3, H, W) in [0, 1] -> (N, 3, scale * H, scale * W)
    ├── model.safetensors   the same weights for PyTorch
    └── README.md           the model card

An export may add every graph as OpenVINO IR (.xml and .bin), for other programs.

Training writes such folders and the upscaler reads them; neither knows the other. Loads no network itself.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from classsr.errors import ModelError

DEFAULT_MODEL = "compact-x4"
DEFAULT_MODEL_X2 = (
    "compact-x2"  # better than the former where the picture becomes at most twice as large
)
BUNDLED = Path(__file__).parent / "models"
FORMAT = 3  # raised when an older program could no longer read the folder


@dataclass(frozen=True, slots=True)
class Level:
    """The branch of one level. `macs_per_pixel` counts multiply-accumulates per LR pixel.

    `halo` is how many LR pixels of neighbours its windows get on every side, chosen by measurement; with
    `receptive_radius` of them nothing differs from the whole-picture run.
    """

    network: str
    width: int | None
    file: str
    parameters: int
    macs_per_pixel: int
    receptive_radius: int | None
    halo: int
    depth: int | None = None

    @property
    def label(self) -> str:
        """Name for people, such as fsrcnn-56, compact-32x8 or bicubic."""
        sizes = "x".join(str(size) for size in (self.width, self.depth) if size is not None)
        return f"{self.network}-{sizes}" if sizes else self.network

    @property
    def quantized(self) -> bool:
        """Whether it computes in 8-bit integers, all but its first and last convolution."""
        return self.network.endswith("-int8")


@dataclass(frozen=True, slots=True)
class ClassifierInfo:
    """The Class-Module. `macs` counts multiply-accumulates per tile.

    `predicts` says what it returns for a tile: the probability of every level, or the logarithm of the mean squared
    error of every level. `errors` is the calibration of the former, from which errors follow: that of level k on
    patches judged to be of level j, (j, k). All errors are of RGB in [0, 1]; where `errors` is None, there are none.
    """

    file: str
    parameters: int
    macs: int
    predicts: Literal["probabilities", "log-errors"] = "probabilities"
    errors: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What config.json says. `tile` is the side of a tile in LR pixels.

    `classifier` is None where there is one level and nothing to judge.
    """

    name: str
    scale: int
    tile: int
    levels: tuple[Level, ...]
    classifier: ClassifierInfo | None
    weights: str
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Model:
    """A released model that was found and whose files are complete and unchanged."""

    config: ModelConfig
    folder: Path

    def path(self, file: str) -> Path:
        """Return where a file of the model lies."""
        return self.folder / file


def bundled_models() -> list[str]:
    """List the names of the models that came with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def default_model(scale: float | None) -> str:
    """Return the name of the bundled model that enlarges by this factor, None being the largest there is."""
    return DEFAULT_MODEL if scale is None or scale > 2 else DEFAULT_MODEL_X2


def find_model(name_or_folder: str) -> Model:
    """Find a released model by the name of a bundled one or by its folder, and verify its files.

    Raises:
        ModelError: there is none, or it is incomplete, damaged or made for a newer version.

    """
    folder = BUNDLED / name_or_folder
    if name_or_folder not in bundled_models():
        folder = Path(name_or_folder)
        if not folder.is_dir():
            known = ", ".join(bundled_models())
            raise ModelError(
                f"There is no model {name_or_folder!r}; choose one of {known} or name a model's folder."
            )
    return open_model(folder)


def open_model(folder: Path) -> Model:
    """Read config.json and verify the checksum of every file that it names.

    Raises:
        ModelError: a file is missing or changed, or the format is unknown.

    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(
            f"{folder} is no released model: its config.json cannot be read ({exc}); copy or export the model again."
        ) from exc
    config = _parse(content, folder)
    for file, expected in config.sha256.items():
        path = folder / file
        if not path.is_file():
            raise ModelError(f"The model {folder} lacks {file}; copy or export it again.")
        if sha256(path) != expected:
            raise ModelError(f"{path} differs from its checksum; copy or export the model again.")
    return Model(config, folder)


def _parse(content: Any, folder: Path) -> ModelConfig:  # noqa: ANN401 - any JSON value
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise ModelError(
            f"Expected a model of format {FORMAT} in {folder} but got {found!r}; update classsr or export it again."
        )
    try:
        fields = {name: value for name, value in content.items() if name != "format"}
        fields["levels"] = tuple(Level(**level) for level in fields["levels"])
        if fields["classifier"] is not None:
            info = ClassifierInfo(**fields["classifier"])
            if info.errors is not None:
                info = replace(info, errors=tuple(tuple(row) for row in info.errors))
            fields["classifier"] = info
        return ModelConfig(**fields)
    except (KeyError, TypeError) as exc:
        raise ModelError(
            f"The config.json of {folder} is wrong ({exc}); copy or export the model again."
        ) from exc


def write_config(config: ModelConfig, folder: Path) -> None:
    """Write config.json, the last file of a released model."""
    content = {"format": FORMAT, **asdict(config)}
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
