"""What every branch has in common, and the table of those that exist."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor, nn

from classsr.errors import UsageError
from classsr.networks.fsrcnn import FSRCNN


class Branch(Protocol):
    """The super-resolution network of one level: RGB (N, 3, H, W) -> (N, 3, scale * H, scale * W)."""

    scale: int

    @property
    def receptive_radius(self) -> int:
        """Pixels of LR to each side that an output pixel depends on."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge `x`."""
        ...

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only, as it is exported."""
        ...


BRANCHES: dict[str, Callable[[int, int], nn.Module]] = {"fsrcnn": FSRCNN}
"""Constructors by name; each takes (width, scale)."""


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """The sizes of a branch: enough to build it before its weights are loaded."""

    network: str
    width: int
    scale: int


def build_branch(spec: BranchSpec) -> nn.Module:
    """Build a branch with fresh weights.

    Raises:
        UsageError: no network has that name.

    """
    if spec.network not in BRANCHES:
        known = ", ".join(sorted(BRANCHES))
        raise UsageError(f"Expected a network among {known} but got {spec.network!r}.")
    return BRANCHES[spec.network](spec.width, spec.scale)


def as_branch(module: nn.Module) -> Branch:
    """View a module made by `build_branch` as the Branch that it is."""
    return cast("Branch", module)
