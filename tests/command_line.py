"""Runs the command line in this process and says how it ended."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from classsr.cli import main
from fakes import FakeBackend

Array = npt.NDArray[Any]

# The exit codes that README.md documents.
USAGE, INPUT, OUTPUT, MODEL, BACKEND, INTERRUPTED = 2, 3, 4, 5, 6, 130


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """Runs `classsr ARGUMENTS` in this process, in a folder of its own."""

    folder: Path
    backend: FakeBackend
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Ended:
        self.patch.setattr(sys, "argv", ["classsr", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        return Ended(code if isinstance(code, int) else 0, *self.capture.readouterr())

    def add(self, name: str, pixels: Array) -> Array:
        """Put a picture into the folder."""
        Image.fromarray(pixels).save(self.folder / name)
        return pixels

    def files(self) -> set[str]:
        """Names of all files in the folder, hidden ones included."""
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()}


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Array:
    """A picture of noise, uint8."""
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pixels_of(path: Path) -> Array:
    """What Pillow reads."""
    with Image.open(path) as opened:
        return np.asarray(opened)


def command(*arguments: str | Path, plain_every: float = 5.0) -> list[str]:
    """The command line as a process, with warnings as errors."""
    start = f"import classsr.cli.progress as p; p.PLAIN_EVERY = {plain_every}; from classsr.cli import main; main()"
    return [sys.executable, "-W", "error", "-c", start, *map(str, arguments)]
