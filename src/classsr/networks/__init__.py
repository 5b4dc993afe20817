"""The networks, one paper per file; all branches take and return RGB in [0, 1], shape (N, 3, H, W)."""

from classsr.networks.bicubic import Bicubic
from classsr.networks.branch import BRANCHES, Branch, BranchSpec, as_branch, build_branch
from classsr.networks.carn import CARN
from classsr.networks.classifier import Classifier, ErrorClassifier
from classsr.networks.classsr import ClassSR
from classsr.networks.compact import Compact
from classsr.networks.fsrcnn import FSRCNN
from classsr.networks.rcan import RCAN
from classsr.networks.srresnet import SRResNet

__all__ = [
    "BRANCHES",
    "CARN",
    "FSRCNN",
    "RCAN",
    "Bicubic",
    "Branch",
    "BranchSpec",
    "ClassSR",
    "Classifier",
    "Compact",
    "ErrorClassifier",
    "SRResNet",
    "as_branch",
    "build_branch",
]
