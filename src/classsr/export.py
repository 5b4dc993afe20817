"""A trained checkpoint -> a released model: ONNX graphs, weights and config.json in one folder."""

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from classsr.checkpoint import load_networks
from classsr.errors import ModelError, OutputError, UsageError
from classsr.flops import count_macs
from classsr.model import (
    ClassifierInfo,
    Level,
    Model,
    ModelConfig,
    open_model,
    sha256,
    write_config,
)
from classsr.networks import BranchSpec, Classifier, as_branch

CLASSIFIER = "classifier.onnx"
WEIGHTS = "model.safetensors"
OPSET = 18
PARITY = 1e-4  # largest difference allowed between a graph and its network, values in [0, 1]

logger = logging.getLogger(__name__)


def export_model(
    checkpoint: Path, folder: Path, *, name: str, tile: int, halos: Sequence[int]
) -> Model:
    """Write a released model and check every graph against its network.

    Args:
        checkpoint: a whole ClassSR model, as stage 2 or 3 of the training leaves it, or a branch alone, which
            becomes a model with one level and no Class-Module.
        folder: created or refilled; config.json is written last.
        name: of the model.
        tile: side of a tile in LR pixels, as in training.
        halos: neighbours around a window of each level in LR pixels; one for all, or one each.

    Raises:
        UsageError: there are more or fewer halos than levels.
        ModelError: the checkpoint is damaged, or a graph differs from its network.
        OutputError: the folder cannot be made.

    """
    networks = load_networks(checkpoint)
    if len(halos) == 1:
        halos = [*halos] * len(networks.branches)
    if len(halos) != len(networks.branches):
        raise UsageError(
            f"Expected one halo or {len(networks.branches)}, one for each level, but got {len(halos)}."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"The folder {folder} cannot be made ({exc.strerror}).") from exc
    (folder / "config.json").unlink(missing_ok=True)
    weights = folder / WEIGHTS
    if not (weights.exists() and weights.samefile(checkpoint)):
        shutil.copyfile(checkpoint, weights)
    files = [WEIGHTS]
    classifier = None
    if networks.classifier is not None:
        classifier = _export_classifier(networks.classifier, folder, tile)
        files.append(CLASSIFIER)
    levels = []
    parts = zip(networks.specs, networks.branches, halos, strict=True)
    for index, (spec, branch, halo) in enumerate(parts):
        level = _describe(spec, branch, halo, index)
        _export(as_branch(branch).fold(), folder / level.file, tile)
        levels.append(level)
        files.append(level.file)
    config = ModelConfig(
        name=name,
        scale=networks.specs[0].scale,
        tile=tile,
        levels=tuple(levels),
        classifier=classifier,
        weights=WEIGHTS,
        sha256={file: sha256(folder / file) for file in files},
    )
    write_config(config, folder)
    return open_model(folder)


def _export_classifier(classifier: Classifier, folder: Path, tile: int) -> ClassifierInfo:
    _export(nn.Sequential(classifier, nn.Softmax(dim=1)), folder / CLASSIFIER, tile)
    return ClassifierInfo(CLASSIFIER, _parameters(classifier), count_macs(classifier, tile, tile))


def _describe(spec: BranchSpec, branch: nn.Module, halo: int, index: int) -> Level:
    return Level(
        network=spec.network,
        width=spec.width,
        depth=spec.depth,
        file=f"branch-{index}.onnx",
        parameters=_parameters(branch),
        macs_per_pixel=count_macs(branch, 16, 16) // 16**2,
        receptive_radius=as_branch(branch).receptive_radius,
        halo=halo,
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _export(module: nn.Module, path: Path, tile: int) -> None:
    """Write one network as an ONNX graph with free batch, height and width, weights inside."""
    module = module.eval()
    example = torch.rand(2, 3, tile, tile + 4)
    # It warns that torchvision, of which we use nothing, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["lr"],
            output_names=["out"],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where on this machine the code lies that made it
    program.save(path, external_data=False)
    _check_parity(module, path, tile)


def _check_parity(module: nn.Module, path: Path, tile: int) -> None:
    """Compare the graph with the network on a batch of another size than it was traced with."""
    x = torch.rand(3, 3, tile + 8, tile, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(x).numpy()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"lr": x.numpy()})
    difference = float(np.abs(found - expected).max())
    logger.info("%s: largest difference %.1e", path.name, difference)
    if not difference <= PARITY:
        raise ModelError(f"The exported {path.name} differs from its network by {difference:.1e}.")
