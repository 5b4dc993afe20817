"""What is asked of the routing, and from the Class-Module's outputs to levels or to predicted errors.

Knows neither pixels nor networks.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError
from classsr.model import ModelConfig
from classsr.prices import LOSS

AUTO = "auto"
LIKELIEST = "argmax"


@dataclass(frozen=True, slots=True)
class Goal:
    """What the routing is to reach.

    Args:
        level: this level for all tiles.
        likeliest: every tile at the level that the Class-Module finds likeliest, the paper's way; with `share`, unless
            that costs more.
        share: the most to spend, as a share of what the hardest branch everywhere costs.
        seconds: the most to spend on routing, networks and putting together, in seconds.
        loss: the most to lose against the hardest branch everywhere, in dB of PSNR on RGB, as predicted.

    """

    level: int | None = None
    likeliest: bool = False
    share: float | None = None
    seconds: float | None = None
    loss: float | None = None


def find_goal(
    config: ModelConfig,
    *,
    route: str = AUTO,
    budget: str | float | None = None,
    max_loss: float | None = None,
) -> Goal:
    """Turn what a user asks for into a goal.

    Args:
        config: of the model.
        route: auto, argmax, easiest, hardest or a level's number. `auto` loses at most 0.02 dB as predicted; for a
            model that predicts no errors it is argmax, or hardest where that costs less.
        budget: a share of the hardest branch's cost, such as 0.5, or seconds, such as "2s".
        max_loss: dB of PSNR below the hardest branch everywhere.

    Raises:
        UsageError: there is no such route or budget, more than one is asked for, or the model predicts no errors.

    """
    levels = len(config.levels)
    if budget is None and max_loss is None:
        return _from_route(config, route)
    if route != AUTO or (budget is not None and max_loss is not None):
        raise UsageError("Expected one of a route, a budget and a loss, but got two of them.")
    if levels > 1 and not _predicts(config):
        raise UsageError(
            f"The model {config.name} does not predict errors, which a budget or a loss needs; choose another model."
        )
    if levels == 1:
        return Goal(level=0)
    if max_loss is not None:
        if not 0 <= max_loss < math.inf:
            raise UsageError(f"Expected a loss of 0 dB or more but got {max_loss}.")
        return Goal(loss=max_loss)
    text = str(budget).strip()
    try:
        amount = float(text.removesuffix("s"))
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise UsageError(f"Expected a budget such as 0.5 or 2s but got {budget!r}.")
    return Goal(seconds=amount) if text.endswith("s") else Goal(share=amount)


def _from_route(config: ModelConfig, route: str) -> Goal:
    levels = len(config.levels)
    if route == AUTO and levels > 1:
        return Goal(loss=LOSS) if _predicts(config) else Goal(likeliest=True, share=1.0)
    if route == LIKELIEST and levels > 1:
        if config.classifier is not None and config.classifier.predicts == "log-errors":
            raise UsageError(
                f"The Class-Module of {config.name} predicts errors, not the likeliest level; use the route auto."
            )
        return Goal(likeliest=True)
    named = {AUTO: 0, LIKELIEST: 0, "easiest": 0, "hardest": levels - 1}
    if route in named:
        return Goal(level=named[route])
    if route.isdecimal() and int(route) < levels:
        return Goal(level=int(route))
    raise UsageError(
        f"Expected a route among auto, argmax, easiest, hardest and the levels 0 to {levels - 1} but got {route!r}."
    )


def _predicts(config: ModelConfig) -> bool:
    info = config.classifier
    return info is not None and (info.predicts == "log-errors" or info.errors is not None)


def likeliest(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Route every tile to its likeliest level, the paper's way: (N, levels) -> (N,)."""
    levels: NDArray[np.int64] = np.argmax(probabilities, axis=1)
    return levels


def predicted_errors(judged: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float64]:
    """Turn the Class-Module's outputs into the mean squared error expected at each level.

    Args:
        judged: (N, levels), logarithms of errors, or probabilities, which are weighted with the model's calibration.
        config: of a model that predicts errors.

    Returns:
        (N, levels), RGB in [0, 1].

    """
    info = config.classifier
    assert info is not None
    values = judged.astype(np.float64)
    if info.predicts == "log-errors":
        errors: NDArray[np.float64] = np.exp(values)
    else:
        assert info.errors is not None
        errors = values @ np.array(info.errors)
    return errors
