"""What a backend is: the runtime that loads networks and runs them. Knows no runtime by itself."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from classsr.model import Model

Floats = NDArray[np.float32]
Precision = Literal["f32", "bf16"]


class Network(Protocol):
    """A loaded network: float32 (N, 3, H, W) in [0, 1] -> float32, N first; any N, H and W."""

    def __call__(self, batch: Floats) -> Floats:
        """Run the network on a batch."""
        ...


class Backend(Protocol):
    """A runtime, set up with its number of threads and its precision.

    `precision` is what the branches run in. The Class-Module always runs in f32: it costs little, and its
    decisions should not depend on the machine.
    """

    name: str
    precision: Precision

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module of a released model: tiles -> probabilities (N, levels).

        Raises:
            BackendError: the runtime cannot load it.

        """
        ...

    def branch(self, model: Model, level: int) -> Network:
        """Load the branch of one level of a released model.

        Raises:
            BackendError: the runtime cannot load it.

        """
        ...
