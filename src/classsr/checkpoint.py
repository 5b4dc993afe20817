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
from classsr.networks import BranchSpec, Classifier, ClassSR, ErrorClassifier, build_branch

BRANCH = "branch"
CLASSSR = "classsr"
META = "classsr"  # key of the file's metadata
PREDICTS, LOG_ERRORS = "predicts", "log-errors"  # said of a Class-Module that is not the paper's
ERRORS = "errors"  # the calibration of one that is

Table = tuple[tuple[float, ...], ...]


def _write(
    module: nn.Module, path: Path, kind: str, specs: Sequence[BranchSpec], **more: str | Table
) -> None:
    content = {"kind": kind, "branches": [asdict(spec) for spec in specs], **more}
    meta = {META: json.dumps(content)}  # one key: equal weights give equal bytes
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()
    }
    write_whole(path, save(tensors, meta))


def save_branch(module: nn.Module, spec: BranchSpec, path: Path) -> None:
    """Write one branch; the file appears under its name only when it is complete."""
    _write(module, path, BRANCH, [spec])


def save_classsr(model: ClassSR, path: Path, *, errors: Table | None = None) -> None:
    """Write a whole ClassSR model; the file appears under its name only when it is complete.

    Args:
        model: to be written.
        path: the file.
        errors: the calibration of a Class-Module that gives probabilities; see `classsr.model.ClassifierInfo`.

    """
    more: dict[str, str | Table] = {} if errors is None else {ERRORS: errors}
    if isinstance(model.classifier, ErrorClassifier):
        more[PREDICTS] = LOG_ERRORS
    _write(model, path, CLASSSR, model.specs, **more)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file holds: its kind, the sizes of the branches, all about the Class-Module, the weights."""

    kind: str
    specs: list[BranchSpec]
    predicts: str | None
    errors: Table | None
    tensors: dict[str, torch.Tensor]


def _read(path: Path, *kinds: str) -> _Content:
    """Read a file of one of the expected kinds."""
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
            errors = content.get(ERRORS)
            table = None if errors is None else tuple(tuple(map(float, row)) for row in errors)
            return _Content(kind, specs, content.get(PREDICTS), table, tensors)
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
    content = _read(path, BRANCH)
    (spec,) = content.specs
    module = build_branch(spec)
    _fill(module, content.tensors, path)
    return module.eval(), spec


@dataclass(frozen=True, slots=True)
class Networks:
    """What a checkpoint of either kind holds, by level; a branch alone has no Class-Module, not all are calibrated."""

    specs: tuple[BranchSpec, ...]
    branches: tuple[nn.Module, ...]
    classifier: Classifier | ErrorClassifier | None
    errors: Table | None = None


def load_networks(path: Path) -> Networks:
    """Read one branch or a whole ClassSR model, on the CPU and in eval mode.

    Raises:
        ModelError: the file is missing, damaged or holds something else.

    """
    content = _read(path, BRANCH, CLASSSR)
    specs = content.specs
    model = _build(content) if content.kind == CLASSSR else build_branch(specs[0])
    _fill(model, content.tensors, path)
    model.eval()
    if isinstance(model, ClassSR):
        return Networks(model.specs, tuple(model.branches), model.classifier, content.errors)
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
    content = _read(path, CLASSSR)
    model = _build(content)
    _fill(model, content.tensors, path)
    return model.eval()


def _build(content: _Content) -> ClassSR:
    """Build a ClassSR model with the Class-Module that the file holds."""
    if content.predicts == LOG_ERRORS:
        return ClassSR(content.specs, ErrorClassifier(len(content.specs)))
    return ClassSR(content.specs)
