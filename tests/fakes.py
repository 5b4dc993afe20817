"""A NumPy backend that stands in for real ones wherever the weights do not matter."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from classsr.backends import Network, Precision
from classsr.backends.base import Floats
from classsr.model import Model

SCALE = 4
COLOUR = np.array([60, 120, 180, 240, 30])  # in which `signing` paints each level


def repeat(batch: Floats) -> Floats:
    """Enlarge the last two axes by repeating pixels."""
    return batch.repeat(SCALE, axis=-1).repeat(SCALE, axis=-2)


def repeating(batch: Floats, level: int) -> Floats:
    """A network that enlarges by repetition at every level."""
    return repeat(batch)


def signing(batch: Floats, level: int) -> Floats:
    """A network that paints everything in the colour of its level."""
    return np.full_like(repeat(batch), COLOUR[level] / 255)


def enlarged_by_repetition(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What `repeating` makes of a picture (H, W) or (H, W, 3)."""
    return pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


@dataclass
class FakeBackend:
    """Enlarges in NumPy; the brighter a tile, the harder its Class-Module calls it. Notes every call."""

    enlarge: Callable[[Floats, int], Floats] = repeating
    name: str = "fake"
    version: str = "1"
    threads: int | None = None
    precision: Precision = "f32"
    loaded: list[int | str] = field(default_factory=list)
    calls: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def classifier(self, model: Model) -> Network:
        """Judge tiles by their mean: the lowest part of the range is level 0, or its error the least."""
        self.loaded.append("classifier")
        assert model.config.classifier is not None
        levels = len(model.config.levels)
        predicts_errors = model.config.classifier.predicts == "log-errors"

        def judge(batch: Floats) -> Floats:
            assert batch.shape[1:] == (3, model.config.tile, model.config.tile)
            brightness = batch.mean(axis=(1, 2, 3))
            if predicts_errors:
                more = np.arange(levels)[::-1] * brightness[:, None]
                errors: Floats = np.log(1e-3 * (1 + more)).astype(np.float32)
                return errors
            likeliest = (brightness * (levels - 0.001)).astype(int)
            probabilities: Floats = np.eye(levels, dtype=np.float32)[likeliest]
            return probabilities

        return judge

    def branch(self, model: Model, level: int) -> Network:
        """Enlarge as `enlarge` says."""
        self.loaded.append(level)

        def run(batch: Floats) -> Floats:
            self.calls.append((level, batch.shape))
            return self.enlarge(batch, level)

        return run
