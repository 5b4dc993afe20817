"""The networks, one paper per file; all take and return RGB in [0, 1], shape (N, 3, H, W)."""

from classsr.networks.branch import BRANCHES, Branch, BranchSpec, as_branch, build_branch
from classsr.networks.classifier import Classifier
from classsr.networks.classsr import ClassSR
from classsr.networks.fsrcnn import FSRCNN

__all__ = [
    "BRANCHES",
    "FSRCNN",
    "Branch",
    "BranchSpec",
    "ClassSR",
    "Classifier",
    "as_branch",
    "build_branch",
]
