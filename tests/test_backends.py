"""Every backend computes what the plain float32 path of PyTorch computes, and says in our words why it cannot."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classsr.backends import BACKENDS, Backend, Network, Precision, open_backend
from classsr.backends.base import Floats
from classsr.errors import BackendError, UsageError
from classsr.model import DEFAULT_MODEL, Model, find_model

MODEL = find_model(DEFAULT_MODEL)
LEVELS = range(len(MODEL.config.levels))

# Of the largest value of the plain path. bf16 keeps 8 bits: one rounding is off by at most 0.4 %, and several layers
# add up; 0.013 was measured on random weights, less on trained ones.
TOLERANCE = {"f32": 1e-4, "bf16": 0.03}
PLAIN = "torch"
SETUPS: list[tuple[str, Precision]] = [
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("onnx", "f32"),
    ("torch", "bf16"),
]
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}

every_setup = pytest.mark.parametrize(("name", "precision"), SETUPS)
every_backend = pytest.mark.parametrize("name", BACKENDS)


@dataclass(frozen=True)
class Loaded:
    """The networks of the bundled model on one backend; results are copies, safe from the next call."""

    backend: Backend
    classifier: Network
    branches: list[Network]

    def probabilities(self, batch: Floats) -> Floats:
        return self.classifier(batch).copy()

    def enlarge(self, level: int, batch: Floats) -> Floats:
        return self.branches[level](batch).copy()


def load(name: str, precision: Precision) -> Loaded:
    """Open a backend once per session; skip where the processor lacks the precision."""
    if (name, precision) not in _loaded:
        try:
            backend = open_backend(name, precision=precision, threads=None)
        except BackendError as exc:
            if precision == "bf16":
                pytest.skip(str(exc))
            raise
        branches = [backend.branch(MODEL, level) for level in LEVELS]
        _loaded[name, precision] = Loaded(backend, backend.classifier(MODEL), branches)
    return _loaded[name, precision]


_loaded: dict[tuple[str, Precision], Loaded] = {}


def noise(shape: tuple[int, int, int], *, seed: int) -> Floats:
    """A batch (N, 3, H, W) in [0, 1]."""
    count, height, width = shape
    return np.random.default_rng(seed).random((count, 3, height, width), np.float32)


def pictures(count: int, side: int, *, seed: int) -> Floats:
    """Tiles from flat to rough, (count, 3, side, side): a constant and more and more noise."""
    roughness = np.linspace(0, 0.5, count, dtype=np.float32)[:, None, None, None]
    batch = 0.5 + roughness * (noise((count, side, side), seed=seed) - 0.5)
    return batch.astype(np.float32)


def distance(found: Floats, plain: Floats) -> float:
    """The largest difference, as a share of the largest value of the plain path."""
    assert found.shape == plain.shape
    assert found.dtype == np.float32
    return float(np.abs(found - plain).max() / np.abs(plain).max())


# --- Laws ---


@every_setup
@settings(max_examples=15)
@given(
    level=st.sampled_from(LEVELS),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 48), st.integers(1, 48)),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_branch_agrees_with_the_plain_path(
    name: str, precision: Precision, level: int, shape: tuple[int, int, int], seed: int
) -> None:
    batch = noise(shape, seed=seed)
    plain = load(PLAIN, "f32").enlarge(level, batch)

    found = load(name, precision).enlarge(level, batch)

    assert found.shape == (shape[0], 3, 4 * shape[1], 4 * shape[2])
    assert distance(found, plain) <= TOLERANCE[precision]


@every_setup
@settings(max_examples=10)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_the_classifier_agrees_with_the_plain_path_in_every_precision(
    name: str, precision: Precision, count: int, seed: int
) -> None:
    batch = pictures(count, MODEL.config.tile, seed=seed)
    plain = load(PLAIN, "f32").probabilities(batch)

    found = load(name, precision).probabilities(batch)

    assert distance(found, plain) <= TOLERANCE["f32"]


@every_setup
@settings(max_examples=10)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_probabilities_sum_to_one(name: str, precision: Precision, count: int, seed: int) -> None:
    batch = pictures(count, MODEL.config.tile, seed=seed)

    probabilities = load(name, precision).probabilities(batch)

    assert probabilities.shape == (count, len(LEVELS))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("name", "precision"), [*SETUPS, (PLAIN, "f32")])
@pytest.mark.parametrize("level", LEVELS)
def test_a_batch_of_many_equals_many_batches_of_one(
    name: str, precision: Precision, level: int
) -> None:
    loaded = load(name, precision)
    batch = noise((7, 20, 24), seed=level)

    together = loaded.enlarge(level, batch)

    alone = np.concatenate([loaded.enlarge(level, one[None]) for one in batch])
    assert distance(together, alone) <= TOLERANCE[precision]


@pytest.mark.parametrize(("name", "precision"), [*SETUPS, (PLAIN, "f32")])
def test_the_same_batch_gives_the_same_result_again(name: str, precision: Precision) -> None:
    loaded = load(name, precision)
    batch = noise((2, 33, 17), seed=0)

    first = loaded.enlarge(2, batch)
    loaded.enlarge(2, noise((5, 8, 40), seed=1))

    np.testing.assert_array_equal(loaded.enlarge(2, batch), first)


@every_backend
def test_a_network_leaves_its_input_alone(name: str) -> None:
    batch = noise((2, 16, 16), seed=0)
    before = batch.copy()

    load(name, "f32").enlarge(0, batch)

    np.testing.assert_array_equal(batch, before)


def test_the_branches_differ() -> None:
    batch = noise((1, 16, 16), seed=0)
    results = [load(PLAIN, "f32").enlarge(level, batch) for level in LEVELS]

    assert all(distance(results[k], results[k - 1]) > TOLERANCE["bf16"] for k in LEVELS)


# --- What a backend says of itself ---


def test_the_default_backend_is_openvino() -> None:
    assert next(iter(BACKENDS)) == "openvino"


@pytest.mark.parametrize(("name", "precision"), [*SETUPS, (PLAIN, "f32")])
def test_a_backend_tells_its_name_and_precision(name: str, precision: Precision) -> None:
    backend = load(name, precision).backend

    assert (backend.name, backend.precision) == (name, precision)


@pytest.mark.parametrize(
    ("capabilities", "expected"), [(["FP32", "BF16"], "bf16"), (["FP32"], "f32")]
)
def test_auto_takes_bf16_where_the_processor_has_it(
    capabilities: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvino.Core", processor_with(capabilities))

    backend = open_backend("openvino", precision="auto", threads=None)

    assert backend.precision == expected


def test_bf16_on_a_processor_without_it_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("openvino.Core", processor_with(["FP32"]))

    with pytest.raises(BackendError, match="--precision f32"):
        open_backend("openvino", precision="bf16", threads=None)


def processor_with(capabilities: list[str]) -> type:
    class Core:
        def get_property(self, device: str, name: object) -> list[str]:
            return capabilities

    return Core


def test_onnx_runtime_refuses_bf16_with_the_remedy() -> None:
    with pytest.raises(BackendError, match="--precision f32 or --backend openvino"):
        open_backend("onnx", precision="bf16", threads=None)


# --- Errors ---


def test_an_unknown_backend_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        open_backend("tensorflow", precision="auto", threads=None)

    for known in ("openvino", "onnx", "torch", "'tensorflow'"):
        assert known in str(caught.value)


@every_backend
def test_a_missing_runtime_is_answered_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, install = BACKENDS[name]
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, RUNTIMES[name], None)

    with pytest.raises(BackendError) as caught:
        open_backend(name, precision="auto", threads=None)

    assert str(caught.value).endswith(f"run: {install}")
    assert install.startswith("pip install ")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def overwritten(content: bytes) -> bytes:
    return b"\xff" * len(content)


def emptied(content: bytes) -> bytes:
    return content[:0]


@pytest.mark.parametrize("spoil", [cut, overwritten, emptied])
@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_a_broken_graph_is_named(
    name: str, spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    config = MODEL.config
    assert config.classifier is not None
    for file in (config.levels[0].file, config.classifier.file):
        (tmp_path / file).write_bytes(spoil(MODEL.path(file).read_bytes()))
    broken = Model(config, tmp_path)
    backend = load(name, "f32").backend

    with pytest.raises(BackendError, match=config.levels[0].file):
        backend.branch(broken, 0)
    with pytest.raises(BackendError, match=config.classifier.file):
        backend.classifier(broken)


@every_backend
def test_a_batch_that_is_no_rgb_is_refused_with_its_shape(name: str) -> None:
    network = load(name, "f32").branches[0]

    with pytest.raises(BackendError, match=r"\(1, 4, 8, 8\)"):
        network(np.zeros((1, 4, 8, 8), np.float32))
