"""What is installed and what this machine can do, for people who report a problem and for programs that choose."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from classsr import __version__
from classsr.backends import BACKENDS, open_backend
from classsr.costs import cache_folder
from classsr.errors import BackendError
from classsr.image import FORMATS
from classsr.model import DEFAULT_MODEL, Model, bundled_models, find_model

ENVIRONMENT = (
    "CLASSSR_MODEL",
    "CLASSSR_BACKEND",
    "CLASSSR_PRECISION",
    "CLASSSR_THREADS",
    "CLASSSR_CACHE",
)


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A runtime: its version and what it computes in by default, or why it cannot be used."""

    name: str
    version: str | None
    precision: str | None
    missing: str | None


@dataclass(frozen=True, slots=True)
class Info:
    """What is installed. `packages` are versions by name; `environment` are those variables of ours that are set."""

    version: str
    python: str
    system: str
    processor_threads: int
    packages: dict[str, str]
    formats: tuple[str, ...]
    backends: tuple[BackendInfo, ...]
    models: tuple[str, ...]
    default_model: str
    cache: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A released model. `levels` are from the easiest to the hardest, `macs_per_pixel` per LR pixel of each."""

    name: str
    folder: str
    scale: int
    levels: tuple[str, ...]
    parameters: int
    macs_per_pixel: tuple[int, ...]
    routes_by: str
    megabytes: float


def find_info() -> Info:
    """Look at what is installed; every runtime is loaded, which takes seconds."""
    return Info(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor_threads=os.cpu_count() or 1,
        packages={name: importlib.metadata.version(name) for name in ("numpy", "pyvips-binary")},
        formats=tuple(each.name for each in FORMATS),
        backends=tuple(_backend(name) for name in BACKENDS),
        models=tuple(bundled_models()),
        default_model=DEFAULT_MODEL,
        cache=str(cache_folder()),
        environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    )


def _backend(name: str) -> BackendInfo:
    try:
        backend = open_backend(name, precision="auto", threads=None)
    except BackendError as exc:
        return BackendInfo(name, None, None, str(exc))
    return BackendInfo(name, backend.version, backend.precision, None)


def find_models(folders: Sequence[Path] = ()) -> list[ModelInfo]:
    """Describe the bundled models and those in these folders, whose files are verified.

    Raises:
        ModelError: a model is incomplete or damaged.

    """
    names = [*bundled_models(), *map(str, folders)]
    return [_describe(find_model(name)) for name in names]


def _describe(model: Model) -> ModelInfo:
    config = model.config
    judge = config.classifier
    routes_by = "nothing, for it has one level" if judge is None else f"predicted {judge.predicts}"
    if judge is not None and judge.predicts == "log-errors":
        routes_by = "predicted errors"
    files = [model.path(file) for file in config.sha256]
    return ModelInfo(
        name=config.name,
        folder=str(model.folder),
        scale=config.scale,
        levels=tuple(level.label for level in config.levels),
        parameters=sum(level.parameters for level in config.levels)
        + (0 if judge is None else judge.parameters),
        macs_per_pixel=tuple(level.macs_per_pixel for level in config.levels),
        routes_by=routes_by,
        megabytes=round(sum(file.stat().st_size for file in files) / 1e6, 2),
    )


def lines_of(info: Info) -> Iterator[str]:
    """Say it in lines for people."""
    yield f"classsr {info.version}, Python {info.python}, {info.system}, {info.processor_threads} processor threads"
    yield "packages: " + ", ".join(f"{name} {version}" for name, version in info.packages.items())
    yield f"formats: {', '.join(info.formats)}"
    for backend in info.backends:
        told = backend.missing or f"{backend.version}, computes in {backend.precision}"
        yield f"backend {backend.name}: {told}"
    yield f"models: {', '.join(info.models)}; {info.default_model} by default"
    yield f"cache: {info.cache}"
    for name, value in info.environment.items():
        yield f"{name}={value}"
