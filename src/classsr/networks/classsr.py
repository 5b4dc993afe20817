"""ClassSR: branches of rising cost and the Class-Module that chooses among them (Kong et al., CVPR 2021)."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from classsr.networks.branch import BranchSpec, as_branch, build_branch
from classsr.networks.classifier import Classifier, ErrorClassifier


class ClassSR(nn.Module):
    """An ordered list of branches, easiest first, and one Class-Module.

    Args:
        specs: the branches by level, all of one scale.
        classifier: the paper's Class-Module by default.

    """

    classifier: Classifier | ErrorClassifier

    def __init__(
        self, specs: Sequence[BranchSpec], classifier: Classifier | ErrorClassifier | None = None
    ) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.branches = nn.ModuleList(build_branch(spec) for spec in specs)
        self.classifier = classifier or Classifier(len(self.branches))

    @property
    def scale(self) -> int:
        """Size of the output over size of the input."""
        return as_branch(self.branches[0]).scale

    def freeze_classifier(self) -> None:
        """Let only the branches learn, each from the sub-images that it is given: training too is routed."""
        self.classifier.requires_grad_(requires_grad=False)

    @property
    def learns_routing(self) -> bool:
        """Whether the Class-Module is not frozen."""
        return any(p.requires_grad for p in self.classifier.parameters())

    def freeze_branches(self) -> None:
        """Let only the Class-Module learn: no parameter and no running statistic of a branch moves any more."""
        self.branches.requires_grad_(requires_grad=False)
        self.branches.eval()

    def train(self, mode: bool = True) -> Self:
        """Set training mode; branches that are frozen stay in eval mode."""
        super().train(mode)
        for branch in self.branches:
            if not any(p.requires_grad for p in branch.parameters()):
                branch.eval()
        return self

    def probabilities(self, x: Tensor) -> Tensor:
        """Judge sub-images (N, 3, H, W) -> (N, M), in float32 also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            return self.classifier(x.float()).softmax(dim=1)

    def mixture(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run every branch on every sub-image and weight the results: the training form (eq. 4 of the paper).

        Returns:
            SR (N, 3, scale * H, scale * W) and the probabilities (N, M).

        """
        probabilities = self.probabilities(x)
        weights = probabilities[:, :, None, None, None].unbind(dim=1)  # M of (N, 1, 1, 1)
        sr = weights[0] * self.branches[0](x).float()
        for weight, branch in zip(weights[1:], self.branches[1:], strict=True):
            sr = torch.addcmul(sr, weight, branch(x).float())
        return sr, probabilities

    def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run on every sub-image only the branch judged likeliest, all sub-images of a level together.

        Returns:
            SR (N, 3, scale * H, scale * W) and the probabilities (N, M).

        """
        probabilities = self.probabilities(x)
        levels = probabilities.argmax(dim=1)
        size = (x.shape[0], 3, self.scale * x.shape[2], self.scale * x.shape[3])
        out = torch.empty(size, device=x.device)
        for level, branch in enumerate(self.branches):
            chosen = (levels == level).nonzero().squeeze(1)
            if len(chosen):
                out[chosen] = branch(x[chosen]).float()
        return out, probabilities

    def mixed_error(self, x: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error of the mixture from those of the branches, none of which is run.

        Args:
            x: sub-images (N, 3, H, W).
            errors: SR - HR of every branch (N, M, ...), at any pixels.

        Returns:
            Error (N, ...) and the probabilities (N, M).

        """
        probabilities = self.probabilities(x)
        weights = probabilities.unsqueeze(1)  # (N, 1, M)
        with torch.autocast(x.device.type, enabled=False):
            error = weights @ errors.float().flatten(2)  # (N, 1, pixels)
        return error.view(errors.shape[0], *errors.shape[2:]), probabilities

    def forward(self, x: Tensor, errors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if errors is not None:
            return self.mixed_error(x, errors)
        return self.mixture(x) if self.training and self.learns_routing else self.routed(x)
