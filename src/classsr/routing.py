"""From the Class-Module's probabilities to the level of every tile. Knows neither pixels nor networks."""

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError

AUTO = "auto"


def forced_level(route: str, levels: int) -> int | None:
    """Return the one level that `route` asks for, or None where the Class-Module decides.

    Where there is one level, there is nothing to decide.

    Args:
        route: auto, easiest, hardest or a level's number.
        levels: number of levels.

    Raises:
        UsageError: `route` is none of these.

    """
    named = {AUTO: None if levels > 1 else 0, "easiest": 0, "hardest": levels - 1}
    if route in named:
        return named[route]
    if route.isdecimal() and int(route) < levels:
        return int(route)
    raise UsageError(
        f"Expected a route among auto, easiest, hardest and the levels 0 to {levels - 1} but got {route!r}."
    )


def likeliest(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Route every tile to its likeliest level, the paper's way: (N, levels) -> (N,)."""
    levels: NDArray[np.int64] = np.argmax(probabilities, axis=1)
    return levels
