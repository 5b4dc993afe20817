"""The Class-Module: the paper's (Kong et al., "ClassSR", CVPR 2021, section 3.2), and one that predicts errors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1  # of every LeakyReLU
LEAST_ENERGY = 1e-6  # of a filter's response; below it all tiles are alike
LEAST_ERROR = 1e-7  # mean squared, a twelfth of a step of 8 bits: smaller ones are not told apart


class Classifier(nn.Module):
    """Judge sub-images: RGB in [0, 1] (N, 3, H, W) -> logits (N, levels); H and W at least 4, 32 in the paper.

    The paper's module ends in a softmax; ours returns logits, and those who need probabilities take the softmax.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 128, 4, stride=4),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 128, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 128, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 128, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(128, 32, 1),
        )
        self.head = nn.Linear(32, levels)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class ErrorClassifier(nn.Module):
    """Predict errors instead of classes: RGB in [0, 1] (N, 3, H, W) -> logarithms of mean squared errors (N, levels).

    Two observations shape it (docs/adr/0007). How hard a sub-image is shows in the energy that filters find in it, and
    errors are powers of energies: so it takes the logarithm of what it pools, which a linear head cannot imitate. And
    an easier branch errs more than the hardest by about the squared distance of their outputs, which needs no HR to be
    known: so it learns these distances, and the hardest branch's error apart from them. `gains` turns a distance d
    into the additional error d (a + b log d); it is calibrated on pictures held out of the training. In training mode
    what it learns is returned instead: the logarithms of the distances and, last, of the hardest branch's error.

    Args:
        levels: at least 2.

    """

    gains: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.filters = _ZeroMeanConv2d(3, 48, 4, stride=4, bias=False)
        self.features = nn.Sequential(
            nn.Conv2d(48, 48, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(48, 32, 1)
        )
        self.head = nn.Sequential(
            nn.Linear(48 + 32, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, levels)
        )
        self.register_buffer("gains", torch.tensor([[1.0, 0.0]] * (levels - 1)))

    def estimate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the distances to the hardest branch (N, levels - 1) and of its error (N, 1)."""
        responses = self.filters(x)
        features = self.features(F.leaky_relu(responses, SLOPE))
        energies = torch.cat([_energy(responses), _energy(features)], dim=1)
        out = self.head(0.3 * energies)  # which brings them near unit variance
        return out[:, :-1], out[:, -1:]

    def forward(self, x: Tensor) -> Tensor:
        distances, hardest = self.estimate(x)
        if self.training:
            return torch.cat([distances, hardest], dim=1)
        more = distances.exp() * (self.gains[:, 0] + self.gains[:, 1] * distances)
        error = hardest.exp()
        easier = torch.maximum(error + more, 0.5 * error)
        return torch.cat([easier.log(), hardest], dim=1)


class _ZeroMeanConv2d(nn.Conv2d):
    """Filters that find nothing in a flat tile: were it next to nothing, rounding would decide its logarithm."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


def _energy(responses: Tensor) -> Tensor:
    """Return the logarithm of the mean square of every channel: (N, C, H, W) -> (N, C)."""
    return (responses.square().mean(dim=(2, 3)) + LEAST_ENERGY).log()
