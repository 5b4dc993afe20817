"""Ranking: how hard each training patch is, and the classes cut from that order.

A trained network enlarges every patch; the patches are ordered by PSNR (RGB, border of 4 cropped) and cut into
classes, level 0 the easiest: the method of ClassSR, section 3.3. Which network enlarges, and in which runtime, is the
caller's choice and not known here.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from classsr.data.pairs import RGB8, Pairs
from classsr.data.patches import Patches, read_patches
from classsr.errors import InputError, UsageError
from classsr.files import write_whole

BORDER = 4  # HR pixels, as in the paper
PSNR_CEILING = 100.0  # of patches reproduced exactly, so that the order stays finite

Upscale = Callable[[RGB8], RGB8]
"""Enlarges (N, h, w, 3) to (N, scale * h, scale * w, 3), both uint8."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a ranking was made from. `reference` names the network for people; old files do not say it."""

    pairs_checksum: str
    reference_checksum: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """PSNR of every patch and the borders between classes, in dB, hardest border last (falling)."""

    patches: Patches
    psnr: NDArray[np.float32]  # (N,)
    borders: tuple[float, ...]
    provenance: Provenance = field(default=Provenance("", ""))

    @property
    def levels(self) -> NDArray[np.int64]:
        """Level of every patch, (N,): 0 where PSNR is at least borders[0], and so on."""
        return np.searchsorted(-np.array(self.borders), -self.psnr.astype(np.float64), side="left")


def patch_psnr(sr: RGB8, hr: RGB8) -> NDArray[np.float32]:
    """Return the PSNR of each of N patches (N, H, W, 3) over RGB, border cropped, at most 100 dB: (N,)."""
    inner = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    error = sr[inner].astype(np.float32) - hr[inner]
    mse = np.mean(error * error, axis=(1, 2, 3))
    floor = 255.0**2 / 10 ** (PSNR_CEILING / 10)
    psnr: NDArray[np.float32] = 10 * np.log10(np.float32(255.0**2) / np.maximum(mse, floor))
    return psnr


def quantile_borders(psnr: NDArray[np.float32], shares: Sequence[float]) -> tuple[float, ...]:
    """Return the PSNR values that cut the patches into classes of these shares, the easiest first; they sum to 1."""
    harder = np.clip(1 - np.cumsum(shares[:-1]), 0, 1)
    return tuple(float(value) for value in np.quantile(psnr, harder))


def rank(
    pairs: Pairs,
    patches: Patches,
    upscale: Upscale,
    *,
    levels: int,
    shares: Sequence[float] | None = None,
    borders: Sequence[float] | None = None,
    reference_checksum: str,
    reference: str = "",
    chunk: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ranking:
    """Measure every patch with the reference upscaler and cut the order into classes.

    Args:
        pairs: where the pixels are.
        patches: the patches to rank.
        upscale: the trained reference network, in whichever runtime.
        levels: number of classes M.
        shares: M shares of the patches, the easiest class first, that sum to 1; equal by default.
        borders: M - 1 falling values in dB, instead of shares.
        reference_checksum: of the reference network's weights, kept as provenance.
        reference: its name for people, kept too.
        chunk: patches enlarged at once.
        progress: called with (patches done, patches in all).

    Raises:
        UsageError: there are shares as well as borders, too many or too few, or borders that do not fall.

    """
    if borders is not None and shares is not None:
        raise UsageError("Expected shares or borders of the classes but got both.")
    if borders is not None and (
        len(borders) != levels - 1 or list(borders) != sorted(borders)[::-1]
    ):
        raise UsageError(f"Expected {levels - 1} falling PSNR borders but got {list(borders)}.")
    if shares is None:
        shares = [1 / levels] * levels
    if len(shares) != levels:
        raise UsageError(f"Expected {levels} shares but got {list(shares)}.")
    psnr = np.empty(len(patches), np.float32)
    for start in range(0, len(patches), chunk):
        part = np.arange(start, min(start + chunk, len(patches)))
        lr, hr = read_patches(pairs, patches.select(part))
        psnr[part] = patch_psnr(upscale(lr), hr)
        progress(int(part[-1]) + 1, len(patches))
    cut = quantile_borders(psnr, shares) if borders is None else tuple(borders)
    provenance = Provenance(pairs.checksum, reference_checksum, reference)
    return Ranking(patches, psnr, cut, provenance)


def save_ranking(ranking: Ranking, path: Path) -> None:
    """Write a ranking as one .npz file."""
    meta = {
        "borders": ranking.borders,
        "size": ranking.patches.size,
        "provenance": asdict(ranking.provenance),
    }
    content = io.BytesIO()
    np.savez_compressed(
        content,
        psnr=ranking.psnr,
        picture=ranking.patches.picture,
        y=ranking.patches.y,
        x=ranking.patches.x,
        meta=np.array(json.dumps(meta)),
    )
    write_whole(path, content.getvalue())


def load_ranking(path: Path, pairs: Pairs) -> Ranking:
    """Read a ranking and make sure that it was made from these pairs.

    Raises:
        InputError: there is no such file, or it belongs to other pairs.

    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; make it with `classsr train rank`.")
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            meta = json.loads(str(file["meta"]))
            patches = Patches(file["picture"], file["y"], file["x"], meta["size"])
            ranking = Ranking(
                patches, file["psnr"], tuple(meta["borders"]), Provenance(**meta["provenance"])
            )
    except (BadZipFile, KeyError, ValueError, EOFError) as exc:
        raise InputError(f"{path} is damaged; run `classsr train rank` again.") from exc
    if ranking.provenance.pairs_checksum != pairs.checksum:
        raise InputError(f"{path} was made from other pairs; run `classsr train rank` again.")
    return ranking
