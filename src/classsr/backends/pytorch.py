"""PyTorch: the engine for CUDA, and the plain path that the others are tested against.

Runs the networks themselves, with the weights of `model.safetensors`; on a GPU where there is one.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from classsr.backends.base import Floats, Network, Precision
from classsr.checkpoint import Networks, load_networks
from classsr.errors import BackendError
from classsr.model import Model
from classsr.networks import as_branch


class PyTorchBackend:
    """Runs the networks with PyTorch, channels last in memory."""

    name = "torch"

    def __init__(self, *, precision: Literal["auto", "f32", "bf16"], threads: int | None) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision: Precision = "bf16" if self._wants_bf16(precision) else "f32"
        if threads is not None:
            torch.set_num_threads(threads)
        self._loaded: dict[Path, Networks] = {}

    def _wants_bf16(self, precision: str) -> bool:
        if precision == "auto":
            return self._device.type == "cuda" and torch.cuda.is_bf16_supported()
        return precision == "bf16"

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module, in f32; see `Backend.classifier`."""
        classifier = self._networks(model).classifier
        assert classifier is not None
        return self._network(nn.Sequential(classifier, nn.Softmax(dim=1)), "f32")

    def branch(self, model: Model, level: int) -> Network:
        """Load one branch; see `Backend.branch`."""
        branch = as_branch(self._networks(model).branches[level])
        return self._network(branch.fold(), self.precision)

    def _networks(self, model: Model) -> Networks:
        if model.folder not in self._loaded:
            self._loaded[model.folder] = load_networks(model.path(model.config.weights))
        return self._loaded[model.folder]

    def _network(self, module: nn.Module, precision: Precision) -> Network:
        module = module.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=precision == "bf16")

        def run(batch: Floats) -> Floats:
            x = (
                torch.from_numpy(batch)
                .to(self._device)
                .contiguous(memory_format=torch.channels_last)
            )
            try:
                with torch.inference_mode(), half:
                    out: Floats = module(x).float().cpu().numpy()
                    return out
            except RuntimeError as exc:
                raise BackendError(f"PyTorch failed on a batch of {batch.shape} ({exc}).") from exc

        return run
