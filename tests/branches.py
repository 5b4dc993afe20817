"""Small branches of every kind, and what tests fill them with."""

import math
from functools import partial

import torch
from torch import nn

from classsr.networks import (
    BRANCHES,
    RCAN,
    BranchSpec,
    Classifier,
    ClassSR,
    SRResNet,
    build_branch,
)
from classsr.networks.branch import BranchKind, sizes
from classsr.networks.quantized import HIGH, QuantizedConv

WIDTH, DEPTH = 8, 2
# The same networks with fewer blocks, for BRANCHES.
SHALLOW = {
    "rcan": BranchKind(partial(RCAN, groups=2, blocks=2, reduction=2), ("width",)),
    "srresnet": BranchKind(partial(SRResNet, blocks=2), ("width",)),
}


def small_spec(network: str, scale: int) -> BranchSpec:
    """The sizes that the network has, all small."""
    named = BRANCHES[network].sizes
    return BranchSpec(
        network,
        width=WIDTH if "width" in named else None,
        scale=scale,
        depth=DEPTH if "depth" in named else None,
    )


def small_branch(network: str, scale: int) -> nn.Module:
    """A narrow and shallow branch of one kind."""
    kind = SHALLOW.get(network, BRANCHES[network])
    return kind.build(**sizes(small_spec(network, scale)), scale=scale)


def randomise(module: nn.Module) -> None:
    """Fill everything learned so that outputs are of order 1 and no zero or one hides a term."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            inputs = parameter[0].numel() if parameter.ndim > 1 else 16
            nn.init.normal_(parameter, std=inputs**-0.5)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            layer.get_buffer("running_mean").normal_(std=0.25)
            layer.get_buffer("running_var").uniform_(0.5, 2)
        if isinstance(layer, QuantizedConv):
            layer.log_step.data.fill_(math.log(4 / HIGH))  # values of order 1 fall within it


def make_positive(module: nn.Module) -> None:
    """Fill everything learned with numbers above zero: of a bright input no ReLU is silent, nothing cancels."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            inputs = parameter[0].numel() if parameter.ndim > 1 else 16
            nn.init.uniform_(parameter, 0.5 / inputs, 1.5 / inputs)


def head_of(model: ClassSR) -> nn.Linear:
    """The last layer of the paper's Class-Module."""
    assert isinstance(model.classifier, Classifier)
    return model.classifier.head


def parameters(module: nn.Module) -> int:
    """How many numbers the network holds, fixed ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def weightless(network: str, width: int) -> nn.Module:
    """A branch of x4 of any width in no time: it has shapes and no numbers."""
    with torch.device("meta"):
        return build_branch(BranchSpec(network, width, 4))
