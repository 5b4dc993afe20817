"""Every backend computes what the plain float32 path of PyTorch computes, and says in our words why it cannot."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from branches import SHALLOW, randomise, small_branch, small_spec
from classsr import parity
from classsr.backends import BACKENDS, Backend, Choice, Network, Precision, open_backend, stream
from classsr.backends.base import Floats, Queue
from classsr.backends.pytorch import DeviceNetwork, choose_precision
from classsr.checkpoint import load_networks, save_branch
from classsr.errors import BackendError, UsageError
from classsr.export import export_model
from classsr.model import DEFAULT_MODEL, Level, Model, find_model
from classsr.networks import BRANCHES, as_branch
from classsr.phases import shuffled

MODEL = find_model(DEFAULT_MODEL)
JUDGES = find_model("fsrcnn-x4")  # whose Class-Module gives probabilities
LEVELS = range(len(MODEL.config.levels))

# Of the largest value of the plain path. bf16 keeps 8 bits: one rounding is off by at most 0.4 %, and several layers
# add up; 0.013 was measured on random weights, less on trained ones. f16 keeps 11 bits, an eighth of that.
TOLERANCE = {"f32": 1e-4, "bf16": 0.03, "f16": 0.004}
# Of a level of integers, in any precision, of the root of the mean square: twice what its export allows, since a small
# window has few values. The last bit before a rounding decides where to, so that single values differ more.
INTEGERS = 2 * parity.QUANTIZED
PLAIN = "torch"
SETUPS: list[tuple[str, Precision]] = [
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("onnx", "f32"),
    ("torch", "bf16"),
    ("openvino", "f16"),
    ("torch", "f16"),
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

    def judge(self, batch: Floats) -> Floats:
        return self.classifier(batch).copy()

    def enlarge(self, level: int, batch: Floats) -> Floats:
        return shuffled(self.branches[level](batch).copy())


def load(name: str, precision: Precision) -> Loaded:
    """Open a backend once per session; skip where the processor lacks the precision."""
    if (name, precision) not in _loaded:
        try:
            backend = open_backend(name, precision=precision, threads=None)
        except BackendError as exc:
            if precision != "f32":
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


def agree(found: Floats, plain: Floats, level: Level, precision: Precision) -> bool:
    """Whether a branch computes what the plain path does, as near as its precision allows."""
    if not level.quantized:
        return distance(found, plain) <= TOLERANCE[precision]
    return float(np.sqrt(np.square(found - plain).mean()) / np.abs(plain).max()) <= INTEGERS


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
    assert agree(found, plain, MODEL.config.levels[level], precision)


@every_setup
@settings(max_examples=10)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_the_classifier_agrees_with_the_plain_path_in_every_precision(
    name: str, precision: Precision, count: int, seed: int
) -> None:
    batch = pictures(count, MODEL.config.tile, seed=seed)
    plain = load(PLAIN, "f32").judge(batch)

    found = load(name, precision).judge(batch)

    assert distance(found, plain) <= TOLERANCE["f32"]


@every_setup
@settings(max_examples=10)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_probabilities_sum_to_one(name: str, precision: Precision, count: int, seed: int) -> None:
    load(name, precision)  # or skip
    judge = open_backend(name, precision=precision, threads=None).classifier(JUDGES)

    probabilities = judge(pictures(count, JUDGES.config.tile, seed=seed))

    assert probabilities.shape == (count, len(JUDGES.config.levels))
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
    assert agree(together, alone, MODEL.config.levels[level], precision)


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


# --- Every kind of branch ---


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Model]]:
    """Release a small branch of any kind with random weights, once."""
    made: dict[str, Model] = {}

    def release(network: str) -> Model:
        if network not in made:
            folder = tmp_path_factory.mktemp(network)
            spec, branch = small_spec(network, 4), small_branch(network, 4)
            randomise(branch)
            save_branch(branch, spec, folder / "branch.safetensors")
            made[network] = export_model(
                folder / "branch.safetensors", folder, name=network, tile=16, halos=[4]
            )
        return made[network]

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        for network, kind in SHALLOW.items():
            patch.setitem(BRANCHES, network, kind)
        yield release


@pytest.mark.slow  # exports a graph of every kind
@every_setup
@pytest.mark.parametrize("network", sorted(BRANCHES))
def test_every_kind_of_branch_agrees_with_the_plain_path(
    kinds: Callable[[str], Model], network: str, name: str, precision: Precision
) -> None:
    model = kinds(network)
    backend = load(name, precision).backend
    for shape in ((3, 16, 16), (1, 1, 1), (2, 9, 31)):
        batch = noise(shape, seed=shape[0])
        plain = load(PLAIN, "f32").backend.branch(model, 0)(batch).copy()

        found = shuffled(backend.branch(model, 0)(batch))

        assert agree(found, plain, model.config.levels[0], precision)


@pytest.mark.timing
def test_openvino_stops_before_the_next_layer_and_goes_on_later() -> None:
    network = load("openvino", "f32").backend.branch(find_model("compact-x4"), -1)
    assert isinstance(network, Queue)
    large = noise((4, 256, 256), seed=1)
    network.submit(large)()
    started = time.perf_counter()
    network.submit(large)()
    whole = time.perf_counter() - started

    for _ in range(3):  # the best of several tries, since others may use the processor
        network.submit(large)
        network.submit(large)
        started = time.perf_counter()
        network.cancel()
        stopped = time.perf_counter() - started
        if stopped < whole / 2:
            break
    else:
        pytest.fail(f"Stopping took {stopped:.2f} s, two batches take {2 * whole:.2f} s.")

    small = noise((2, 9, 31), seed=2)
    expected = load("onnx", "f32").backend.branch(find_model("compact-x4"), -1)(small)
    assert distance(shuffled(network.submit(small)()), expected) <= TOLERANCE["f32"]


# --- A device of its own, for which the processor stands in where there is none ---

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_a_queue_agrees_with_the_plain_path(precision: Precision) -> None:
    branch = load_networks(MODEL.path(MODEL.config.weights)).branches[1]
    network = DeviceNetwork(as_branch(branch).fold(), DEVICE, precision)
    batches = [noise((count, 12, 20), seed=count) for count in (3, 1, 5, 2, 2, 4)]

    found = stream((network, batch) for batch in batches)

    for sr, batch in zip(found, batches, strict=True):
        assert distance(sr, load(PLAIN, "f32").enlarge(1, batch)) <= TOLERANCE[precision]


def test_a_queue_refuses_a_batch_that_is_no_rgb() -> None:
    branch = load_networks(MODEL.path(MODEL.config.weights)).branches[1]
    network = DeviceNetwork(as_branch(branch).fold(), DEVICE, "f32")

    with pytest.raises(BackendError, match=r"\(1, 4, 8, 8\)"):
        network.submit(np.zeros((1, 4, 8, 8), np.float32))


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
def test_submitting_waits_for_nothing() -> None:
    branch = load_networks(MODEL.path(MODEL.config.weights)).branches[0]
    network = DeviceNetwork(as_branch(branch).fold(), DEVICE, "f32")
    network(noise((8, 40, 40), seed=0))  # the first one may set up the GPU

    torch.cuda.set_sync_debug_mode("error")
    try:
        results = [network.submit(noise((8, 40, 40), seed=seed)) for seed in range(4)]
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert all(np.isfinite(result()).all() for result in results)


# --- What a backend says of itself ---


def test_the_default_backend_is_openvino() -> None:
    assert next(iter(BACKENDS)) == "openvino"


@pytest.mark.parametrize(("name", "precision"), [*SETUPS, (PLAIN, "f32")])
def test_a_backend_tells_its_name_and_precision(name: str, precision: Precision) -> None:
    backend = load(name, precision).backend

    assert (backend.name, backend.precision) == (name, precision)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [(["FP32", "BF16"], "bf16"), (["FP32"], "f32"), (["FP32", "FP16"], "f32")],
)
def test_auto_takes_bf16_where_the_processor_has_it(
    capabilities: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classsr.backends.openvino._core", processor_with(capabilities))

    backend = open_backend("openvino", precision="auto", threads=None)

    assert backend.precision == expected


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_precision_that_the_processor_lacks_is_refused_with_the_remedy(
    precision: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classsr.backends.openvino._core", processor_with(["FP32"]))

    with pytest.raises(BackendError, match=f"no {precision} arithmetic; use --precision f32"):
        open_backend("openvino", precision=precision, threads=None)


def processor_with(capabilities: list[str]) -> type:
    class Core:
        def get_property(self, device: str, name: object) -> list[str]:
            return capabilities

    return Core


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_onnx_runtime_refuses_half_precision_with_the_remedy(precision: Choice) -> None:
    with pytest.raises(BackendError, match="--precision f32 or --backend openvino"):
        open_backend("onnx", precision=precision, threads=None)


@pytest.mark.parametrize(
    ("wanted", "device", "has_bf16", "expected"),
    [
        ("auto", "cpu", True, "f32"),
        ("bf16", "cpu", True, "bf16"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "f16"),
        ("f16", "cuda", True, "f16"),
        ("f32", "cuda", True, "f32"),
    ],
)
def test_torch_takes_half_precision_by_itself_on_cuda_only(
    wanted: Choice,
    device: str,
    has_bf16: bool,
    expected: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: has_bf16)

    assert choose_precision(wanted, torch.device(device)) == expected


def test_torch_refuses_f16_on_the_processor_with_the_remedy() -> None:
    with pytest.raises(BackendError, match="f16 on CUDA only; use --precision f32 or bf16"):
        choose_precision("f16", torch.device("cpu"))


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
    network = load(name, "f32").branches[1]

    with pytest.raises(BackendError, match=r"\(1, 4, 8, 8\)"):
        network(np.zeros((1, 4, 8, 8), np.float32))


DROPPED = """
import gc, os, signal, time
from classsr.backends import open_backend
from classsr.model import find_model

signal.signal(signal.SIGINT, signal.default_int_handler)
model = find_model("fsrcnn-x4")
backends = [open_backend("openvino", precision="f32", threads=1) for _ in range(3)]
networks = [backend.branch(model, 0) for backend in backends]
for first in (1, 0, 0):
    del backends[first], networks[first]
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_ctrl_c_interrupts_after_engines_were_let_go_of_in_any_order() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "interrupted\n")


PLACES = """
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
import numpy as np
from classsr.backends import open_backend
from classsr.model import find_model

network = open_backend(sys.argv[1], precision="f32", threads=1).branch(find_model("compact-x4"), -1)
free, looks, bound = os.sched_getaffinity(0), 0, set()
with ThreadPoolExecutor(1) as pool:
    running = pool.submit(network, np.zeros((1, 3, 256, 256), np.float32))
    while not running.done():
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # a thread that has ended
                if os.sched_getaffinity(int(task.name)) != free:
                    bound.add(task.name)
                looks += 1
print(looks > 0, len(bound))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux where threads may run")
@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor leaves no choice")
@every_backend
def test_no_thread_is_bound_to_a_processor_that_other_processes_use_too(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLACES, name], capture_output=True, text=True, check=True
    )

    assert done.stdout == "True 0\n"
