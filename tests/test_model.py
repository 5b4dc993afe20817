"""A released model opens only when it is complete, unchanged and of a known format; else the error names the remedy."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from classsr.errors import ModelError
from classsr.model import (
    BUNDLED,
    DEFAULT_MODEL,
    bundled_models,
    default_model,
    find_model,
    open_model,
    sha256,
    write_config,
)

FILES = ("classifier.onnx", "branch-0.onnx", "branch-1.onnx", "branch-2.onnx", "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default model that may be spoiled."""
    return Path(shutil.copytree(BUNDLED / DEFAULT_MODEL, tmp_path / "released"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a config.json."""
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


# --- Models that open ---


def test_the_default_model_is_among_the_bundled_ones() -> None:
    assert DEFAULT_MODEL in bundled_models()
    assert bundled_models() == sorted(bundled_models())


@pytest.mark.parametrize(
    ("scale", "enlarges_by"), [(None, 4), (4.0, 4), (2.01, 4), (2.0, 2), (1.0, 2)]
)
def test_the_default_model_is_the_smallest_that_enlarges_enough(
    scale: float | None, enlarges_by: int
) -> None:
    assert find_model(default_model(scale)).config.scale == enlarges_by


@pytest.mark.parametrize("name", bundled_models())
def test_every_bundled_model_opens_and_verifies(name: str) -> None:
    model = find_model(name)

    config = model.config
    needed = {config.weights, *(level.file for level in config.levels)}
    if len(config.levels) > 1:
        assert config.classifier is not None
        needed.add(config.classifier.file)
    assert needed <= set(config.sha256)
    assert all(sha256(model.path(file)) == digest for file, digest in config.sha256.items())


def test_a_folder_is_found_as_well_as_a_name(folder: Path) -> None:
    by_name, by_folder = find_model(DEFAULT_MODEL), find_model(str(folder))

    assert by_folder.config == by_name.config
    assert by_folder.folder == folder


def test_a_bundled_name_wins_over_a_folder_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / DEFAULT_MODEL).mkdir()
    monkeypatch.chdir(tmp_path)

    assert find_model(DEFAULT_MODEL).folder == BUNDLED / DEFAULT_MODEL


def test_opening_undoes_writing(folder: Path) -> None:
    config = replace(open_model(folder).config, name="other", tile=48)

    write_config(config, folder)

    assert open_model(folder).config == config


def test_a_model_with_one_level_has_no_classifier(folder: Path) -> None:
    config = open_model(folder).config
    alone = replace(config, classifier=None, levels=config.levels[-1:])

    write_config(alone, folder)

    assert open_model(folder).config == alone


def test_the_fsrcnn_model_is_as_large_as_the_design_says() -> None:
    config = find_model("fsrcnn-x4").config

    # DESIGN.md, section 1: parameters, and MFLOPs (two per multiply-accumulate) of a 32x32 patch.
    assert [level.parameters for level in config.levels] == [10_755, 17_635, 24_515]
    per_patch = [2 * 32 * 32 * level.macs_per_pixel / 1e6 for level in config.levels]
    assert per_patch == pytest.approx([21.8, 35.8, 49.8], abs=0.05)
    assert config.classifier is not None
    assert config.classifier.parameters == 60_035
    assert 2 * config.classifier.macs / 1e6 == pytest.approx(7.6, abs=0.05)
    assert [level.label for level in config.levels] == ["fsrcnn-16", "fsrcnn-36", "fsrcnn-56"]


def test_the_checksum_is_the_one_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1

    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected


# --- Models that do not ---


@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("file", FILES)
def test_one_changed_bit_is_found(folder: Path, file: str, position: int) -> None:
    flip_byte(folder / file, position)

    with pytest.raises(ModelError, match=rf"{file} differs .* export the model again"):
        open_model(folder)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()

    with pytest.raises(ModelError, match=rf"lacks {file}; copy or export it again"):
        open_model(folder)


@pytest.mark.parametrize("found", [0, 2, 4, "3", None])
def test_an_unknown_format_asks_for_an_update(folder: Path, found: object) -> None:
    rewrite(folder, lambda content: content.update(format=found))

    with pytest.raises(ModelError, match=rf"format 3 .* got {found!r}; update classsr"):
        open_model(folder)


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json cannot be read") as caught:
        find_model(str(tmp_path))

    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'"model"', b"null"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)

    with pytest.raises(ModelError) as caught:
        open_model(folder)

    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.pop("tile"), "tile"),
        (lambda content: content.pop("levels"), "levels"),
        (lambda content: content.update(shape="round"), "shape"),
        (lambda content: content["levels"][1].pop("width"), "width"),
        (lambda content: content["classifier"].update(colour="blue"), "colour"),
        (lambda content: content.update(levels=3), "int"),
    ],
)
def test_a_missing_or_unknown_field_is_named(
    folder: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    rewrite(folder, change)

    with pytest.raises(ModelError, match=told) as caught:
        open_model(folder)

    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", ["{", '{"format": 3}'])
def test_a_damaged_config_is_answered_with_the_remedy(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="utf-8")

    with pytest.raises(ModelError, match=r"copy or export the model again"):
        open_model(folder)


@pytest.mark.parametrize("name", ["fsrcnn", "FSRCNN-X4", "no/such/folder"])
def test_an_unknown_model_is_answered_with_the_known_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelError) as caught:
        find_model(name)

    assert DEFAULT_MODEL in str(caught.value)
