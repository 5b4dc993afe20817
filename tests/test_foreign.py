"""What other code trained computes the same here, by every name and convention that it is saved with; nothing is run.

The weights are drawn under the names that the research code saves, and what they compute is compared with plain
functions, apart from ours (research.py).
"""

import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from branches import randomise
from classsr.checkpoint import load_branch, load_classsr
from classsr.cli import main
from classsr.costs import by_macs
from classsr.errors import ModelError
from classsr.foreign import Imported, Mean, read_foreign
from classsr.model import open_model
from classsr.naming import CLASSIFIER, NAMINGS, theirs
from classsr.networks import BranchSpec, ClassSR, build_branch
from classsr.upscaler import Upscaler
from research import (
    MEAN,
    RUNS,
    WEIGHTS,
    WIDTHS,
    Tensors,
    carn_weights,
    classifier_weights,
    conv,
    drawn,
    rcan_in_unit_range,
    rcan_weights,
    run_carn,
    run_fsrcnn,
    run_srresnet,
    srresnet_weights,
    whole,
)

pytestmark = pytest.mark.usefixtures("same_weights")


every_network = pytest.mark.parametrize("network", sorted(WEIGHTS))


def imported(weights: object, folder: Path, **options: Any) -> Imported:  # noqa: ANN401
    path = folder / "theirs.pth"
    torch.save(weights, path)
    return read_foreign(path, **options)


def assert_computes(module: nn.Module, expected: Callable[[Tensor], Tensor]) -> None:
    x = torch.rand(2, 3, 9, 12)
    with torch.no_grad():
        wanted, found = expected(x), module(x)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def renamed(weights: Tensors, pattern: str, replacement: str) -> Tensors:
    result = {re.sub(pattern, replacement, name): value for name, value in weights.items()}
    assert result.keys() != weights.keys()
    return result


def without_mean(weights: Tensors) -> Tensors:
    return {name: value for name, value in weights.items() if "_mean." not in name}


# --- Single branches ---


@every_network
def test_a_branch_computes_what_it_computed_elsewhere(network: str, tmp_path: Path) -> None:
    weights = drawn(network)

    result = imported(weights, tmp_path)

    assert result.specs == (BranchSpec(network, WIDTHS[network], 4),)
    assert not result.model.training
    assert_computes(result.model, lambda x: RUNS[network](weights, x))


@pytest.mark.parametrize(
    ("network", "description"),
    [
        ("fsrcnn", "fsrcnn-5, x4"),
        ("carn", "carn-8 (BatchNorm, mean inside), x4"),
        ("srresnet", "srresnet-6, x4"),
        ("rcan", "rcan-16 (values 0 to 255, mean inside), x4"),
    ],
)
def test_what_was_recognised_is_told(network: str, description: str, tmp_path: Path) -> None:
    assert imported(drawn(network), tmp_path).description == description


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("network", ["carn", "srresnet", "rcan"])
def test_the_scale_is_read_off_the_upsampler(network: str, scale: int, tmp_path: Path) -> None:
    build: Any = WEIGHTS[network]
    weights = build(WIDTHS[network], scale=scale)

    result = imported(weights, tmp_path)

    assert result.specs[0].scale == scale
    assert_computes(result.model, lambda x: RUNS[network](weights, x))


@pytest.mark.parametrize(("scale", "padding"), [(2, (4, 1)), (3, (3, 0)), (4, (3, 1))])
def test_the_scale_of_fsrcnn_is_the_one_that_is_named(
    scale: int, padding: tuple[int, int], tmp_path: Path
) -> None:
    weights = drawn("fsrcnn")

    result = imported(weights, tmp_path, scale=scale)

    assert_computes(result.model, lambda x: run_fsrcnn(weights, x, padding=padding))


# --- Variants ---


@pytest.mark.parametrize("mean", [None, "outside"])
def test_a_mean_subtracted_outside_is_taken_inside(mean: Mean | None, tmp_path: Path) -> None:
    weights = without_mean(drawn("carn"))

    result = imported(weights, tmp_path, mean=mean)

    assert result.description == "carn-8 (BatchNorm, mean outside), x4"
    assert_computes(result.model, lambda x: run_carn(weights, x))


@pytest.mark.parametrize("fusion", ["0", "body.0", "conv", ""])
def test_fusions_without_batchnorm_are_carried_over_exactly(fusion: str, tmp_path: Path) -> None:
    weights = carn_weights(8, has_norm=False)
    spelled = (
        renamed(weights, r"(c\d)\.0\.", rf"\1.{fusion}.".replace("..", "."))
        if fusion != "0"
        else weights
    )

    result = imported(spelled, tmp_path)

    assert result.description == "carn-8 (no BatchNorm, mean inside), x4"
    assert_computes(result.model, lambda x: run_carn(weights, x))


def test_a_carn_of_the_authors_code_keeps_the_way_up_that_is_asked_for(tmp_path: Path) -> None:
    ways = {scale: carn_weights(8, scale=scale, has_norm=False) for scale in (2, 3, 4)}
    shared = {name: value for name, value in ways[4].items() if "upsample" not in name}
    several = {name: value for name, value in shared.items() if "_mean" not in name}
    several = renamed(several, r"(c\d)\.0\.", r"\1.body.0.")
    several |= {
        name.replace("_mean.", "_mean.shifter."): value
        for name, value in shared.items()
        if "_mean" in name
    }
    for scale, weights in ways.items():
        for name in weights.keys() - shared.keys():
            several[name.replace("upsample.up.", f"upsample.up{scale}.")] = weights[name]

    for scale, weights in ways.items():
        expected = weights | shared
        result = imported(several, tmp_path, scale=scale)
        assert_computes(result.model, lambda x, w=expected: run_carn(w, x))  # type: ignore[misc]
    assert imported(several, tmp_path).specs[0].scale == 4


def test_the_names_of_basicsr_are_known(tmp_path: Path) -> None:
    weights = drawn("srresnet")
    spelled = renamed(renamed(weights, "recon_trunk", "body"), "HRconv", "conv_hr")

    result = imported({"params": spelled}, tmp_path)

    assert_computes(result.model, lambda x: run_srresnet(weights, x))


def test_an_rcan_keeps_the_mean_that_it_was_trained_with(tmp_path: Path) -> None:
    # ClassSR's own code shifts colours from 0 to 255 by the mean of colours from 0 to 1.
    weights = rcan_weights(16, mean=MEAN)

    result = imported(weights, tmp_path)

    assert_computes(result.model, lambda x: rcan_in_unit_range(weights, x))


def test_an_rcan_without_mean_has_it_subtracted_outside(tmp_path: Path) -> None:
    weights = without_mean(drawn("rcan"))

    result = imported(weights, tmp_path)

    assert_computes(result.model, lambda x: rcan_in_unit_range(weights, x))


def test_a_counter_of_batchnorm_may_be_absent(tmp_path: Path) -> None:
    weights = drawn("carn")
    older = {name: value for name, value in weights.items() if "num_batches" not in name}

    assert_computes(imported(older, tmp_path).model, lambda x: run_carn(weights, x))


# --- Whole models ---


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_a_whole_model_may_have_any_number_of_branches(levels: int, tmp_path: Path) -> None:
    weights = whole("fsrcnn", levels)

    model = imported(weights, tmp_path).model

    assert isinstance(model, ClassSR)
    assert [spec.width for spec in model.specs] == [5 + level for level in range(levels)]


@pytest.mark.parametrize("network", ["fsrcnn", "carn", "srresnet"])
def test_a_whole_model_routes_and_enlarges_as_it_did_elsewhere(
    network: str, tmp_path: Path
) -> None:
    weights = whole(network)
    parts: dict[str, Tensors] = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    x = torch.rand(8, 3, 32, 32) * torch.rand(8, 1, 1, 1)
    judged = x
    for place in range(0, 9, 2):
        stride = 4 if place == 0 else 1
        weight, bias = (
            parts["classifier"][f"CondNet.{place}.{leaf}"] for leaf in ("weight", "bias")
        )
        judged = F.conv2d(judged, weight, bias, stride=stride)
        judged = F.leaky_relu(judged, 0.1) if place < 8 else judged
    pooled = F.avg_pool2d(judged, 8).flatten(1)
    head = parts["classifier"]
    logits = pooled @ head["lastOut.weight"].T + head["lastOut.bias"]

    result = imported(weights, tmp_path)

    assert isinstance(result.model, ClassSR)
    with torch.no_grad():
        out, probabilities = result.model.routed(x)
    torch.testing.assert_close(probabilities, logits.softmax(dim=1))
    for picture, level, sr in zip(x, logits.argmax(dim=1).tolist(), out, strict=True):
        expected = RUNS[network](parts[f"net{level + 1}"], picture[None])[0]
        torch.testing.assert_close(sr, expected, rtol=1e-4, atol=1e-4)


def test_what_a_whole_model_is_made_of_is_told(tmp_path: Path) -> None:
    told = imported(whole("carn"), tmp_path).description

    assert told == "ClassSR with 3 levels: carn-8, carn-12, carn-16 (BatchNorm, mean inside), x4"


def test_a_branch_under_its_name_in_a_whole_model_is_a_branch(tmp_path: Path) -> None:
    weights = drawn("fsrcnn")

    result = imported({f"net1.{name}": value for name, value in weights.items()}, tmp_path)

    assert result.description == "fsrcnn-5, x4"
    assert_computes(result.model, lambda x: run_fsrcnn(weights, x))


# --- Wrapped ---


def wrapped(*keys: str) -> Callable[[Tensors], object]:
    def wrap(weights: Tensors) -> object:
        content: object = weights
        for key in reversed(keys):
            content = {key: content, "epoch": 3, "optimizer": {"state": {0: torch.zeros(2)}}}
        return content

    return wrap


def prefixed(prefix: str) -> Callable[[Tensors], object]:
    return lambda weights: {f"{prefix}.{name}": value for name, value in weights.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        *[
            wrapped(*keys.split())
            for keys in ("state_dict", "params", "params_ema", "model", "model sd", "model.sd")
        ],
        *[prefixed(prefix) for prefix in ("module", "module.module", "netG", "netG.module")],
        lambda weights: wrapped("state_dict")(prefixed("model")(weights)),  # type: ignore[arg-type]
        lambda weights: {re.sub(r"^(\w+)\.", r"\1.module.", k): v for k, v in weights.items()},
    ],
)
def test_weights_are_found_in_every_wrapping(
    wrap: Callable[[Tensors], object], tmp_path: Path
) -> None:
    weights = whole("fsrcnn", 2)
    plain = imported(weights, tmp_path).model.state_dict()

    found = imported(wrap(weights), tmp_path).model.state_dict()

    assert all(torch.equal(value, plain[name]) for name, value in found.items())


def test_the_averaged_weights_win(tmp_path: Path) -> None:
    averaged, last = drawn("fsrcnn"), drawn("fsrcnn")

    result = imported({"params": last, "params_ema": averaged}, tmp_path)

    assert_computes(result.model, lambda x: run_fsrcnn(averaged, x))


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    weights = drawn("fsrcnn")
    save_file(weights, tmp_path / "theirs.safetensors")

    result = read_foreign(tmp_path / "theirs.safetensors")

    assert_computes(result.model, lambda x: run_fsrcnn(weights, x))


def test_a_file_of_an_older_torch_is_read(tmp_path: Path) -> None:
    weights = drawn("fsrcnn")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)

    result = read_foreign(tmp_path / "old.pth")

    assert_computes(result.model, lambda x: run_fsrcnn(weights, x))


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_weights_of_any_precision_become_float32(kind: torch.dtype, tmp_path: Path) -> None:
    weights = {name: value.to(kind) for name, value in carn_weights(8, has_norm=False).items()}

    model = imported(weights, tmp_path).model

    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
    single = {name: value.float() for name, value in weights.items()}
    assert_computes(model, lambda x: run_carn(single, x))


# --- There and back ---


@every_network
def test_importing_undoes_renaming(network: str, tmp_path: Path) -> None:
    spec = BranchSpec(network, WIDTHS[network], 4)
    ours = build_branch(spec)
    randomise(ours)
    weights = {theirs(name, NAMINGS[network].layers): v for name, v in ours.state_dict().items()}
    if network == "rcan":  # back to colours from 0 to 255
        weights["head.0.weight"] = weights["head.0.weight"] / 255
        for name in ("tail.1.weight", "tail.1.bias", "sub_mean.bias", "add_mean.bias"):
            weights[name] = weights[name] * 255

    result = imported(weights, tmp_path)

    expected = ours.state_dict()
    for name, value in result.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=0)


def test_the_names_of_the_class_module_are_all_of_it() -> None:
    expected = classifier_weights(3).keys()

    classifier = ClassSR([BranchSpec("fsrcnn", 3, 4)] * 3).classifier
    assert {theirs(name, CLASSIFIER) for name in classifier.state_dict()} == expected


@every_network
def test_our_names_lead_to_those_of_the_research_code(network: str) -> None:
    ours = build_branch(BranchSpec(network, WIDTHS[network], 4)).state_dict()

    assert {theirs(name, NAMINGS[network].layers) for name in ours} == drawn(network).keys()


def test_what_was_imported_is_saved_as_a_checkpoint_of_ours(tmp_path: Path) -> None:
    branch = imported(drawn("carn"), tmp_path)
    branch.save(tmp_path / "branch.safetensors")
    model = imported(whole("fsrcnn"), tmp_path)
    model.save(tmp_path / "model.safetensors")

    for saved, held in (
        (load_branch(tmp_path / "branch.safetensors")[0], branch.model),
        (load_classsr(tmp_path / "model.safetensors"), model.model),
    ):
        assert saved.state_dict().keys() == held.state_dict().keys()
        for name, value in saved.state_dict().items():
            assert torch.equal(value, held.state_dict()[name])


# --- Files that are refused ---


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def save_zipped(content: object, path: Path) -> None:
    torch.save(content, path)


def save_old(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickled(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [save_zipped, save_old, save_pickled])
def test_code_in_a_checkpoint_is_never_run(
    save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    trace, path = tmp_path / "trace", tmp_path / "bad.pth"
    save({"state_dict": {"entry.weight": Malicious(trace)}}, path)

    with pytest.raises(ModelError, match=r"asks to run \w+\.mkdir, which was not done"):
        read_foreign(path)

    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))  # it would have been
    assert trace.exists()


def test_a_pickled_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"more than weights.* save the network's state_dict"):
        imported(build_branch(BranchSpec("fsrcnn", 5, 4)), tmp_path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, suffix: str, tmp_path: Path) -> None:
    whole_file, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    save: Callable[[Tensors, Path], None] = save_file if suffix == "safetensors" else torch.save
    save(drawn("fsrcnn"), whole_file)
    content = whole_file.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(ModelError, match=r"cut\.\w+ is damaged or no"):
        read_foreign(path)


@pytest.mark.parametrize("content", [b"hello", b"\xff" * 100, b"PK\x03\x04" + bytes(100), b"\x80"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)

    with pytest.raises(ModelError, match=r"a\.pth is damaged or no checkpoint of PyTorch"):
        read_foreign(tmp_path / "a.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pth", tmp_path):
        with pytest.raises(ModelError, match=f"no checkpoint at {path}"):
            read_foreign(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"model": {"name": "carn"}}])
def test_a_file_without_weights_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"dictionary of weights .* params_ema, params"):
        imported(content, tmp_path)


def test_an_endless_nest_is_refused(tmp_path: Path) -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless

    with pytest.raises(ModelError, match="dictionary of weights"):
        imported(endless, tmp_path)


# --- Weights that are refused ---


def test_an_unknown_network_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        imported({"features.0.weight": torch.zeros(3)}, tmp_path)

    message = str(caught.value)
    for told in ("head_conv.0.weight (fsrcnn)", "entry.weight (carn)", "features.0.weight"):
        assert told in message


def test_missing_and_unknown_names_are_listed(tmp_path: Path) -> None:
    weights = whole("carn")
    del weights["net2.b3.b1.body.4.weight"], weights["net2.exit.bias"]
    weights |= {"net2.b4.c1.0.weight": torch.zeros(3), "net2.extra": torch.zeros(3)}

    with pytest.raises(ModelError) as caught:
        imported(weights, tmp_path)

    assert str(caught.value) == (
        f"The weights of net2 of {tmp_path / 'theirs.pth'} do not fit carn-12: "
        "missing: b3.b1.body.4.weight, exit.bias; unknown: b4.c1.0.weight, extra."
    )


def test_only_the_first_ten_names_are_listed(tmp_path: Path) -> None:
    weights = drawn("fsrcnn") | {f"more.{k}": torch.zeros(1) for k in range(23)}

    with pytest.raises(ModelError) as caught:
        imported(weights, tmp_path)

    listed = ", ".join(f"more.{k}" for k in range(10))
    assert str(caught.value).endswith(f"unknown: {listed} and 13 more.")


@every_network
def test_every_name_but_the_optional_ones_is_needed(network: str, tmp_path: Path) -> None:
    weights = drawn(network)
    needed = [name for name in weights if "num_batches" not in name and "_mean." not in name]
    for name in needed[1 :: max(len(needed) // 12, 1)]:
        lacking = {other: value for other, value in weights.items() if other != name}
        with pytest.raises(ModelError) as caught:
            imported(lacking, tmp_path)
        counted = name == "body_conv.5.weight"  # all that its layer has
        assert ("mapping layers" if counted else name) in str(caught.value)


def test_half_a_mean_shift_is_refused(tmp_path: Path) -> None:
    weights = drawn("carn")
    del weights["add_mean.weight"], weights["add_mean.bias"]

    with pytest.raises(ModelError, match=r"missing: add_mean\.weight, add_mean\.bias"):
        imported(weights, tmp_path)


def test_wrong_shapes_are_listed_with_the_right_ones(tmp_path: Path) -> None:
    weights = drawn("fsrcnn")
    weights["tail_conv.weight"] = torch.zeros(5, 3, 7, 7)
    weights["head_conv.1.weight"] = torch.zeros(5)

    with pytest.raises(ModelError) as caught:
        imported(weights, tmp_path)

    assert "of a wrong shape: head_conv.1.weight (5,) for (1,)" in str(caught.value)
    assert "tail_conv.weight (5, 3, 7, 7) for (5, 3, 9, 9)" in str(caught.value)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 5, 5), (0, 3, 5, 5)])
def test_a_first_layer_that_is_none_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    weights = drawn("fsrcnn") | {"head_conv.0.weight": torch.zeros(shape)}

    with pytest.raises(ModelError, match=r"Expected head_conv\.0\.weight"):
        imported(weights, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    weights = drawn("srresnet")
    weights["upconv1.weight"][0, 0, 0, 0] = value

    with pytest.raises(ModelError, match=r"not finite: upconv1\.weight"):
        imported(weights, tmp_path)


@pytest.mark.parametrize(
    ("groups", "blocks", "told"),
    [
        (5, 20, "Expected rcan with 10 groups but .* 5"),
        (10, 10, "20 blocks in a group but .* 10"),
    ],
)
def test_an_rcan_of_another_depth_is_refused(
    groups: int, blocks: int, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=told):
        imported(rcan_weights(16, groups=groups, blocks=blocks), tmp_path)


def test_other_depths_are_told_in_one_sentence(tmp_path: Path) -> None:
    shorter = {k: v for k, v in drawn("srresnet").items() if "recon_trunk.15." not in k}
    longer = drawn("fsrcnn") | conv("body_conv.7", 12, 12)

    with pytest.raises(ModelError, match=r"srresnet with 16 blocks but .* 15"):
        imported(shorter, tmp_path)
    with pytest.raises(ModelError, match=r"fsrcnn with 5 mapping layers, PReLU included, but .* 6"):
        imported(longer, tmp_path)


def test_a_width_that_our_network_cannot_have_is_refused(tmp_path: Path) -> None:
    weights = drawn("carn") | conv("entry", 6, 3)

    with pytest.raises(ModelError, match=r"cannot be built: .*carn.* 6"):
        imported(weights, tmp_path)


def test_a_shift_that_does_more_than_add_is_refused(tmp_path: Path) -> None:
    weights = drawn("rcan")
    weights["sub_mean.weight"] = weights["sub_mean.weight"] / 0.5

    with pytest.raises(ModelError, match=r"sub_mean\.weight .* identity"):
        imported(weights, tmp_path)


@pytest.mark.parametrize(
    ("network", "mean", "told"),
    [
        ("carn", "outside", "holds one with the mean inside"),
        ("srresnet", "inside", "holds one that subtracts no mean"),
    ],
)
def test_a_mean_that_the_names_contradict_is_refused(
    network: str, mean: Mean, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=told):
        imported(drawn(network), tmp_path, mean=mean)


def test_a_mean_said_to_be_inside_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds one with the mean outside"):
        imported(without_mean(drawn("carn")), tmp_path, mean="inside")


def test_a_scale_that_the_weights_contradict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x2 but .* x4"):
        imported(drawn("carn"), tmp_path, scale=2)


def test_branches_of_several_scales_are_refused(tmp_path: Path) -> None:
    parts = {"net1": srresnet_weights(6, scale=2), "net2": srresnet_weights(6, scale=4)}
    weights = {f"{part}.{name}": v for part, each in parts.items() for name, v in each.items()}

    with pytest.raises(ModelError, match=r"one scale .* got x2, x4"):
        imported(weights, tmp_path)


def test_a_whole_model_without_its_class_module_is_refused(tmp_path: Path) -> None:
    weights = {name: v for name, v in whole("fsrcnn").items() if not name.startswith("classifier")}

    with pytest.raises(ModelError, match=r"fit the Class-Module: missing: CondNet\.0\.weight"):
        imported(weights, tmp_path)


def test_a_class_module_for_other_branches_is_refused(tmp_path: Path) -> None:
    weights = whole("fsrcnn", 3)
    two = {name: value for name, value in weights.items() if not name.startswith("net3")}

    with pytest.raises(ModelError, match=r"lastOut\.weight \(3, 32\) for \(2, 32\)"):
        imported(two, tmp_path)


def test_a_missing_branch_and_unknown_parts_are_named(tmp_path: Path) -> None:
    weights = whole("fsrcnn", 3) | {"net5.extra": torch.zeros(1), "loss.weight": torch.zeros(1)}

    with pytest.raises(ModelError, match=r"missing: net4; unknown: loss\.weight"):
        imported(weights, tmp_path)


def test_weights_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    weights = drawn("carn") | {"module.exit.bias": torch.zeros(3)}

    with pytest.raises(ModelError, match=r"exit\.bias twice"):
        imported(weights, tmp_path)


# --- The command ---


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run `classsr ARGUMENTS` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["classsr", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code if isinstance(caught.value.code, int) else 0


@pytest.mark.slow
def test_an_imported_model_enlarges_as_its_networks_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = whole("fsrcnn")
    for name in weights:
        if name.endswith("tail_conv.weight"):
            weights[name] /= 5  # keeps most of the result between black and white
        if name.endswith("tail_conv.bias"):
            weights[name].fill_(0.5)
    torch.save({"state_dict": weights}, tmp_path / "theirs.pth")
    image = np.random.default_rng(0).integers(0, 256, (32, 96, 3), np.uint8)
    image[:, :32] //= 8
    image[:, 32:64] = 240

    command = ("import", tmp_path / "theirs.pth", tmp_path / "model", "--name", "x", "--halo", "7")
    code = run(
        monkeypatch, *command
    )  # as far as FSRCNN looks: what its neighbours are run with does not matter
    costs = by_macs(open_model(tmp_path / "model").config)
    upscaler = Upscaler(str(tmp_path / "model"), backend="onnx", costs=costs)
    result = upscaler.upscale(image, route="argmax")

    told = capsys.readouterr().err
    assert code == 0
    assert "theirs.pth: ClassSR with 3 levels: fsrcnn-5, fsrcnn-6, fsrcnn-7, x4\n" in told
    assert "model: x, 3 levels\n" in told
    model = load_classsr(open_model(tmp_path / "model").path("model.safetensors"))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    padded = F.pad(x, (7, 7, 7, 7), mode="replicate")
    for tile in range(3):
        with torch.no_grad():
            probabilities = model.probabilities(x[..., 32 * tile : 32 * tile + 32])
            level = int(probabilities.argmax())
            window = padded[..., 32 * tile : 32 * tile + 32 + 14]
            sr = model.branches[level](window)[0, :, 28:-28, 28:-28]
        assert result.levels[0, tile] == level
        expected = (255 * sr).clamp(0, 255).round().permute(1, 2, 0).numpy()
        assert expected.std() > 5
        found = result.image[:, 128 * tile : 128 * tile + 128].astype(float)
        np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_an_imported_branch_is_a_model_with_one_level(
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(without_mean(drawn("carn")), tmp_path / "theirs.pth")
    (tmp_path / "hr").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "hr" / "a.png")
    folder = tmp_path / "model"

    codes = [
        run(monkeypatch, "import", tmp_path / "theirs.pth", folder),
        run(
            monkeypatch,
            "evaluate",
            "--hr",
            tmp_path / "hr",
            "--model",
            folder,
            "--backend",
            backend,
        ),
        run(
            monkeypatch,
            "upscale",
            tmp_path / "hr" / "a.png",
            "--model",
            folder,
            "--backend",
            backend,
        ),
    ]

    told = capsys.readouterr()
    assert codes == [0, 0, 0]
    assert "carn-8 (BatchNorm, mean outside), x4\n" in told.err
    assert "model: model, 1 level\n" in told.err
    assert "tiles per level 100 %" in told.err
    assert " 100 % " in told.out
    assert open_model(folder).config.classifier is None
    assert {path.name for path in folder.iterdir()} == {
        "branch-0.onnx",
        "config.json",
        "model.safetensors",
    }
    branch, spec = load_branch(folder / "model.safetensors")  # as the stages of training read it
    assert spec == BranchSpec("carn", 8, 4)
    assert not branch.training


def test_a_refused_file_ends_the_command_with_one_sentence_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    torch.save({"entry.weight": Malicious(trace)}, tmp_path / "bad.pth")

    code = run(monkeypatch, "import", tmp_path / "bad.pth", tmp_path / "model")

    told = capsys.readouterr().err
    assert code == ModelError.exit_code
    assert told.count("\n") == 1
    assert "which was not done" in told
    assert {path.name for path in tmp_path.iterdir()} == {"bad.pth"}
