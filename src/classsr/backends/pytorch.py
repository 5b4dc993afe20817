"""PyTorch: the engine for CUDA, and the plain path that the others are tested against.

Runs the networks themselves, with the weights of `model.safetensors`; on a GPU where there is one.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from classsr.backends.base import Choice, Floats, Network, Pending, Precision, failure
from classsr.checkpoint import Networks, load_networks
from classsr.errors import BackendError
from classsr.model import Model
from classsr.networks import ErrorClassifier, as_branch

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
OUT_OF_MEMORY = (
    "out of memory",  # CUDA
    "ALLOC_FAILED",  # cuDNN, cuBLAS
    "can't allocate memory",  # the CPU, on Windows "not enough memory"
    "not enough memory",
    "could not create a primitive",  # oneDNN without memory for its own needs
)


class PyTorchBackend:
    """Runs the networks with PyTorch, channels last in memory."""

    name = "torch"
    version = torch.__version__

    def __init__(self, *, precision: Choice, threads: int | None) -> None:
        self.threads = threads
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision: Precision = choose_precision(precision, self._device)
        torch.backends.cudnn.allow_tf32 = False  # f32 means all its bits
        if threads is not None:
            torch.set_num_threads(threads)
        self._loaded: dict[Path, Networks] = {}

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module, in f32; see `Backend.classifier`."""
        classifier = self._networks(model).classifier
        assert classifier is not None
        if isinstance(classifier, ErrorClassifier):
            return self._network(classifier, "f32")
        return self._network(nn.Sequential(classifier, nn.Softmax(dim=1)), "f32")

    def branch(self, model: Model, level: int) -> Network:
        """Load one branch; see `Backend.branch`."""
        branch = as_branch(self._networks(model).branches[level])
        found = model.config.levels[level]
        needs_floats = found.quantized or found.network == "bicubic"
        return self._network(branch.fold(), "f32" if needs_floats else self.precision)

    def _networks(self, model: Model) -> Networks:
        if model.folder not in self._loaded:
            self._loaded[model.folder] = load_networks(model.path(model.config.weights))
        return self._loaded[model.folder]

    def _network(self, module: nn.Module, precision: Precision) -> Network:
        try:
            network = DeviceNetwork(module, self._device, precision)
        except RuntimeError as exc:
            raise BackendError(f"PyTorch cannot load a network ({exc}).") from exc
        # On the processor there is nothing to wait for.
        return network if self._device.type == "cuda" else network.__call__


def choose_precision(wanted: Choice, device: torch.device) -> Precision:
    """Return what the branches run in: on CUDA bf16 by default, on GPUs without it f16, elsewhere f32.

    Raises:
        BackendError: f16 is wanted anywhere but on CUDA.

    """
    if wanted == "f16" and device.type != "cuda":
        raise BackendError("PyTorch has f16 on CUDA only; use --precision f32 or bf16.")
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "f32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "f16"


class DeviceNetwork:
    """A network on one device, which `submit` never waits for: copies run beside the processor, from pinned memory."""

    def __init__(self, module: nn.Module, device: torch.device, precision: Precision) -> None:
        self._module = module.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._type = device, TYPES[precision]
        self._beside = device.type == "cuda"

    def __call__(self, batch: Floats) -> Floats:
        """Run a batch and wait for it."""
        return self.submit(batch)()

    def submit(self, batch: Floats) -> Pending:
        """Begin with a batch; see `Queue.submit`."""
        half = torch.autocast(
            self._device.type, self._type, enabled=self._type is not torch.float32
        )
        try:
            with torch.inference_mode(), half:
                out = self._to_host(self._module(self._to_device(batch)).float())
            done = torch.cuda.current_stream().record_event() if self._beside else None
        except (RuntimeError, MemoryError) as exc:
            raise failure("PyTorch", batch, exc, OUT_OF_MEMORY) from exc

        def result() -> Floats:
            try:
                if done is not None:
                    done.synchronize()  # with this batch alone; those behind it go on
            except RuntimeError as exc:
                raise failure("PyTorch", batch, exc, OUT_OF_MEMORY) from exc
            values: Floats = out.numpy()
            return values

        return result

    def cancel(self) -> None:
        """See `Queue.cancel`; CUDA cannot be stopped."""

    def _to_device(self, batch: Floats) -> Tensor:
        x = torch.from_numpy(batch)
        if self._beside:
            x = x.pin_memory()
        x = x.to(self._device, non_blocking=True)
        return x.contiguous(memory_format=torch.channels_last)

    def _to_host(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        if not self._beside:
            return x
        pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        return pinned.copy_(x, non_blocking=True)
