"""Checkpoints of other code -> our networks: whole ClassSR models and single branches, by the names of their weights.

Knows what public research code calls its layers, where it subtracts the mean colour and in which range of values it
computes, and converts the weights so that the function stays the same. Runs nothing that a file brings along, and
knows nothing of released models.
"""

import itertools
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from classsr.checkpoint import save_branch, save_classsr
from classsr.errors import ModelError, UsageError
from classsr.naming import CLASSIFIER, NAMINGS, Naming, theirs
from classsr.networks import BranchSpec, ClassSR, build_branch

Tensors = dict[str, Tensor]
Mean = Literal["inside", "outside"]
"""Where the mean colour is subtracted and added again: by the network, or before and after it."""

DEFAULT_SCALE = 4  # where neither the file nor the user tells
LIMIT = 255  # largest value that the published RCAN takes
LISTED = 10  # names in a message
LEAST_WIDTH = 3  # below it no network carries RGB
NORM_EPS = 1e-5  # of PyTorch's BatchNorm
MEAN_NAME = re.compile(r"(sub_mean|add_mean)\.")

# Where training programs put the weights beside an optimiser and the like; the first one found is taken.
NESTS = ("params_ema", "params", "state_dict", "model.sd", "model", "sd")
NEST_DEPTH = 3
# What wrappers put before names, as regular expressions and what replaces them.
PREFIXES = {r"^(?:(?:module|netG|model)\.)+": "", r"(?<=\.)(?:module\.)+": ""}


# --- From a file to networks ---


@dataclass(frozen=True, slots=True)
class Imported:
    """What a foreign checkpoint holds: a ClassSR, or one branch; and by which variant it was recognised."""

    model: nn.Module
    specs: tuple[BranchSpec, ...]
    notes: tuple[str, ...]

    @property
    def description(self) -> str:
        """Say in one line what was recognised."""
        names = ", ".join(_label(spec) for spec in self.specs)
        notes = f" ({', '.join(self.notes)})" if self.notes else ""
        kind = f"ClassSR with {len(self.specs)} levels: " if isinstance(self.model, ClassSR) else ""
        return f"{kind}{names}{notes}, x{self.specs[0].scale}"

    def save(self, path: Path) -> None:
        """Write it as a checkpoint of ours."""
        if isinstance(self.model, ClassSR):
            save_classsr(self.model, path)
        else:
            save_branch(self.model, self.specs[0], path)


def read_foreign(path: Path, *, scale: int | None = None, mean: Mean | None = None) -> Imported:
    """Read a whole ClassSR model or a single branch that other code saved.

    Args:
        path: .safetensors, or anything that torch.save wrote; never run, only read.
        scale: that of the network; read off the weights where they tell, else 4 by default.
        mean: where the mean colour is subtracted; read off the names by default, and refused where they disagree.

    Raises:
        ModelError: the file is missing, damaged or holds code; or no network that is known, or not all of it.

    """
    tensors = _respell(_flat(_load(path), path), PREFIXES, str(path))
    parts: dict[str, Tensors] = {}  # net1, net2, ..., classifier; "" for all other names
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        known = re.fullmatch(r"net\d+|classifier", part) and rest
        parts.setdefault(part if known else "", {})[rest if known else name] = value
    nets = [part for part in parts if part.startswith("net")]
    if not nets or parts.keys() == {"net1"}:  # one branch, its names without or with a prefix
        lone = parts["net1"] if nets else tensors
        branch = _read_branch(lone, str(path), scale=scale, mean=mean)
        module = build_branch(branch.spec)
        module.load_state_dict(module.state_dict() | branch.weights)
        return Imported(module.eval(), (branch.spec,), branch.notes)
    expected = [f"net{k + 1}" for k in range(len(nets))]
    problems: dict[str, Iterable[str]] = {
        "missing": [net for net in expected if net not in parts],
        "unknown": parts.pop("", {}),
    }
    if any(problems.values()):
        raise _misfit(f"ClassSR with {len(nets)} levels", str(path), problems)
    branches = [
        _read_branch(parts[net], f"{net} of {path}", scale=scale, mean=mean) for net in expected
    ]
    return _assemble(branches, parts.get("classifier", {}), path)


@dataclass(frozen=True, slots=True)
class _Branch:
    """A branch as it was read: weights in our names, without those that our network has of its own."""

    spec: BranchSpec
    weights: Tensors
    notes: tuple[str, ...]


def _assemble(branches: list[_Branch], classifier: Tensors, path: Path) -> Imported:
    specs = tuple(branch.spec for branch in branches)
    if len({spec.scale for spec in specs}) > 1:
        scales = ", ".join(f"x{spec.scale}" for spec in specs)
        raise ModelError(f"Expected branches of one scale in {path} but got {scales}.")
    model = ClassSR(specs)
    judge = model.classifier
    judge.load_state_dict(
        _match(judge, CLASSIFIER, classifier, "the Class-Module", f"classifier of {path}")
    )
    for module, branch in zip(model.branches, branches, strict=True):
        module.load_state_dict(module.state_dict() | branch.weights)
    notes = itertools.chain.from_iterable(branch.notes for branch in branches)
    return Imported(model.eval(), specs, tuple(dict.fromkeys(notes)))


def _read_branch(tensors: Tensors, where: str, *, scale: int | None, mean: Mean | None) -> _Branch:
    network = _recognise(tensors, where)
    naming = NAMINGS[network]
    tensors = _respell(tensors, naming.spellings, where)
    notes = []
    if network == "carn":
        tensors = _pick_upsampler(tensors, scale or DEFAULT_SCALE)
        has_norm = any(re.match(r"(b\d\.)?c\d\.1\.", name) for name in tensors)
        notes.append("BatchNorm" if has_norm else "no BatchNorm")
        tensors = tensors if has_norm else _with_norms(tensors)
    if network == "rcan":
        notes.append(f"values 0 to {LIMIT}")
    found = _mean(tensors, naming)
    if mean is not None and mean != found:
        told = f"with the mean {found}" if found else "that subtracts no mean"
        raise ModelError(
            f"Expected a network with the mean {mean} but {where} holds one {told}; leave out --mean."
        )
    notes += [f"mean {found}"] if found else []
    spec = _measure(network, tensors, where, scale)
    module = _weightless(spec, where)
    _check_counts(spec.network, module, tensors, where)
    weights = _match(module, naming.layers, tensors, _label(spec), where)
    _check_means(weights, where)
    return _Branch(spec, _to_unit_range(weights) if network == "rcan" else weights, tuple(notes))


# --- Reading ---


def _load(path: Path) -> object:
    """Return what the file holds: tensors in dictionaries."""
    if not path.is_file():
        raise ModelError(f"There is no checkpoint at {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are read or refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as exc:
        raise ModelError(f"{path} is damaged or no safetensors file ({exc}).") from exc
    except pickle.UnpicklingError as exc:
        if wanted := re.search(r"GLOBAL ([\w.]+)", str(exc)):
            raise ModelError(
                f"{path} holds more than weights: it asks to run {wanted[1]}, which was not done; "
                "save the network's state_dict() alone and import that."
            ) from exc
        raise ModelError(f"{path} is damaged or no checkpoint of PyTorch.") from exc
    except Exception as exc:  # torch fails on damaged files in a dozen ways
        raise ModelError(f"{path} is damaged or no checkpoint of PyTorch ({exc!r:.200}).") from exc


def _flat(content: object, path: Path) -> Tensors:
    """Return the weights of a checkpoint, which may lie deeper."""
    for _ in range(NEST_DEPTH):
        inner: Any = content if isinstance(content, Mapping) else {}
        nested = [inner[name] for name in NESTS if isinstance(inner.get(name), Mapping)]
        content = nested[0] if nested else content
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(k): value for k, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(
            f"Expected a dictionary of weights in {path} or in one of {', '.join(NESTS)} in it but got none."
        )
    return tensors


def _respell(tensors: Tensors, spellings: Mapping[str, str], where: str) -> Tensors:
    """Apply regular expressions to all names."""
    respelled: Tensors = {}
    for name, value in tensors.items():
        new = name
        for pattern, replacement in spellings.items():
            new = re.sub(pattern, replacement, new)
        if new in respelled:
            raise ModelError(f"{where} names the weights {new} twice, once as {name}.")
        respelled[new] = value
    return respelled


# --- Recognising ---


def _recognise(tensors: Tensors, where: str) -> str:
    """Return which of our networks the names are those of."""
    for network, naming in NAMINGS.items():
        if f"{naming.entry}.weight" in tensors:
            return network
    known = ", ".join(f"{naming.entry}.weight ({name})" for name, naming in NAMINGS.items())
    raise ModelError(
        f"{where} holds no network that is known: expected one of {known} but got {_listing(tensors)}."
    )


def _measure(network: str, tensors: Tensors, where: str, scale: int | None) -> BranchSpec:
    """Read width and scale off the shapes."""
    naming = NAMINGS[network]
    shape = tuple(tensors[f"{naming.entry}.weight"].shape)
    if len(shape) != 4 or shape[0] < LEAST_WIDTH:
        raise ModelError(
            f"Expected {naming.entry}.weight in {where} to be a convolution to {LEAST_WIDTH} or more channels "
            f"but its shape is {shape}."
        )
    if naming.up is None:
        return BranchSpec(network, shape[0], scale or DEFAULT_SCALE)
    first, second = (tensors.get(f"{layer}.weight") for layer in naming.up)
    found = DEFAULT_SCALE
    if first is not None and second is None:
        ways = {factor**2 * shape[0]: factor for factor in (2, 3)}
        found = ways.get(first.shape[0] if first.ndim else 0, DEFAULT_SCALE)
    if scale not in {None, found}:
        raise ModelError(f"Expected a network of x{scale} but {where} holds one of x{found}.")
    return BranchSpec(network, shape[0], found)


def _check_counts(network: str, module: nn.Module, tensors: Tensors, where: str) -> None:
    """Refuse a network that is deeper or shallower than ours."""
    naming = NAMINGS[network]
    ours = [theirs(name, naming.layers) for name in module.state_dict()]
    for what, pattern in naming.counts.items():
        wanted, found = (
            len({match[1] for match in map(re.compile(pattern).match, names) if match})
            for names in (ours, tensors)
        )
        if found not in {0, wanted}:
            raise ModelError(
                f"Expected {network} with {wanted} {what} but {where} holds one with {found}, "
                "which cannot be imported."
            )


def _weightless(spec: BranchSpec, where: str) -> nn.Module:
    """Build the network for its names and shapes only."""
    try:
        with torch.device("meta"):
            return build_branch(spec)
    except UsageError as exc:
        raise ModelError(f"{where} holds a network that cannot be built: {exc}") from exc


def _match(
    module: nn.Module, layers: Mapping[str, str], tensors: Tensors, label: str, where: str
) -> Tensors:
    """Return the weights in our names and types, when every one is there and has our shape.

    A mean shift may be absent as a whole, and BatchNorm's counter: then our network's own stay.
    """
    own = module.state_dict()
    names = {theirs(name, layers): name for name in own}
    has_mean = any(MEAN_NAME.match(name) for name in tensors)
    optional = {
        name
        for name in names
        if name.endswith(".num_batches_tracked") or (MEAN_NAME.match(name) and not has_mean)
    }
    shared = {name: value for name, value in tensors.items() if name in names}
    problems = {
        "missing": [name for name in names if name not in tensors and name not in optional],
        "unknown": [name for name in tensors if name not in names],
        "of a wrong shape": [
            f"{name} {tuple(value.shape)} for {tuple(own[names[name]].shape)}"
            for name, value in shared.items()
            if value.shape != own[names[name]].shape
        ],
        "not finite": [name for name, value in shared.items() if not value.isfinite().all()],
    }
    if any(problems.values()):
        raise _misfit(label, where, problems)
    return {names[name]: value.to(own[names[name]].dtype) for name, value in shared.items()}


def _misfit(label: str, where: str, problems: Mapping[str, Iterable[str]]) -> ModelError:
    told = "; ".join(f"{what}: {_listing(names)}" for what, names in problems.items() if names)
    return ModelError(f"The weights of {where} do not fit {label}: {told}.")


def _listing(names: Iterable[str]) -> str:
    """Name the first few and count the others."""
    listed = list(names)
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more


def _label(spec: BranchSpec) -> str:
    return f"{spec.network}-{spec.width}"


# --- Variants ---


def _mean(tensors: Tensors, naming: Naming) -> Mean | None:
    """Return where the mean is subtracted, None where it is not."""
    if "sub_mean" not in naming.layers:
        return None
    return "inside" if any(MEAN_NAME.match(name) for name in tensors) else "outside"


def _check_means(weights: Tensors, where: str) -> None:
    """Refuse a shift that does more than to add: ours, computed as an addition, could not follow it."""
    for name in ("sub_mean.weight", "add_mean.weight"):
        if name in weights and not torch.equal(weights[name][:, :, 0, 0], torch.eye(3)):
            raise ModelError(f"Expected {name} of {where} to be the identity but it is not.")


def _pick_upsampler(tensors: Tensors, scale: int) -> Tensors:
    """Keep one of the upsamplers of a CARN that was trained for several scales."""
    chosen = f"upsample.up{scale}."
    if not any(name.startswith(chosen) for name in tensors):
        return tensors
    return {
        name.replace(chosen, "upsample.up."): value
        for name, value in tensors.items()
        if name.startswith(chosen) or not re.match(r"upsample\.up\d", name)
    }


def _with_norms(tensors: Tensors) -> Tensors:
    """Turn the bias of every fusion into a BatchNorm that adds it and changes nothing else."""
    result = {}
    for name, value in tensors.items():
        if not (match := re.fullmatch(r"((?:b\d\.)?c\d)\.0\.bias", name)):
            result[name] = value
            continue
        norm = f"{match[1]}.1"
        result[f"{norm}.weight"] = torch.ones_like(value)
        result[f"{norm}.bias"] = value
        result[f"{norm}.running_mean"] = torch.zeros_like(value)
        result[f"{norm}.running_var"] = torch.full_like(value, 1 - NORM_EPS, dtype=torch.float32)
    return result


def _to_unit_range(weights: Tensors) -> Tensors:
    """Let an RCAN for colours from 0 to 255 take and return 0 to 1; inside, its values stay as they were.

    Only the two ends change: the first convolution sees 255 times less, the last one gives 255 times less, and the
    mean shifts add in the new range.
    """
    factors = {
        "sub_mean.bias": 1 / LIMIT,
        "head.weight": LIMIT,
        "tail.weight": 1 / LIMIT,
        "tail.bias": 1 / LIMIT,
        "add_mean.bias": 1 / LIMIT,
    }
    return {name: value * factors.get(name, 1) for name, value in weights.items()}
