"""Multiply-accumulates of a network, counted layer by layer while it runs on shapes alone (meta tensors)."""

import copy

import torch
from torch import Tensor, nn

COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def _layer_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Count one layer; biases, activations and additions are not counted, as is usual in the field."""
    if isinstance(layer, nn.ConvTranspose2d):
        return inputs.numel() // inputs.shape[1] * layer.weight.numel()
    if isinstance(layer, nn.Conv2d):
        return output.numel() // output.shape[1] * layer.weight.numel()
    assert isinstance(layer, nn.Linear)
    return output.numel() // output.shape[-1] * layer.weight.numel()


def count_macs(module: nn.Module, height: int, width: int) -> int:
    """Count the multiply-accumulates of one RGB picture of (height, width) LR pixels.

    Every layer is counted as it is written: FSRCNN's transposed convolution by its 9 x 9 taps per LR pixel, not by
    the zero-padded kernel that computes it. A fixed kernel costs what a learned one does: Bicubic's convolution counts.
    """
    module = copy.deepcopy(module).to("meta").eval()
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _layer_macs(layer, inputs[0], output)

    for layer in module.modules():
        if isinstance(layer, COUNTED):
            layer.register_forward_hook(add)
    with torch.no_grad():
        module(torch.empty(1, 3, height, width, device="meta"))
    return total
