"""The runtimes that can run a released model; each is imported by its own module, and only when asked for."""

from importlib import import_module
from typing import Literal, cast, get_args

from classsr.backends.base import Backend, Network, Precision
from classsr.errors import BackendError, UsageError

__all__ = ["BACKENDS", "Backend", "Network", "Precision", "open_backend"]

BACKENDS = {
    "openvino": ("classsr.backends.openvino", "OpenVINOBackend", "pip install openvino"),
    "onnx": ("classsr.backends.onnx", "ONNXBackend", "pip install 'classsr[onnx]'"),
    "torch": ("classsr.backends.pytorch", "PyTorchBackend", "pip install 'classsr[torch]'"),
}
"""Module, class and the command that installs the runtime, by name; the first is the default."""


def open_backend(
    name: str, *, precision: Literal["auto", "f32", "bf16"], threads: int | None
) -> Backend:
    """Import a runtime and set it up.

    Args:
        name: a key of `BACKENDS`.
        precision: of the branches; `auto` takes bf16 where the processor computes in it.
        threads: processor threads; all by default.

    Raises:
        UsageError: no backend has that name.
        BackendError: the runtime is not installed or cannot do what is asked.

    """
    if name not in BACKENDS:
        raise UsageError(f"Expected a backend among {', '.join(BACKENDS)} but got {name!r}.")
    if precision not in ("auto", *get_args(Precision)):
        raise UsageError(f"Expected a precision among auto, f32, bf16 but got {precision!r}.")
    module, cls, install = BACKENDS[name]
    try:
        backend = getattr(import_module(module), cls)
    except ImportError as exc:
        raise BackendError(f"The {name} backend is not installed ({exc}); run: {install}") from exc
    return cast("Backend", backend(precision=precision, threads=threads))
