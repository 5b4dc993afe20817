"""OpenVINO: the default engine on a CPU. One dynamic-shape model per network."""

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties as props
from openvino.properties import hint

from classsr.backends.base import Choice, Floats, Network, Precision, failure
from classsr.errors import BackendError, OutOfMemoryError
from classsr.model import Model

TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}
NATIVE = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}  # as a processor's capabilities name them
OUT_OF_MEMORY = ("Failed to allocate", "can't alloc", "bad_alloc")
LONE_PIXEL = (
    3  # values in a batch of one pixel, for which bf16 convolutions are wrong in OpenVINO 2026.4
)


class OpenVINOBackend:
    """Runs ONNX graphs with OpenVINO on the CPU."""

    name = "openvino"

    def __init__(self, *, precision: Choice, threads: int | None) -> None:
        self._core = ov.Core()
        self._settings = {
            hint.performance_mode(): hint.PerformanceMode.LATENCY,
            hint.num_requests(): 1,
        }
        if threads is not None:
            self._settings[props.inference_num_threads()] = threads
        native = self._core.get_property("CPU", props.device.capabilities())
        if precision == "auto":
            precision = "bf16" if NATIVE["bf16"] in native else "f32"
        elif NATIVE[precision] not in native:
            raise BackendError(
                f"This processor has no {precision} arithmetic; use --precision f32."
            )
        self.precision: Precision = precision

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
            compiled = self._core.compile_model(path, "CPU", settings)
            request = compiled.create_infer_request()
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot load {path} ({exc}).") from exc

        def run(batch: Floats) -> Floats:
            if batch.size == LONE_PIXEL:
                return run(np.concatenate([batch, batch]))[:1]
            try:
                # OpenVINO 2026.4: infer() keeps silent about a failure and leaves the last result; wait() tells.
                request.start_async([batch], share_inputs=True)
                request.wait()
            except (RuntimeError, MemoryError) as exc:
                error = failure("OpenVINO", batch, exc, OUT_OF_MEMORY)
                if isinstance(error, OutOfMemoryError):
                    compiled.release_memory()  # what it has got for this batch
                raise error from exc
            return np.asarray(request.get_output_tensor(0).data)

        return run
