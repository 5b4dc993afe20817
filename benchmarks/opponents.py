"""What ClassSR is measured against: the hardest branch everywhere at its best, and the way of the research code.

Both take an LR picture in memory, uint8, and return SR in memory, uint8, as `Upscaler.upscale` does.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from classsr.backends import Choice, Network, open_backend
from classsr.canvas import PlacedCanvas, to_network
from classsr.checkpoint import load_networks
from classsr.costs import by_macs
from classsr.engine import BATCH_PIXELS, PAPER_STEP
from classsr.errors import OutOfMemoryError
from classsr.image import Header
from classsr.model import Model
from classsr.networks import BRANCHES, BranchSpec, ErrorClassifier, build_branch
from classsr.planner import Planner
from classsr.tiles import TileGrid, batches, coverage, pad_edges, split
from classsr.upscaler import Upscaler
from machine import medians, take_turns
from subjects import RGB8, Subject

Enlarge = Callable[[RGB8], RGB8]

TILES = (64, 128, 256)  # sides that are tried, LR pixels
WHOLE = 2**20  # side of a tile that no picture exceeds
RUNTIMES: tuple[tuple[str, Choice], ...] = (
    ("openvino", "auto"),
    ("openvino", "f32"),
    ("onnx", "f32"),
    ("torch", "bf16"),
    ("torch", "f32"),
)
ONNX_WHOLE_PIXELS = 2**18  # LR; it needs 2.4 GB for 510x339 at once
MIDDLE = (384, 512)  # LR pixels at most, on which all ways are tried first
FINALISTS = 4  # of those tried on the whole picture, which then take turns
HOPELESS = 2.0  # times the best on the middle: not tried on the whole picture
OURS = "the engine's own"


@dataclass(frozen=True, slots=True)
class Opponent:
    """The fastest way to run the hardest branch everywhere, its seconds, and how many times as long the others took."""

    name: str
    enlarge: Enlarge
    seconds: float
    others: dict[str, float]  # fastest first


def enlarge_at(network: Network, lr: RGB8, *, tile: int, halo: int, scale: int) -> RGB8:
    """Enlarge a picture with one network, in tiles of this side, put together by the engine's canvas."""
    grid = TileGrid(lr.shape[0], lr.shape[1], tile=tile, step=tile)
    levels = np.zeros(grid.shape, np.int64)
    canvas = PlacedCanvas(grid, levels, Header(*lr.shape[:2]), scale=scale)
    canvas.begin(range(grid.shape[0]))
    padded = pad_edges(lr, halo=halo)
    height, width = grid.window()
    count = max(BATCH_PIXELS // ((height + 2 * halo) * (width + 2 * halo)), 1)
    for blocks in batches(grid.tiles, count):
        windows = split(padded, grid, blocks, halo=halo)
        canvas.add(network(to_network(windows)), blocks, halo)
    sr: RGB8 = canvas.finish()
    return sr


def find_opponent(upscaler: Upscaler, subject: Subject, *, threads: int | None) -> Opponent:
    """Try the hardest branch everywhere in every runtime, precision and tile on one picture.

    All are tried on its middle; those that are not hopelessly slow there, on the whole picture; the fastest and the
    engine's own then take turns. What does not fit into memory takes infinitely long.
    """
    ways: dict[str, Enlarge] = {OURS: partial(hardest, upscaler)}
    ways.update(_ways(upscaler.model, subject.lr, threads=threads))
    middle = subject.centre(*MIDDLE).lr
    seconds = _try(ways, middle)
    others = _times_as_long(seconds)
    if middle.size < subject.lr.size:
        hopeful = [name for name, times in others.items() if times <= HOPELESS]
        seconds = _try({name: ways[name] for name in hopeful}, subject.lr)
        others |= _times_as_long(seconds)
    fastest = [name for name, times in _times_as_long(seconds).items() if math.isfinite(times)]
    final = dict.fromkeys([*fastest[:FINALISTS], OURS])
    jobs = {name: partial(ways[name], subject.lr) for name in final}
    again = medians(take_turns(jobs, repeats=3))
    others |= _times_as_long(again)
    best = min(again, key=again.__getitem__)
    return Opponent(
        best, ways[best], again[best], dict(sorted(others.items(), key=lambda each: each[1]))
    )


def _try(ways: Mapping[str, Enlarge], lr: RGB8) -> dict[str, float]:
    """Return each way's seconds, after one run that is not counted; infinity where memory runs out."""
    seconds: dict[str, float] = {}
    for name, enlarge in ways.items():
        try:
            enlarge(lr)
            (seconds[name],) = take_turns({name: partial(enlarge, lr)}, repeats=1)[name]
        except (OutOfMemoryError, MemoryError):
            seconds[name] = math.inf
        print(f"  (a): {name}, {seconds[name]:.3f} s", file=sys.stderr)
    return seconds


def _times_as_long(seconds: Mapping[str, float]) -> dict[str, float]:
    """Divide by the shortest, and put it first."""
    best = min(seconds.values())
    return {name: seconds[name] / best for name in sorted(seconds, key=seconds.__getitem__)}


def hardest(upscaler: Upscaler, lr: RGB8) -> RGB8:
    """Run the engine's own hardest branch everywhere, without the Class-Module."""
    sr: RGB8 = upscaler.upscale(lr, route="hardest").image
    return sr


def _ways(model: Model, lr: RGB8, *, threads: int | None) -> Iterator[tuple[str, Enlarge]]:
    """Yield every way to run the hardest branch everywhere, by name."""
    config = model.config
    level = len(config.levels) - 1
    for runtime, precision in RUNTIMES:
        backend = open_backend(runtime, precision=precision, threads=threads)
        if precision == "auto" and backend.precision == "f32":
            continue  # which comes next
        network = backend.branch(model, level)
        for tile in (*TILES, WHOLE):
            if tile != WHOLE and tile >= max(lr.shape[:2]):
                continue
            pixels = lr.shape[0] * lr.shape[1]
            if runtime == "onnx" and tile == WHOLE and pixels > ONNX_WHOLE_PIXELS:
                continue
            size = "the whole picture at once" if tile == WHOLE else f"tiles of {tile}"
            halo = config.levels[level].halo
            way = partial(enlarge_at, network, tile=tile, halo=halo, scale=config.scale)
            yield f"{runtime} {backend.precision}, {size}", way


def unrouted_window(model: Model, lr: RGB8) -> tuple[int, int]:
    """Return (height, width) of the windows of the engine's own hardest branch everywhere, halo included."""
    config = model.config
    planner = Planner(*lr.shape[:2], tile=config.tile, costs=by_macs(config))
    group = planner.one_level(len(config.levels) - 1, "").bands[0].groups[0]
    height, width = planner.grid.window(*group.blocks[0, 2:].tolist())
    halo = config.levels[-1].halo
    return height + 2 * halo, width + 2 * halo


def _in_floats(spec: BranchSpec, branch: nn.Module) -> nn.Module:
    """Return a branch of integers with its weights as floats, any other as it is."""
    plain = BRANCHES[spec.network].form_of
    if plain is None:
        return branch
    found = build_branch(replace(spec, network=plain))
    weights = branch.state_dict()
    found.load_state_dict({name: weights[name] for name in found.state_dict()})
    return found.eval()


class ResearchWay:
    """The way of the research code: each tile of 32 at step 28 alone through Class-Module and branch, torch float32.

    Overlaps are averaged; no halo. Written from the description in the paper. Where the Class-Module predicts errors
    instead of classes, a tile's level is the argmin of predicted error + price x MACs. Levels of 8-bit integers run
    their weights in floats, without rounding: in PyTorch, which computes no integers here, that is faster.

    Args:
        model: the released model, whose networks are run as they were trained.
        threads: processor threads at most; all by default.

    """

    def __init__(self, model: Model, *, threads: int | None) -> None:
        networks = load_networks(model.path(model.config.weights))
        assert networks.classifier is not None
        self._classifier = networks.classifier
        self._branches = list(map(_in_floats, networks.specs, networks.branches))
        self._config = model.config
        self._macs = torch.tensor([float(level.macs_per_pixel) for level in model.config.levels])
        self._price = 0.0
        self._threads = threads or os.cpu_count() or 1
        self.predicts_errors = isinstance(networks.classifier, ErrorClassifier)

    def choose_threads(self, lr: RGB8) -> None:
        """Take one thread where that is faster for a picture than all of them, as it may be for single tiles."""
        seconds = {}
        for count in sorted({1, self._threads}):
            self._threads = count
            self(lr)
            (seconds[count],) = take_turns({"": partial(self, lr)}, repeats=1)[""]
        self._threads = min(seconds, key=lambda count: seconds[count])

    def tune(self, lr: RGB8, levels: NDArray[np.int64]) -> None:
        """Set the price so that the levels chosen cost as many MACs per pixel as these levels of ours, in the mean."""
        if not self.predicts_errors:
            return
        wanted = float(self._macs[torch.from_numpy(levels.ravel())].mean())
        with torch.no_grad():
            outputs = [self._classifier(tile) for _, tile in self._tiles(lr)]
        errors = torch.cat(outputs).exp()
        low, high = 0.0, float(errors.max() / self._macs.unique().diff().min())
        for _ in range(60):
            self._price = (low + high) / 2
            spent = float(self._macs[(errors + self._price * self._macs).argmin(dim=1)].mean())
            low, high = (self._price, high) if spent > wanted else (low, self._price)

    def __call__(self, lr: RGB8) -> RGB8:
        """Enlarge one picture."""
        scale = self._config.scale
        torch.set_num_threads(self._threads)
        grid = self._grid(lr)
        total = np.zeros((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.float32)
        with torch.no_grad():
            for block, tile in self._tiles(lr):
                level = self._level(self._classifier(tile))
                sr = self._branches[level](tile)[0].clamp(0, 1)
                total[grid.cell(block).scaled(scale).slices] += sr.permute(1, 2, 0).numpy()
        total /= coverage(grid).repeat(scale, axis=0).repeat(scale, axis=1)
        return (total * 255 + 0.5).astype(np.uint8)

    def _level(self, output: torch.Tensor) -> int:
        if self.predicts_errors:
            return int((output[0].exp() + self._price * self._macs).argmin())
        return int(output[0].argmax())

    def _grid(self, lr: RGB8) -> TileGrid:
        tile = self._config.tile
        return TileGrid(lr.shape[0], lr.shape[1], tile=tile, step=min(PAPER_STEP, tile))

    def _tiles(self, lr: RGB8) -> Iterator[tuple[NDArray[Any], torch.Tensor]]:
        grid = self._grid(lr)
        for block in grid.tiles:
            pixels = lr[grid.cell(block).slices]
            tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
            yield block, tensor[None].float() / 255
