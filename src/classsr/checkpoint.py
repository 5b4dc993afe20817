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
META = "classsr"  # key of the file's metadata


def _write(module: nn.Module, path: Path, kind: str, specs: Sequence[BranchSpec]) -> None:
    content = {"kind": kind, "branches": [asdict(spec) for spec in specs]}
    meta = {META: json.dumps(content)}  # one key: equal weights give equal bytes
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
            content = json.loads((file.metadata() or {}).get(META, "{}"))
            if content.get("kind") != kind:
                raise ModelError(
                    f"Expected a {kind} checkpoint but {path} holds {content.get('kind')!r}."
                )
            specs = [BranchSpec(**spec) for spec in content["branches"]]
            return specs, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as exc:
        raise ModelError(f"{path} is damaged or no safetensors file ({exc}).") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelError(f"{path} does not say which network it holds ({exc!r}).") from exc


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as exc:
        raise ModelError(f"The weights in {path} do not fit the network that it names.") from exc


def load_branch(path: Path) -> tuple[nn.Module, BranchSpec]:
    """Read one branch, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    (spec,), tensors = _read(path, BRANCH)
    module = build_branch(spec)
    _fill(module, tensors, path)
    return module.eval(), spec


def load_classsr(path: Path) -> ClassSR:
    """Read a whole ClassSR model, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    specs, tensors = _read(path, CLASSSR)
    model = ClassSR(specs)
    _fill(model, tensors, path)
    return model.eval()
