"""How many real neighbours a tile needs: tiled against whole-picture runs of one branch, halo by halo.

    python benchmarks/halo.py ../shared/data/benchmark/Kodak24/HR

Pictures are HR: their LR is made with MATLAB-style bicubic. Float32, values not rounded, so that nothing hides; a halo
of the branch's receptive radius must give no difference. Prints a Markdown table.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classsr.backends import Network, open_backend
from classsr.evaluation import read_hr
from classsr.image import find_pictures
from classsr.metrics import psnr
from classsr.model import DEFAULT_MODEL, find_model
from classsr.phases import shuffled
from classsr.resize import resize
from classsr.tiles import TileGrid, batches, pad_edges, place, split

Floats = NDArray[np.float32]

BATCH = 64  # tiles


def enlarge(network: Network, windows: NDArray[Any]) -> Floats:
    """Run a network on 8-bit windows (N, h, w, 3): -> (N, H, W, 3) in 0 to 255, not rounded."""
    batch = np.ascontiguousarray(windows.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    sr: Floats = (shuffled(network(batch)).transpose(0, 2, 3, 1) * np.float32(255)).clip(0, 255)
    return sr


def whole(network: Network, lr: NDArray[Any], *, radius: int, scale: int) -> Floats:
    """Enlarge a picture, its edge repeated, in one call."""
    sr = enlarge(network, pad_edges(lr, halo=radius)[None])[0]
    margin = radius * scale
    inner: Floats = sr[margin : sr.shape[0] - margin, margin : sr.shape[1] - margin]
    return inner


def tiled(network: Network, lr: NDArray[Any], *, tile: int, halo: int, scale: int) -> Floats:
    """Enlarge a picture in tiles with a halo."""
    grid = TileGrid(lr.shape[0], lr.shape[1], tile=tile, step=tile)
    padded = pad_edges(lr, halo=halo)
    out = np.empty((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.float32)
    for tiles in batches(grid.tiles, BATCH):
        windows = enlarge(network, split(padded, grid, tiles, halo=halo))
        place(out, windows.transpose(0, 3, 1, 2), grid, tiles, halo=halo, scale=scale)
    return out


def measure(
    network: Network, hr: NDArray[np.uint8], *, tile: int, radius: int, scale: int
) -> NDArray[np.float64]:
    """Compare all halos on one picture: (radius + 1, 3): mean difference, PSNR to the whole run, dB lost against HR."""
    lr = resize(hr, 1 / scale)
    expected = whole(network, lr, radius=radius, scale=scale)
    best = psnr(expected, hr, data_range=255, border=scale)
    rows = []
    for halo in range(radius + 1):
        found = tiled(network, lr, tile=tile, halo=halo, scale=scale)
        rows.append(
            (
                float(np.abs(found - expected).mean(dtype=np.float64)),
                psnr(found, expected, data_range=255, border=0),
                best - psnr(found, hr, data_range=255, border=scale),
            )
        )
    return np.array(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of HR pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--level", type=int, help="the hardest by default")
    parser.add_argument("--pictures", type=int, default=0, help="the first so many; 0: all")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()

    model = find_model(options.model)
    config = model.config
    level = len(config.levels) - 1 if options.level is None else options.level
    branch, tile = config.levels[level], config.tile
    backend = open_backend("openvino", precision="f32", threads=options.threads)
    network = backend.branch(model, level)
    paths = find_pictures(options.folder)[: options.pictures or None]
    sizes = {"tile": tile, "radius": branch.receptive_radius, "scale": config.scale}
    hrs = (read_hr(path, scale=config.scale) for path in paths)
    means = np.mean([measure(network, hr, **sizes) for hr in hrs], axis=0)

    print(
        f"{config.name}, level {level} ({branch.label}, receptive radius {branch.receptive_radius}), tiles of {tile}, "
        f"f32, {len(paths)} pictures of {options.folder.parent.name}/{options.folder.name}; differences of 255.\n"
    )
    print(
        "| halo | mean difference | PSNR to the whole run, dB | dB lost against HR | pixels computed |"
    )
    print("|---|---|---|---|---|")
    for halo, (difference, closeness, lost) in enumerate(means.tolist()):
        pixels = (tile + 2 * halo) ** 2 / tile**2
        print(f"| {halo} | {difference:.6f} | {closeness:.2f} | {lost:+.5f} | x{pixels:.2f} |")


if __name__ == "__main__":
    main()
