"""What every branch has in common, and the table of those that exist."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from torch import Tensor, nn

from classsr.errors import UsageError
from classsr.networks.bicubic import Bicubic
from classsr.networks.carn import CARN
from classsr.networks.compact import Compact
from classsr.networks.fsrcnn import FSRCNN
from classsr.networks.layers import FACTORS
from classsr.networks.rcan import RCAN
from classsr.networks.srresnet import SRResNet


class Branch(Protocol):
    """The super-resolution network of one level: RGB (N, 3, H, W) -> (N, 3, scale * H, scale * W)."""

    scale: int

    @property
    def receptive_radius(self) -> int | None:
        """Pixels of LR to each side that an output pixel depends on; None where it depends on all."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge `x`."""
        ...

    def fold(self) -> nn.Module:
        """Return the same function built of plain layers only, as it is exported."""
        ...


@dataclass(frozen=True, slots=True)
class BranchKind:
    """How a kind of branch is built: from the sizes that it names, as keywords, and the scale.

    `form_of` is the kind whose weights it can start from besides its own.
    """

    build: Callable[..., nn.Module]
    sizes: tuple[str, ...]
    form_of: str | None = None


BRANCHES: dict[str, BranchKind] = {
    "bicubic": BranchKind(Bicubic, ()),
    "carn": BranchKind(CARN, ("width",)),
    "compact": BranchKind(Compact, ("width", "depth")),
    "compact-int8": BranchKind(
        partial(Compact, quantized=True), ("width", "depth"), form_of="compact"
    ),
    "compact-rep": BranchKind(partial(Compact, reparameterised=True), ("width", "depth")),
    "fsrcnn": BranchKind(FSRCNN, ("width",)),
    "rcan": BranchKind(RCAN, ("width",)),
    "srresnet": BranchKind(SRResNet, ("width",)),
}


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """The sizes of a branch: enough to build it before its weights are loaded. None where it has no such size."""

    network: str
    width: int | None
    scale: int
    depth: int | None = None


def sizes(spec: BranchSpec) -> dict[str, int]:
    """Return the sizes that the network is built from.

    Raises:
        UsageError: no network has that name, or it has other sizes.

    """
    if spec.network not in BRANCHES:
        known = ", ".join(sorted(BRANCHES))
        raise UsageError(f"Expected a network among {known} but got {spec.network!r}.")
    named = {"width": spec.width, "depth": spec.depth}
    given = {name: value for name, value in named.items() if value is not None}
    wanted = BRANCHES[spec.network].sizes
    if set(given) != set(wanted):
        expected, found = (" and ".join(names) or "no sizes" for names in (wanted, given))
        raise UsageError(f"Expected {expected} for {spec.network} but got {found}.")
    return given


def build_branch(spec: BranchSpec) -> nn.Module:
    """Build a branch with fresh weights.

    Raises:
        UsageError: no network has that name, it has other sizes, or it cannot be built in these.

    """
    given = sizes(spec)
    if spec.scale not in FACTORS:
        known = ", ".join(map(str, FACTORS))
        raise UsageError(f"Expected a scale among {known} but got {spec.scale}.")
    return BRANCHES[spec.network].build(**given, scale=spec.scale)


def as_branch(module: nn.Module) -> Branch:
    """View a module made by `build_branch` as the Branch that it is."""
    return cast("Branch", module)
