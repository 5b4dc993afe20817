"""OpenVINO: the default engine on a CPU. One dynamic-shape model per network."""

from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov
import openvino.properties as props
from openvino.properties import hint

from classsr.backends.base import Floats, Network, Precision
from classsr.errors import BackendError
from classsr.model import Model

TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}
LONE_PIXEL = (
    3  # values in a batch of one pixel, for which bf16 convolutions are wrong in OpenVINO 2026.4
)


class OpenVINOBackend:
    """Runs ONNX graphs with OpenVINO on the CPU."""

    name = "openvino"

    def __init__(self, *, precision: Literal["auto", "f32", "bf16"], threads: int | None) -> None:
        self._core = ov.Core()
        self._settings = {
            hint.performance_mode(): hint.PerformanceMode.LATENCY,
            hint.num_requests(): 1,
        }
        if threads is not None:
            self._settings[props.inference_num_threads()] = threads
        native = "BF16" in self._core.get_property("CPU", props.device.capabilities())
        if precision == "bf16" and not native:
            raise BackendError("This processor has no bf16 arithmetic; use --precision f32.")
        self.precision: Precision = "bf16" if native and precision != "f32" else "f32"

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module, in f32; see `Backend.classifier`."""
        assert model.config.classifier is not None
        return self._load(model.path(model.config.classifier.file), "f32")

    def branch(self, model: Model, level: int) -> Network:
        """Load one branch; see `Backend.branch`."""
        return self._load(model.path(model.config.levels[level].file), self.precision)

    def _load(self, path: Path, precision: Precision) -> Network:
        settings = self._settings | {hint.inference_precision(): TYPES[precision]}
        try:
            request = self._core.compile_model(path, "CPU", settings).create_infer_request()
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot load {path} ({exc}).") from exc

        def run(batch: Floats) -> Floats:
            if batch.size == LONE_PIXEL:
                return run(np.concatenate([batch, batch]))[:1]
            try:
                request.infer([batch], share_inputs=True)
            except RuntimeError as exc:
                raise BackendError(f"OpenVINO failed on a batch of {batch.shape} ({exc}).") from exc
            return np.asarray(request.get_output_tensor(0).data)

        return run
