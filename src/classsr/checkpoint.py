"""A network and its sizes <-> one safetensors file. Knows nothing of training or of released models."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from classsr.errors import ModelError
from classsr.networks import BranchSpec, ClassSR, build_branch

BRANCH = "branch"
CLASSSR = "classsr"


def _write(module: nn.Module, path: Path, kind: str, specs: Sequence[BranchSpec]) -> None:
    meta = {"kind": kind, "branches": json.dumps([asdict(spec) for spec in specs])}
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()
    }
    part = path.with_suffix(path.suffix + ".part")
    with part.open("wb") as file:
        file.write(save(tensors, meta))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def save_branch(module: nn.Module, spec: BranchSpec, path: Path) -> None:
    """Write one branch; the file appears under its name only when it is complete."""
    _write(module, path, BRANCH, [spec])


def save_classsr(model: ClassSR, path: Path) -> None:
    """Write a whole ClassSR model; the file appears under its name only when it is complete."""
    _write(model, path, CLASSSR, model.specs)


def _read(path: Path, kind: str) -> tuple[list[BranchSpec], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise ModelError(f"There is no checkpoint at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("kind") != kind:
                raise ModelError(
                    f"Expected a {kind} checkpoint but {path} holds {meta.get('kind')!r}."
                )
            specs = [BranchSpec(**spec) for spec in json.loads(meta["branches"])]
            return specs, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as exc:
        raise ModelError(f"{path} is damaged or no safetensors file ({exc}).") from exc


def load_branch(path: Path) -> tuple[nn.Module, BranchSpec]:
    """Read one branch, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    (spec,), tensors = _read(path, BRANCH)
    module = build_branch(spec)
    module.load_state_dict(tensors)
    return module.eval(), spec


def load_classsr(path: Path) -> ClassSR:
    """Read a whole ClassSR model, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    specs, tensors = _read(path, CLASSSR)
    model = ClassSR(specs)
    model.load_state_dict(tensors)
    return model.eval()
