"""What the branches cost on this machine, in seconds: measured in about a second, once, and remembered.

A cost counts everything that grows with the pixels of a window: gathering, the network, rounding, putting together.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from classsr import __version__
from classsr.backends import Backend, Network
from classsr.canvas import PlacedCanvas, to_network
from classsr.files import write_whole
from classsr.guard import differences
from classsr.image import Header
from classsr.model import Model, ModelConfig
from classsr.plan import Cost, Costs
from classsr.tiles import TileGrid, split

ROUNDS: Final = 12  # every measurement is taken so often, all in turn; the best counts
BLOCKS: Final = (1, 2)  # tiles to a side of the two blocks that are timed
PIXELS: Final = (
    6 * 1024
)  # LR pixels of one measurement: milliseconds, which other work often spares
TILES: Final = 64  # judged in one measurement
DIGITS: Final = 2  # kept, so that noise does not pose as knowledge


def costs_on_this_machine(backend: Backend, model: Model) -> Costs:
    """Return what the levels of a model cost, from the cache where it has been measured before.

    The cache is a file in the user's cache folder, or in the folder that the environment variable CLASSSR_CACHE names.
    One that cannot be read or written costs time, and nothing else.
    """
    path = cache_folder() / "costs.json"
    key = _key(backend, model)
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))[key]
        return Costs(tuple(Cost(**level) for level in found["levels"]), float(found["classifier"]))
    costs = measure(backend, model)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    kept = known if isinstance(known, dict) else {}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**kept, key: asdict(costs)}, indent=1).encode())
    return costs


def cache_folder() -> Path:
    """Return the folder of what this package remembers between runs."""
    named = os.environ.get("CLASSSR_CACHE")
    return Path(named) if named else user_cache_path("classsr")


def by_macs(config: ModelConfig) -> Costs:
    """Return costs in multiply-accumulates, which are the same everywhere but not what a clock says."""
    levels = tuple(Cost(level.macs_per_pixel, level.halo) for level in config.levels)
    return Costs(levels, config.classifier.macs if config.classifier else 0, "MACs")


def measure(backend: Backend, model: Model) -> Costs:
    """Time every branch on blocks of two sizes, and the Class-Module on single tiles."""
    config = model.config
    jobs: dict[tuple[int, int], tuple[Callable[[], None], int, int]] = {}
    for k, level in enumerate(config.levels):
        network = backend.branch(model, k)
        for tiles in BLOCKS:
            side = tiles * config.tile
            count = max(PIXELS // (side + 2 * level.halo) ** 2, 1)
            job = _enlarging(network, side=side, halo=level.halo, count=count, scale=config.scale)
            jobs[k, tiles] = job, count, (side + 2 * level.halo) ** 2
    if config.classifier is not None:
        count = TILES
        tiles_of_noise = to_network(_noise(count, config.tile))
        classifier = backend.classifier(model)

        def judge() -> None:
            classifier(tiles_of_noise)

        jobs[-1, 1] = judge, count, 1
    best = dict.fromkeys(jobs, float("inf"))
    for round_ in range(1 + ROUNDS):
        for name, (job, count, _) in jobs.items():
            started = time.perf_counter()
            job()
            spent = (time.perf_counter() - started) / count
            if round_ > 0:  # the first prepares
                best[name] = min(best[name], spent)
    levels = []
    for k, level in enumerate(config.levels):
        small, large = (jobs[k, tiles][2] for tiles in BLOCKS)
        per_pixel = (best[k, BLOCKS[1]] - best[k, BLOCKS[0]]) / (large - small)
        per_pixel = min(max(per_pixel, 0.0), best[k, BLOCKS[1]] / large)
        per_window = max(best[k, BLOCKS[1]] - per_pixel * large, 0.0)
        levels.append(Cost(_brief(per_pixel), level.halo, _brief(per_window)))
    return Costs(tuple(levels), _brief(best.get((-1, 1), 0.0)))


def _enlarging(
    network: Network, *, side: int, halo: int, count: int, scale: int
) -> Callable[[], None]:
    """Return a job that enlarges so many square windows, from bytes to bytes."""
    grid = TileGrid(side, side, tile=side, step=side)
    windows = _noise(1, side + 2 * halo)[0]
    blocks = grid.tiles.repeat(count, axis=0)
    levels = np.zeros(grid.shape, np.int64)

    def run() -> None:
        canvas = PlacedCanvas(grid, levels, Header(side, side), scale=scale)
        canvas.begin(range(1))
        lr = to_network(split(windows, grid, blocks, halo=halo))
        sr = network(lr)
        differences(sr, lr)  # as the guard does
        canvas.add(sr, blocks, halo)

    return run


def _noise(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def _brief(seconds: float) -> float:
    return float(f"{seconds:.{DIGITS - 1}e}")


def _key(backend: Backend, model: Model) -> str:
    """Name what the costs depend on: program, runtime, machine, model."""
    told = [
        __version__,
        backend.name,
        backend.version,
        backend.precision,
        str(backend.threads),
        platform.machine(),
        platform.processor(),
        str(os.cpu_count()),
        *sorted(model.config.sha256.values()),
        *(str(level.halo) for level in model.config.levels),
    ]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
