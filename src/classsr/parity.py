"""How far the runtimes that are installed are from a network, each on the graph that was exported of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from classsr.networks.quantized import RoundedToSteps

TOLERANCE = 1e-4  # of the largest difference in f32, values in [0, 1]
# Of the rms where integers are computed: the last bit of what is rounded may decide where to, and that decides others
# in the layers behind.
QUANTIZED = 3e-3

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of one graph in one runtime to its network in torch float32, values in [0, 1].

    `tolerance` is what is allowed: of the largest difference, or of the rms in a network of integers; None where there
    is no limit, in half precision.
    """

    file: str
    runtime: str
    precision: str
    largest: float
    rms: float
    tolerance: float | None
    quantized: bool = False

    @property
    def judged(self) -> float:
        """The difference that the tolerance is for."""
        return self.rms if self.quantized else self.largest

    @property
    def is_met(self) -> bool:
        """Whether the difference is allowed; no number is not."""
        return self.tolerance is None or self.judged <= self.tolerance

    def line(self) -> str:
        """Say it in one line of a table."""
        allowed = "" if self.tolerance is None else f", at most {self.tolerance:.0e}"
        return (
            f"{self.file:<16} {self.runtime:<12} {self.precision:<4} "
            f"largest difference {self.largest:.1e}, rms {self.rms:.1e}{allowed}"
        )


def measure_parity(module: nn.Module, path: Path, *, tile: int) -> list[Parity]:
    """Compare a graph with its network on pictures of another size and number than it was traced with.

    Args:
        module: the network.
        path: its graph, ONNX or OpenVINO IR.
        tile: side of a tile in LR pixels.

    """
    noise = torch.rand(4, 3, tile + 8, tile, generator=torch.Generator().manual_seed(0))
    x = 0.5 + torch.linspace(0, 1, len(noise)).view(-1, 1, 1, 1) * (
        noise - 0.5
    )  # from flat to rough
    with torch.no_grad():
        expected = module(x).numpy()
    quantized = any(isinstance(layer, RoundedToSteps) for layer in module.modules())
    rows = []
    for runtime, precision, run in _runtimes(path):
        difference = np.abs(run(x.numpy()) - expected)
        rows.append(
            Parity(
                file=path.name,
                runtime=runtime,
                precision=precision,
                largest=float(difference.max()),
                rms=float(np.sqrt(np.square(difference).mean())),
                tolerance=(QUANTIZED if quantized else TOLERANCE) if precision == "f32" else None,
                quantized=quantized,
            )
        )
    return rows


def _openvino(core: Any, path: Path, precision: str) -> Callable[[Floats], Floats]:  # noqa: ANN401 - untyped
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda x: np.asarray(compiled([x])[0])


def _runtimes(path: Path) -> Iterator[tuple[str, str, Callable[[Floats], Floats]]]:
    """Load a graph in every runtime that is installed and takes it, in every precision that it has."""
    if path.suffix == ".onnx":
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        yield "ONNX Runtime", "f32", lambda x: np.asarray(session.run(None, {"lr": x})[0])
    try:
        import openvino as ov
    except ImportError:
        return
    core = ov.Core()
    names = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
    native = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, capability in names.items():
        if capability in native:
            yield "OpenVINO", precision, _openvino(core, path, precision)
