"""A network and its sizes <-> one safetensors file. Knows nothing of training or of released models."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from classsr.errors import ModelError
from classsr.files import write_whole
from classsr.networks import BranchSpec, Classifier, ClassSR, build_branch

BRANCH = "branch"
CLASSSR = "classsr"
META = "classsr"  # key of the file's metadata


def _write(module: nn.Module, path: Path, kind: str, specs: Sequence[BranchSpec]) -> None:
    content = {"kind": kind, "branches": [asdict(spec) for spec in specs]}
    meta = {META: json.dumps(content)}  # one key: equal weights give equal bytes
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()
    }
    write_whole(path, save(tensors, meta))


def save_branch(module: nn.Module, spec: BranchSpec, path: Path) -> None:
    """Write one branch; the file appears under its name only when it is complete."""
    _write(module, path, BRANCH, [spec])


def save_classsr(model: ClassSR, path: Path) -> None:
    """Write a whole ClassSR model; the file appears under its name only when it is complete."""
    _write(model, path, CLASSSR, model.specs)


def _read(path: Path, *kinds: str) -> tuple[str, list[BranchSpec], dict[str, torch.Tensor]]:
    """Read which of the expected kinds the file holds, the sizes and the weights."""
    if not path.is_file():
        raise ModelError(f"There is no checkpoint at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {}).get(META, "{}"))
            kind = content.get("kind")
            if kind not in kinds:
                raise ModelError(
                    f"Expected a {' or '.join(kinds)} checkpoint but {path} holds {kind!r}."
                )
            specs = [BranchSpec(**spec) for spec in content["branches"]]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return kind, specs, tensors
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
    _, (spec,), tensors = _read(path, BRANCH)
    module = build_branch(spec)
    _fill(module, tensors, path)
    return module.eval(), spec


@dataclass(frozen=True, slots=True)
class Networks:
    """What a checkpoint of either kind holds, by level; a branch alone has no Class-Module."""

    specs: tuple[BranchSpec, ...]
    branches: tuple[nn.Module, ...]
    classifier: Classifier | None


def load_networks(path: Path) -> Networks:
    """Read one branch or a whole ClassSR model, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    kind, specs, tensors = _read(path, BRANCH, CLASSSR)
    model = ClassSR(specs) if kind == CLASSSR else build_branch(specs[0])
    _fill(model, tensors, path)
    model.eval()
    if isinstance(model, ClassSR):
        return Networks(model.specs, tuple(model.branches), model.classifier)
    return Networks((specs[0],), (model,), None)


def load_hardest(path: Path) -> tuple[nn.Module, BranchSpec]:
    """Read one branch or the hardest branch of a whole ClassSR model, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    networks = load_networks(path)
    return networks.branches[-1], networks.specs[-1]


def load_classsr(path: Path) -> ClassSR:
    """Read a whole ClassSR model, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    _, specs, tensors = _read(path, CLASSSR)
    model = ClassSR(specs)
    _fill(model, tensors, path)
    return model.eval()
