"""What is installed and which models there are, told to people and to programs."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

import classsr
from classsr.about import find_models
from classsr.backends import BACKENDS
from classsr.errors import ModelError
from classsr.model import BUNDLED, DEFAULT_MODEL, bundled_models, find_model
from command_line import MODEL, CommandLine


def test_info_names_versions_backends_models_and_settings(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSSR_THREADS", "2")
    told = run("info").out

    assert told.startswith(f"classsr {classsr.__version__}, Python ")
    for name in (*BACKENDS, *bundled_models(), "PNG", "CLASSSR_THREADS=2"):
        assert name in told
    found = json.loads(run("info", "--json").out)
    assert [each["name"] for each in found["backends"]] == list(BACKENDS)
    assert found["backends"][0]["version"] is not None
    assert found["default_model"] == DEFAULT_MODEL


def test_info_says_how_a_missing_backend_is_installed(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "classsr.backends.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ended = run("info")

    assert ended.code == 0
    assert "pip install 'classsr[onnx]'" in ended.out


def test_models_are_listed_with_what_they_are(run: CommandLine) -> None:
    lines = run("models").out.splitlines()

    assert [re.split(r":| \(default", line)[0] for line in lines] == bundled_models()
    (default,) = [line for line in lines if "(default)" in line]
    for level in find_model(DEFAULT_MODEL).config.levels:
        assert level.label in default


def test_models_count_what_their_files_say() -> None:
    for each in find_models():
        config = find_model(each.name).config
        sizes = [(Path(each.folder) / file).stat().st_size for file in config.sha256]
        assert each.megabytes == pytest.approx(sum(sizes) / 1e6, abs=0.005)
        assert each.macs_per_pixel == tuple(level.macs_per_pixel for level in config.levels)
        assert each.scale == config.scale


def test_a_damaged_model_is_told(run: CommandLine, tmp_path: Path) -> None:
    shutil.copytree(BUNDLED / "bicubic", tmp_path / "mine")
    assert len(find_models([tmp_path / "mine"])) == len(bundled_models()) + 1
    (tmp_path / "mine" / "branch-0.onnx").write_bytes(b"damaged")

    with pytest.raises(ModelError, match="differs from its checksum"):
        find_models([tmp_path / "mine"])
    assert run("models", tmp_path / "mine").code == MODEL
