"""A trained checkpoint -> a released model: graphs, weights and config.json in one folder.

The graphs are ONNX; OpenVINO IR beside them is for other programs, ours read ONNX.
"""

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from onnxscript import FLOAT, INT8
from onnxscript import opset18 as op
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
from classsr.networks import BranchSpec, ErrorClassifier, as_branch
from classsr.parity import measure_parity

CLASSIFIER = "classifier.onnx"
WEIGHTS = "model.safetensors"
OPSET = 18

logger = logging.getLogger(__name__)


def export_model(
    checkpoint: Path,
    folder: Path,
    *,
    name: str,
    tile: int,
    halos: Sequence[int],
    openvino: bool = False,
) -> Model:
    """Write a released model, check every graph against its network in every runtime, and log how far it is off.

    Args:
        checkpoint: a whole ClassSR model, as stage 2 or 3 of the training leaves it, or a branch alone, which
            becomes a model with one level and no Class-Module.
        folder: created or refilled; config.json is written last.
        name: of the model.
        tile: side of a tile in LR pixels, as in training.
        halos: neighbours around a window of each level in LR pixels; one for all, or one each.
        openvino: also write every graph as OpenVINO IR.

    Raises:
        UsageError: there are more or fewer halos than levels, or OpenVINO is wanted and not installed.
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
        judge: nn.Module = networks.classifier
        predicts_errors = isinstance(judge, ErrorClassifier)
        classifier = ClassifierInfo(
            file=CLASSIFIER,
            parameters=_parameters(judge),
            macs=count_macs(judge, tile, tile),
            predicts="log-errors" if predicts_errors else "probabilities",
            errors=networks.errors,
        )
        if not predicts_errors:
            judge = nn.Sequential(judge, nn.Softmax(dim=1))
        files += _export(judge, folder / CLASSIFIER, tile, openvino=openvino)
    levels = []
    parts = zip(networks.specs, networks.branches, halos, strict=True)
    for index, (spec, branch, halo) in enumerate(parts):
        level = _describe(spec, branch, halo, index)
        files += _export(as_branch(branch).fold(), folder / level.file, tile, openvino=openvino)
        levels.append(level)
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


def _export(module: nn.Module, path: Path, tile: int, *, openvino: bool = False) -> list[str]:
    """Write one network as a graph with free batch, height and width, weights inside; return the files' names."""
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
            custom_translation_table={torch.ops.classsr.round_to_steps.default: _quantized},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where on this machine the code lies that made it
    program.save(path, external_data=False)
    paths = [path]
    ir = (path.with_suffix(".xml"), path.with_suffix(".bin"))
    for old in ir:
        old.unlink(missing_ok=True)
    if openvino:
        _write_ir(path)
        paths += ir
    for graph in paths[:2]:
        _check_parity(module, graph, tile)
    return [each.name for each in paths]


def _quantized(x: FLOAT, steps: FLOAT, zeros: INT8) -> FLOAT:
    """Write `round_to_steps` in ONNX."""
    return op.DequantizeLinear(op.QuantizeLinear(x, steps, zeros, axis=0), steps, zeros, axis=0)


def _write_ir(path: Path) -> None:
    """Write an ONNX graph again beside it as OpenVINO IR, in float32."""
    try:
        import openvino as ov
    except ImportError as exc:
        raise UsageError(f"OpenVINO IR needs OpenVINO ({exc}); run: pip install openvino") from exc
    # Not convert_model, which notes how it was called in the file.
    ov.save_model(ov.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)


def _check_parity(module: nn.Module, path: Path, tile: int) -> None:
    for parity in measure_parity(module, path, tile=tile):
        logger.info("%s", parity.line())
        if not parity.is_met:
            raise ModelError(
                f"The exported {path.name} differs from its network by {parity.judged:.1e} "
                f"in {parity.runtime}; at most {parity.tolerance:.0e} is allowed."
            )
