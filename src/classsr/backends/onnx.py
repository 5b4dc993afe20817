"""ONNX Runtime: the portable second engine, in float32 on the CPU."""

from contextlib import suppress
from pathlib import Path
from typing import cast

import onnxruntime as ort

from classsr.backends.base import Choice, Floats, Network, Precision, failure
from classsr.errors import BackendError, OutOfMemoryError
from classsr.model import Model

OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc")
FATAL = 4  # of ONNX Runtime's log; what is less comes as an exception too


class ONNXBackend:
    """Runs ONNX graphs with ONNX Runtime on the CPU."""

    name = "onnx"
    version = ort.__version__

    def __init__(self, *, precision: Choice, threads: int | None) -> None:
        self.threads = threads
        if precision not in ("auto", "f32"):
            raise BackendError(
                f"ONNX Runtime has no {precision} on the CPU; use --precision f32 or --backend openvino."
            )
        self.precision: Precision = "f32"
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads or 0  # 0: all
        self._options.log_severity_level = FATAL
        self._shrinking = ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

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
        way: ort.RunOptions | None = None

        def run(batch: Floats) -> Floats:
            nonlocal way
            try:
                return cast("Floats", session.run(None, {name: batch}, way)[0])
            except Exception as exc:
                error = failure("ONNX Runtime", batch, exc, OUT_OF_MEMORY)
                if isinstance(error, OutOfMemoryError):
                    way = self._shrinking
                    with suppress(Exception):  # done or not, it gives back what it has got
                        session.run(None, {name: batch[:1]}, way)
                raise error from exc

        return run
