"""The networks of the research code: weights under the names that it saves, and what it computes with them.

Plain functions, apart from ours, after the papers and the published names; see `classsr.naming`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])
GENTLE = 0.2  # of the usual spread: keeps 200 residual blocks from growing without bound
WIDTHS = {"fsrcnn": 5, "carn": 8, "srresnet": 6, "rcan": 16}
FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}


# --- Weights ---


def conv(name: str, outputs: int, inputs: int, side: int = 3, spread: float = 1.0) -> Tensors:
    """Weights of a convolution, of a size that keeps signals alive."""
    weight = spread * torch.randn(outputs, inputs, side, side) * (inputs * side**2) ** -0.5
    return {f"{name}.weight": weight, f"{name}.bias": torch.randn(outputs) / 4}


def norm(name: str, width: int) -> Tensors:
    return {
        f"{name}.weight": torch.rand(width) + 0.5,
        f"{name}.bias": torch.randn(width) / 4,
        f"{name}.running_mean": torch.randn(width) / 4,
        f"{name}.running_var": torch.rand(width) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def shift(name: str, bias: Tensor) -> Tensors:
    return {f"{name}.weight": torch.eye(3)[:, :, None, None], f"{name}.bias": bias}


def fsrcnn_weights(width: int) -> Tensors:
    weights = conv("head_conv.0", width, 3, 5) | {"head_conv.1.weight": torch.rand(1)}
    weights |= conv("body_conv.0.0", 12, width, 1) | {"body_conv.0.1.weight": torch.rand(1)}
    for place in range(1, 5):
        weights |= conv(f"body_conv.{place}", 12, 12)
    weights |= {"body_conv.5.weight": torch.rand(1)}
    weights |= conv("body_conv.6.0", width, 12, 1) | {"body_conv.6.1.weight": torch.rand(1)}
    weights["tail_conv.weight"] = torch.randn(width, 3, 9, 9) / (5 * width**0.5)
    return weights | {"tail_conv.bias": torch.randn(3)}


def carn_weights(width: int, *, scale: int = 4, has_norm: bool = True) -> Tensors:
    weights = shift("sub_mean", -MEAN) | shift("add_mean", MEAN) | conv("entry", width, 3)
    for cascade in ("b1.", "b2.", "b3.", ""):
        if cascade:
            weights |= conv(f"{cascade}b1.body.0", width, width // 4)
            weights |= conv(f"{cascade}b1.body.2", width, width // 4)
            weights |= conv(f"{cascade}b1.body.4", width, width, 1)
        for step in (1, 2, 3):
            fusion = conv(f"{cascade}c{step}.0", width, (step + 1) * width, 1)
            if has_norm:
                del fusion[f"{cascade}c{step}.0.bias"]
                fusion |= norm(f"{cascade}c{step}.1", width)
            weights |= fusion
    for place, factor in enumerate(FACTORS[scale]):
        weights |= conv(f"upsample.up.body.{3 * place}", factor**2 * width, width // 4)
    return weights | conv("exit", 3, width)


def srresnet_weights(width: int, *, scale: int = 4) -> Tensors:
    weights = conv("conv_first", width, 3)
    for block in range(16):
        weights |= conv(f"recon_trunk.{block}.conv1", width, width)
        weights |= conv(f"recon_trunk.{block}.conv2", width, width, spread=GENTLE)
    for place, factor in enumerate(FACTORS[scale], start=1):
        weights |= conv(f"upconv{place}", factor**2 * width, width)
    return weights | conv("HRconv", width, width) | conv("conv_last", 3, width)


def rcan_weights(
    width: int, *, scale: int = 4, mean: Tensor = 255 * MEAN, groups: int = 10, blocks: int = 20
) -> Tensors:
    weights = shift("sub_mean", -mean) | shift("add_mean", mean) | conv("head.0", width, 3)
    for g in range(groups):
        for b in range(blocks):
            body = f"body.{g}.body.{b}.body"
            weights |= conv(f"{body}.0", width, width)
            weights |= conv(f"{body}.2", width, width, spread=GENTLE)
            weights |= conv(f"{body}.3.conv_du.0", width // 16, width, 1)
            weights |= conv(f"{body}.3.conv_du.2", width, width // 16, 1)
        weights |= conv(f"body.{g}.body.{blocks}", width, width, spread=GENTLE)
    weights |= conv(f"body.{groups}", width, width)
    for place, factor in enumerate(FACTORS[scale]):
        weights |= conv(f"tail.0.{2 * place}", factor**2 * width, width)
    return weights | conv("tail.1", 3, width)


def classifier_weights(levels: int) -> Tensors:
    weights = conv("CondNet.0", 128, 3, 4)
    for place in (2, 4, 6):
        weights |= conv(f"CondNet.{place}", 128, 128, 1)
    weights |= conv("CondNet.8", 32, 128, 1)
    return weights | {
        "lastOut.weight": torch.randn(levels, 32),
        "lastOut.bias": torch.zeros(levels),
    }


WEIGHTS: dict[str, Callable[[int], Tensors]] = {
    "fsrcnn": fsrcnn_weights,
    "carn": carn_weights,
    "srresnet": srresnet_weights,
    "rcan": rcan_weights,
}


def drawn(network: str) -> Tensors:
    return WEIGHTS[network](WIDTHS[network])


def whole(network: str, levels: int = 3) -> Tensors:
    """A ClassSR model whose branches are wider from level to level."""
    step = {"fsrcnn": 1, "carn": 4, "srresnet": 1, "rcan": 16}[network]
    parts = {"classifier": classifier_weights(levels)}
    for level in range(levels):
        parts[f"net{level + 1}"] = WEIGHTS[network](WIDTHS[network] + step * level)
    return {f"{part}.{name}": value for part, each in parts.items() for name, value in each.items()}


# --- What is computed with them ---


def run_conv(weights: Tensors, name: str, x: Tensor) -> Tensor:
    weight = weights[f"{name}.weight"]
    groups = x.shape[1] // weight.shape[1]
    bias = weights.get(f"{name}.bias")
    return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2, groups=groups)


def run_fsrcnn(weights: Tensors, x: Tensor, *, padding: tuple[int, int] = (3, 1)) -> Tensor:
    def prelu(name: str, x: Tensor) -> Tensor:
        return F.prelu(x, weights[f"{name}.weight"])

    x = prelu("head_conv.1", run_conv(weights, "head_conv.0", x))
    x = prelu("body_conv.0.1", run_conv(weights, "body_conv.0.0", x))
    for place in range(1, 5):
        x = run_conv(weights, f"body_conv.{place}", x)
    x = prelu("body_conv.5", x)
    x = prelu("body_conv.6.1", run_conv(weights, "body_conv.6.0", x))
    kernel, bias = weights["tail_conv.weight"], weights["tail_conv.bias"]
    stride = 9 - 2 * padding[0] + padding[1]
    return F.conv_transpose2d(x, kernel, bias, stride, padding[0], padding[1])


def run_carn(weights: Tensors, x: Tensor) -> Tensor:
    def fuse(name: str, x: Tensor) -> Tensor:
        x = run_conv(weights, f"{name}.0", x)
        if f"{name}.1.weight" in weights:
            mean, variance = (weights[f"{name}.1.running_{leaf}"] for leaf in ("mean", "var"))
            weight, bias = (weights[f"{name}.1.{leaf}"] for leaf in ("weight", "bias"))
            x = F.batch_norm(x, mean, variance, weight, bias, eps=1e-5)
        return F.relu(x)

    def residual_e(prefix: str, x: Tensor) -> Tensor:
        y = F.relu(run_conv(weights, f"{prefix}.body.0", x))
        y = F.relu(run_conv(weights, f"{prefix}.body.2", y))
        return F.relu(run_conv(weights, f"{prefix}.body.4", y) + x)

    def cascade(prefix: str, x: Tensor) -> Tensor:
        gathered = x
        for step in (1, 2, 3):
            y = residual_e(f"{prefix}b1", x) if prefix else cascade(f"b{step}.", x)
            gathered = torch.cat([gathered, y], dim=1)
            x = fuse(f"{prefix}c{step}", gathered)
        return x

    x = x + weights.get("sub_mean.bias", -MEAN)[:, None, None]
    x = cascade("", run_conv(weights, "entry", x))
    for place in (0, 3):
        if f"upsample.up.body.{place}.weight" in weights:
            x = F.relu(run_conv(weights, f"upsample.up.body.{place}", x))
            x = F.pixel_shuffle(x, round((x.shape[1] / len(weights["entry.bias"])) ** 0.5))
    return run_conv(weights, "exit", x) + weights.get("add_mean.bias", MEAN)[:, None, None]


def run_srresnet(weights: Tensors, x: Tensor) -> Tensor:
    features = F.leaky_relu(run_conv(weights, "conv_first", x), 0.1)
    for block in range(16):
        y = F.relu(run_conv(weights, f"recon_trunk.{block}.conv1", features))
        features = features + run_conv(weights, f"recon_trunk.{block}.conv2", y)
    for place in (1, 2):
        if f"upconv{place}.weight" in weights:
            y = run_conv(weights, f"upconv{place}", features)
            factor = round((y.shape[1] / features.shape[1]) ** 0.5)
            features = F.leaky_relu(F.pixel_shuffle(y, factor), 0.1)
    features = F.leaky_relu(run_conv(weights, "HRconv", features), 0.1)
    y = run_conv(weights, "conv_last", features)
    scale = y.shape[2] // x.shape[2]
    return y + F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def run_rcan(weights: Tensors, x: Tensor) -> Tensor:
    """Take and return colours from 0 to 255."""

    def block(prefix: str, x: Tensor) -> Tensor:
        y = run_conv(weights, f"{prefix}.2", F.relu(run_conv(weights, f"{prefix}.0", x)))
        z = F.relu(run_conv(weights, f"{prefix}.3.conv_du.0", y.mean(dim=(2, 3), keepdim=True)))
        return x + y * torch.sigmoid(run_conv(weights, f"{prefix}.3.conv_du.2", z))

    x = x + weights.get("sub_mean.bias", -255 * MEAN)[:, None, None]
    features = shallow = run_conv(weights, "head.0", x)
    for g in range(10):
        y = features
        for b in range(20):
            y = block(f"body.{g}.body.{b}.body", y)
        features = features + run_conv(weights, f"body.{g}.body.20", y)
    x = shallow + run_conv(weights, "body.10", features)
    for place in (0, 2):
        if f"tail.0.{place}.weight" in weights:
            y = run_conv(weights, f"tail.0.{place}", x)
            x = F.pixel_shuffle(y, round((y.shape[1] / x.shape[1]) ** 0.5))
    return run_conv(weights, "tail.1", x) + weights.get("add_mean.bias", 255 * MEAN)[:, None, None]


def rcan_in_unit_range(weights: Tensors, x: Tensor) -> Tensor:
    return run_rcan(weights, 255 * x) / 255


RUNS: dict[str, Callable[[Tensors, Tensor], Tensor]] = {
    "fsrcnn": run_fsrcnn,
    "carn": run_carn,
    "srresnet": run_srresnet,
    "rcan": rcan_in_unit_range,
}
