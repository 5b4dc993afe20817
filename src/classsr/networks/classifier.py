"""The Class-Module: Kong et al., "ClassSR", CVPR 2021, section 3.2: judges how hard a sub-image is."""

from torch import Tensor, nn

SLOPE = 0.1  # of every LeakyReLU


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
