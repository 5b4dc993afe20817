"""ONNX Runtime: the portable second engine, in float32 on the CPU."""

from pathlib import Path
from typing import Literal, cast

import onnxruntime as ort

from classsr.backends.base import Floats, Network, Precision
from classsr.errors import BackendError
from classsr.model import Model


class ONNXBackend:
    """Runs ONNX graphs with ONNX Runtime on the CPU."""

    name = "onnx"

    def __init__(self, *, precision: Literal["auto", "f32", "bf16"], threads: int | None) -> None:
        if precision == "bf16":
            raise BackendError(
                "ONNX Runtime has no bf16 on the CPU; use --precision f32 or --backend openvino."
            )
        self.precision: Precision = "f32"
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads or 0  # 0: all

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module; see `Backend.classifier`."""
        assert model.config.classifier is not None
        return self._load(model.path(model.config.classifier.file))

    def branch(self, model: Model, level: int) -> Network:
        """Load one branch; see `Backend.branch`."""
        return self._load(model.path(model.config.levels[level].file))

    def _load(self, path: Path) -> Network:
        try:
            session = ort.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            raise BackendError(f"ONNX Runtime cannot load {path} ({exc}).") from exc
        (name,) = (node.name for node in session.get_inputs())

        def run(batch: Floats) -> Floats:
            try:
                return cast("Floats", session.run(None, {name: batch})[0])
            except Exception as exc:
                raise BackendError(
                    f"ONNX Runtime failed on a batch of {batch.shape} ({exc})."
                ) from exc

        return run
