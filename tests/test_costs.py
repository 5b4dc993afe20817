"""Costs are measured once, remembered per machine and model, and a broken cache costs nothing but time."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classsr.backends import open_backend
from classsr.backends.base import Floats
from classsr.costs import by_macs, cache_folder, costs_on_this_machine, measure
from classsr.model import Model, find_model
from classsr.plan import Cost
from fakes import FakeBackend, repeat

MODEL = find_model("fsrcnn-x4")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("CLASSSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def slow(batch: Floats, level: int) -> Floats:
    """A network whose harder levels sleep longer, by the pixel."""
    time.sleep((level + 1) * 2e-7 * batch.shape[0] * batch.shape[2] * batch.shape[3])
    return repeat(batch)


def test_harder_levels_cost_what_they_take() -> None:
    costs = measure(FakeBackend(slow), MODEL)

    window = [cost.window(128, 128) for cost in costs.levels]
    for level, found in enumerate(window):
        halo = MODEL.config.levels[level].halo
        assert found > (level + 1) * 2e-7 * (128 + 2 * halo) ** 2
    assert [cost.halo for cost in costs.levels] == [level.halo for level in MODEL.config.levels]
    assert window == sorted(window)
    assert costs.unit == "s"


def test_the_real_engine_is_measured_in_positive_seconds() -> None:
    started = time.perf_counter()

    costs = measure(open_backend("openvino", precision="auto", threads=None), MODEL)

    spent = time.perf_counter() - started
    assert 0 < costs.classifier < spent
    assert all(0 < cost.window(32, 32) < spent for cost in costs.levels)


def test_costs_are_measured_once(cache: Path) -> None:
    first, second = FakeBackend(), FakeBackend()

    found = costs_on_this_machine(first, MODEL)

    assert costs_on_this_machine(second, MODEL) == found
    assert first.loaded
    assert not second.loaded
    assert (cache / "costs.json").is_file()


@pytest.mark.parametrize("change", ["threads", "precision", "model", "version"])
def test_another_setting_is_measured_anew(change: str) -> None:
    costs_on_this_machine(FakeBackend(), MODEL)
    backend, model = FakeBackend(), MODEL
    if change == "threads":
        backend.threads = 7
    elif change == "precision":
        backend.precision = "bf16"
    elif change == "version":
        backend.version = "new"
    else:
        other = {**MODEL.config.sha256, "branch-0.onnx": "0" * 64}
        model = Model(replace(MODEL.config, sha256=other), MODEL.folder)

    costs_on_this_machine(backend, model)

    assert backend.loaded


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"a": 1}', "null"], ids=["empty", "list", "cut", "other", "null"]
)
def test_a_cache_that_makes_no_sense_is_written_anew(cache: Path, content: str) -> None:
    cache.mkdir()
    (cache / "costs.json").write_text(content)

    found = costs_on_this_machine(FakeBackend(), MODEL)

    assert costs_on_this_machine(FakeBackend(), MODEL) == found
    assert json.loads((cache / "costs.json").read_text())


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CLASSSR_CACHE", str(tmp_path / "file" / "cache"))

    assert costs_on_this_machine(FakeBackend(), MODEL).levels


def test_the_cache_lies_in_the_user_s_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLASSSR_CACHE")

    assert cache_folder().name == "classsr" or "classsr" in cache_folder().parts


def test_multiply_accumulates_are_the_same_everywhere() -> None:
    costs = by_macs(MODEL.config)

    assert costs.unit == "MACs"
    assert costs.levels[2] == Cost(24_336, MODEL.config.levels[2].halo)
    assert costs.classifier == 3_801_184
    alone = replace(MODEL.config, classifier=None)
    assert by_macs(alone).classifier == 0


def test_costs_are_rounded() -> None:
    for cost in measure(FakeBackend(slow), MODEL).levels:
        assert cost.per_pixel == float(np.format_float_scientific(cost.per_pixel, precision=1))
