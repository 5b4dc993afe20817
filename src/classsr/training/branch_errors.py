"""What every branch gets wrong on the training patches, computed once: stage 2 learns from it without running a branch.

In stage 2 the branches are frozen and the probabilities sum to 1, so the error of the mixture, sum of P_i SR_i minus
HR, is the mixture of the errors, sum of P_i (SR_i - HR): the paper's losses need no more. Two things are approximated,
both without bias. Of the scale x scale HR pixels that belong to an LR pixel one is kept, drawn at random: the mean over
a patch hardly changes, and memory falls to a sixteenth at x4. And the Class-Module sees a patch turned and mirrored
while its errors stay those of the patch as it lies: the branches were trained on all symmetries alike.

In a stage's folder the errors are `branch-errors.bin` (float16); `branch-errors.json`, written last, says what they
belong to.
"""

import hashlib
import json
import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from classsr.data.pairs import RGB8, Pairs
from classsr.data.patches import Patches, augment, draw, read_lr, read_patches
from classsr.files import write_whole
from classsr.training.loop import to_tensor

CHUNK: Final = 64  # patches that the branches enlarge at once
SAY_EVERY: Final = 100  # chunks

Errors = NDArray[np.float16]
"""SR - HR of every branch at one HR pixel for every LR pixel: (N, M, 3, size, size), pictures in [0, 1]."""

logger = logging.getLogger(__name__)


@final
class BranchErrors:
    """The errors of frozen branches on some patches.

    Args:
        folder: where they are kept.
        pairs: where the pixels are.
        patches: N of them.
        seed: of the pixels that are kept and of the batches.
        precision: what the branches compute in; errors of another precision are computed again.

    """

    def __init__(
        self, folder: Path, pairs: Pairs, patches: Patches, *, seed: int, precision: str
    ) -> None:
        self._file = folder / "branch-errors.bin"
        self._index = folder / "branch-errors.json"
        self._pairs = pairs
        self._patches = patches
        self._seed = seed
        self._precision = precision

    @cached_property
    def values(self) -> Errors:
        """What `compute` has written, as a memory map."""
        size = self._patches.size
        values: Errors = np.memmap(self._file, np.float16, mode="r")
        return values.reshape(len(self._patches), -1, 3, size, size)

    def compute(self, branches: nn.ModuleList, fabric: Fabric) -> None:
        """Write the errors of these branches, unless the folder holds them; several processes share the work.

        Args:
            branches: M of them, in eval mode and on the device of `fabric`, in whose precision they are run.
            fabric: of this process.

        """
        about = self._about(branches)
        if self._index.exists() and self._index.read_text(encoding="utf-8") == about:
            return
        if fabric.is_global_zero:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._index.unlink(missing_ok=True)
            self._file.write_bytes(b"")
        fabric.barrier()
        self._fill(branches, fabric)
        fabric.barrier()
        if fabric.is_global_zero:
            write_whole(self._index, about.encode())

    def batch(
        self, *, count: int, iteration: int, part: slice = slice(None)
    ) -> tuple[RGB8, Errors]:
        """Draw the batch of this iteration, or the rows `part` of it.

        Returns:
            LR (B, size, size, 3), turned and mirrored, and the errors (B, M, 3, size, size), as they lie.

        """
        chosen, symmetries = draw(
            len(self._patches), count=count, seed=self._seed, iteration=iteration, part=part
        )
        lr = read_lr(self._pairs, self._patches.select(chosen))
        return augment(lr, symmetries), self.values[chosen]

    def _about(self, branches: nn.ModuleList) -> str:
        """Return what the errors belong to: they are computed again when any of it changes."""
        weights, places = hashlib.sha256(), hashlib.sha256()
        for value in branches.state_dict().values():
            weights.update(value.cpu().numpy().tobytes())
        for values in (self._patches.picture, self._patches.y, self._patches.x):
            places.update(values.tobytes())
        about = {
            "branches": weights.hexdigest(),
            "patches": places.hexdigest(),
            "pairs": self._pairs.checksum,
            "seed": self._seed,
            "precision": self._precision,
        }
        return json.dumps(about)

    def _fill(self, branches: nn.ModuleList, fabric: Fabric) -> None:
        """Compute every chunk that is this process's."""
        chunks = range(fabric.global_rank, -(-len(self._patches) // CHUNK), fabric.world_size)
        with self._file.open("r+b") as file:
            for done, chunk in enumerate(chunks, start=1):
                errors = self._errors_of_chunk(branches, fabric, chunk)
                file.seek(chunk * CHUNK * errors[0].nbytes)
                file.write(errors.tobytes())
                if done % SAY_EVERY == 0 or done == len(chunks):
                    logger.info("%d/%d chunks of patches through every branch", done, len(chunks))
            file.flush()
            os.fsync(file.fileno())

    def _errors_of_chunk(self, branches: nn.ModuleList, fabric: Fabric, chunk: int) -> Errors:
        """Run every branch on the patches of a chunk and return their errors (n, M, 3, size, size)."""
        part = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, len(self._patches)))
        lr, hr = read_patches(self._pairs, self._patches.select(part))
        pixels = np.random.default_rng((self._seed, chunk)).integers(
            0, self._pairs.scale**2, (len(part), 1, 1, *lr.shape[1:3])
        )
        kept = torch.from_numpy(pixels).to(fabric.device)
        x, target = to_tensor(lr, fabric.device), to_tensor(hr, fabric.device)
        with torch.no_grad(), fabric.autocast():
            errors = [keep(branch(x).float() - target, kept).half().cpu() for branch in branches]
        rows: Errors = torch.stack(errors, dim=1).numpy()
        return rows


def keep(hr: Tensor, kept: Tensor) -> Tensor:
    """Keep one HR pixel for every LR pixel.

    Args:
        hr: (N, 3, scale * H, scale * W).
        kept: which of the scale**2 pixels, row by row: (N, 1, 1, H, W).

    Returns:
        (N, 3, H, W).

    """
    scale = hr.shape[2] // kept.shape[3]
    n, _, _, height, width = kept.shape
    cells = F.pixel_unshuffle(hr, scale).view(n, 3, scale**2, height, width)
    return torch.take_along_dim(cells, kept, dim=2).squeeze(2)
