"""The runtimes that can run a released model; each is imported by its own module, and only when asked for."""

from importlib import import_module
from typing import cast, get_args

from classsr.backends.base import Backend, Choice, Network, Precision, stream
from classsr.backends.memory import SparingBackend
from classsr.errors import BackendError, UsageError

__all__ = ["BACKENDS", "Backend", "Choice", "Network", "Precision", "open_backend", "stream"]

BACKENDS = {
    "openvino": ("classsr.backends.openvino", "OpenVINOBackend", "pip install openvino"),
    "onnx": ("classsr.backends.onnx", "ONNXBackend", "pip install 'classsr[onnx]'"),
    "torch": ("classsr.backends.pytorch", "PyTorchBackend", "pip install 'classsr[torch]'"),
}
"""Module, class and the command that installs the runtime, by name; the first is the default."""


def open_backend(name: str, *, precision: Choice, threads: int | None) -> Backend:
    """Import a runtime and set it up; its networks halve batches that do not fit into memory.

    Args:
        name: a key of `BACKENDS`.
        precision: of the branches; `auto` takes bf16 where the processor computes in it, f16 on a GPU that
            does not.
        threads: processor threads; all by default.

    Raises:
        UsageError: no backend has that name.
        BackendError: the runtime is not installed or cannot do what is asked.

    """
    if name not in BACKENDS:
        raise UsageError(f"Expected a backend among {', '.join(BACKENDS)} but got {name!r}.")
    if precision not in get_args(Choice):
        known = ", ".join(get_args(Choice))
        raise UsageError(f"Expected a precision among {known} but got {precision!r}.")
    module, cls, install = BACKENDS[name]
    try:
        backend = getattr(import_module(module), cls)
    except ImportError as exc:
        raise BackendError(f"The {name} backend is not installed ({exc}); run: {install}") from exc
    return SparingBackend(cast("Backend", backend(precision=precision, threads=threads)))
