"""Enlarge pictures of one width and growing heights from file to file, and tell what memory and time each takes.

    python benchmarks/gigapixel.py --width 20000 --heights 1250 2500 15000

The pictures are a photograph, mirrored again and again, as TIFF. Every run is a process of its own, as a user starts
it; its memory is what the system says that it held at most. Needs room for the results: a 20,000x15,000 picture becomes
80,000x60,000. Prints Markdown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classsr.data.pairs import to_eight_bit
from classsr.image import Header, Picture, create_picture, find_pictures, read

STRIP = 512  # rows written at a time


def mirrored(size: int, count: int) -> NDArray[np.int64]:
    """Return indices that run through 0 to size - 1 and back again, `count` of them."""
    there_and_back = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return np.resize(there_and_back, count)


def make_picture(photo: NDArray[np.uint8], path: Path, *, height: int, width: int) -> None:
    """Write a picture of this size that shows the photograph mirrored again and again."""
    rows, columns = mirrored(photo.shape[0], height), mirrored(photo.shape[1], width)
    with create_picture(path, Header(height, width), overwrite=True) as writer:
        for top in range(0, height, STRIP):
            strip = photo[rows[top : top + STRIP]][:, columns]
            writer.append(Picture(np.ascontiguousarray(strip)))


def main() -> None:
    """Make, enlarge and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--photo", type=Path, help="the first of large/8k by default")
    parser.add_argument("--width", type=int, default=20_000)
    parser.add_argument("--heights", type=int, nargs="+", default=[1250, 2500])
    parser.add_argument("--format", choices=("png", "tif"), default="png")
    parser.add_argument("--work", type=Path, help="folder for the files; a new one by default")
    parser.add_argument("upscale", nargs="*", help="more options of classsr upscale, after --")
    options = parser.parse_args()

    path = options.photo or find_pictures(options.data / "large" / "8k")[0]
    photo = to_eight_bit(read(path).rgb)
    print(f"{path.name}, mirrored; to {options.format}; options: {' '.join(options.upscale)}\n")
    print(
        "| input | seconds | of these networks | ns per LR pixel | peak MiB | result, MB | tiles per level |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for height in options.heights:
            source, target = Path(work, "in.tif"), Path(work, f"out.{options.format}")
            make_picture(photo, source, height=height, width=options.width)
            command = [sys.executable, "-m", "classsr", "upscale", str(source), "-o", str(target)]
            started = time.perf_counter()
            done = subprocess.run(
                [*command, "--json", "--overwrite", *options.upscale],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds = time.perf_counter() - started
            report = json.loads(done.stdout)
            each = 1e9 * seconds / (height * options.width)
            size = target.stat().st_size / 1e6
            print(
                f"| {options.width}x{height} | {seconds:.1f} | {report['seconds']['networks']:.1f} | {each:.0f} | "
                f"{report['peak_mib']:.0f} | {size:.0f} | {' / '.join(map(str, report['tiles']))} |",
                flush=True,
            )
            target.unlink()


if __name__ == "__main__":
    main()
