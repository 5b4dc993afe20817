"""What is saved is what is loaded, and nothing else passes for a checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from branches import randomise, small_spec
from classsr.checkpoint import (
    load_branch,
    load_classsr,
    load_networks,
    save_branch,
    save_classsr,
)
from classsr.errors import ModelError
from classsr.networks import BRANCHES, BranchSpec, ClassSR, build_branch

SPEC = BranchSpec("fsrcnn", 3, 4)
LOADERS: list[Callable[[Path], object]] = [load_branch, load_classsr, load_networks]


def small_classsr() -> ClassSR:
    return ClassSR([BranchSpec("fsrcnn", width, 4) for width in (3, 4)])


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    theirs = expected.state_dict()
    assert found.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("network", sorted(BRANCHES))
def test_a_loaded_branch_is_the_saved_one(tmp_path: Path, network: str) -> None:
    sizes = small_spec(network, 4)
    branch = build_branch(sizes)
    randomise(branch)
    save_branch(branch, sizes, tmp_path / "branch.safetensors")

    loaded, spec = load_branch(tmp_path / "branch.safetensors")

    assert spec == sizes
    assert_same_weights(loaded, branch)


def test_a_loaded_classsr_is_the_saved_one(tmp_path: Path) -> None:
    model = small_classsr()
    save_classsr(model, tmp_path / "model.safetensors")

    loaded = load_classsr(tmp_path / "model.safetensors")

    assert loaded.specs == model.specs
    assert_same_weights(loaded, model)


def test_what_is_loaded_is_ready_to_run(tmp_path: Path) -> None:
    save_branch(build_branch(SPEC).train(), SPEC, tmp_path / "branch.safetensors")
    save_classsr(small_classsr().train(), tmp_path / "model.safetensors")

    branch, _ = load_branch(tmp_path / "branch.safetensors")
    model = load_classsr(tmp_path / "model.safetensors")

    assert not any(layer.training for layer in (*branch.modules(), *model.modules()))


def test_the_layout_in_memory_is_not_saved(tmp_path: Path) -> None:
    branch = build_branch(SPEC)
    save_branch(branch, SPEC, tmp_path / "plain.safetensors")

    branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_branch(branch, SPEC, tmp_path / "last.safetensors")

    plain, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("plain", "last"))
    assert all(torch.equal(plain[name], last[name]) for name in plain)


def test_networks_are_read_from_either_kind(tmp_path: Path) -> None:
    branch, model = build_branch(SPEC), small_classsr()
    save_branch(branch, SPEC, tmp_path / "branch.safetensors")
    save_classsr(model, tmp_path / "model.safetensors")

    alone = load_networks(tmp_path / "branch.safetensors")
    whole = load_networks(tmp_path / "model.safetensors")

    assert (alone.specs, alone.classifier) == ((SPEC,), None)
    assert_same_weights(alone.branches[0], branch)
    assert whole.specs == model.specs
    assert whole.classifier is not None
    assert_same_weights(whole.classifier, model.classifier)
    for found, expected in zip(whole.branches, model.branches, strict=True):
        assert_same_weights(found, expected)
    assert not any(network.training for network in (*alone.branches, *whole.branches))


# --- What is no checkpoint ---


@pytest.mark.parametrize("load", LOADERS)
def test_a_missing_checkpoint_is_named(tmp_path: Path, load: Callable[[Path], object]) -> None:
    with pytest.raises(ModelError, match=r"no checkpoint at .*gone\.safetensors"):
        load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("content", [b"", b"no safetensors file", b"\xff" * 100])
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, load: Callable[[Path], object], content: bytes
) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)

    with pytest.raises(ModelError, match="damaged or no safetensors file"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "branch.safetensors"
    save_branch(build_branch(SPEC), SPEC, path)
    content = path.read_bytes()

    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(ModelError, match="damaged"):
        load_branch(path)


def test_a_checkpoint_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    save_branch(build_branch(SPEC), SPEC, tmp_path / "branch.safetensors")
    save_classsr(small_classsr(), tmp_path / "model.safetensors")

    with pytest.raises(ModelError, match=r"Expected a classsr checkpoint .* holds 'branch'"):
        load_classsr(tmp_path / "branch.safetensors")
    with pytest.raises(ModelError, match=r"Expected a branch checkpoint .* holds 'classsr'"):
        load_branch(tmp_path / "model.safetensors")


@pytest.mark.parametrize("load", LOADERS)
def test_anothers_safetensors_file_is_refused(
    tmp_path: Path, load: Callable[[Path], object]
) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")

    with pytest.raises(ModelError, match="holds None"):
        load(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_their_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "branch.safetensors"
    save_branch(build_branch(SPEC), BranchSpec("fsrcnn", 5, 4), path)

    with pytest.raises(ModelError):
        load_branch(path)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    branch = build_branch(SPEC)

    for name in "abcdefgh":
        save_branch(branch, SPEC, tmp_path / name)

    assert len({(tmp_path / name).read_bytes() for name in "abcdefgh"}) == 1


def test_a_checkpoint_without_sizes_is_refused(tmp_path: Path) -> None:
    content = {"classsr": '{"kind": "branch"}'}
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors", content)

    with pytest.raises(ModelError):
        load_branch(tmp_path / "a.safetensors")


# --- Complete or not at all ---


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "branch.safetensors"
    old, new = build_branch(SPEC), build_branch(SPEC)
    save_branch(old, SPEC, path)

    def interrupt(_file: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(error):
        save_branch(new, SPEC, path)

    assert_same_weights(load_branch(path)[0], old)


def test_an_interrupted_first_save_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_classsr(small_classsr(), tmp_path / "model.safetensors")

    assert not (tmp_path / "model.safetensors").exists()


def test_saving_leaves_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        save_branch(build_branch(SPEC), SPEC, tmp_path / "branch.safetensors")

    assert [path.name for path in tmp_path.iterdir()] == ["branch.safetensors"]
