"""What was done to one picture: sizes, routing, cost, seconds, memory."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall-clock time by what it was spent on.

    `route` is for the Class-Module and the plan, `networks` for the branches, `assemble` for gathering their windows
    and putting the results together. `write` and `total` are completed by whoever writes the file.
    """

    read: float
    route: float
    networks: float
    assemble: float
    write: float
    total: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to one picture.

    Sides are in pixels, `width` and `height` those of the result; `scale` is the model's. `tiles` counts the tiles of
    each level, `judged` those that the Class-Module has judged. `macs` counts the multiply-accumulates computed,
    overlap and Class-Module included; `macs_hardest` those of the hardest branch over the whole picture without
    overlap. `cost` is the planned cost as a share of what the hardest branch everywhere costs, by measured seconds
    where the plan went by these; `loss` the PSNR lost against it in dB, as predicted, None where nothing predicts it;
    `plan` the reason for the plan. `recomputed` counts the windows that were wrong in `precision` and were run again in
    float32; 0 normally.
    """

    input: str | None
    output: str | None
    input_width: int
    input_height: int
    width: int
    height: int
    model: str
    scale: int
    backend: str
    precision: str
    tiles: tuple[int, ...]
    judged: int
    macs: int
    macs_hardest: int
    cost: float
    loss: float | None
    plan: str
    recomputed: int
    seconds: Seconds
    peak_mib: float | None

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the tiles at each level."""
        return tuple(count / sum(self.tiles) for count in self.tiles)


def peak_mib() -> float | None:
    """Return the largest memory this process has held, in MiB; None where the system does not tell."""
    try:  # Linux; there getrusage also counts what the parent process held when it started this one
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    except (OSError, IndexError):
        pass
    try:
        import resource  # absent on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
