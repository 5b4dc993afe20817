"""What does not fit into memory goes on in halves, with the same result; only a lone picture gives up."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classsr.backends import stream
from classsr.backends.base import AHEAD, Floats, Network, Pending
from classsr.backends.memory import spare_memory
from classsr.errors import BackendError, OutOfMemoryError
from fakes import repeat


@dataclass
class Small:
    """A network that takes at most so many LR pixels; like OpenVINO's, every result overwrites the last."""

    most: int
    tried: list[int] = field(default_factory=list)
    buffer: Floats | None = None

    def __call__(self, batch: Floats) -> Floats:
        self.tried.append(len(batch))
        if batch[:, 0].size > self.most:
            raise OutOfMemoryError(f"{len(batch)} do not fit")
        found = repeat(batch)
        if self.buffer is None or self.buffer.shape != found.shape:
            self.buffer = np.empty_like(found)
        self.buffer[:] = found
        return self.buffer


@dataclass
class SmallQueue:
    """The same on a device: results are asked for later."""

    most: int
    running: int = 0
    most_running: int = 0
    cancelled: int = 0

    def __call__(self, batch: Floats) -> Floats:
        return self.submit(batch)()

    def submit(self, batch: Floats) -> Pending:
        if batch[:, 0].size > self.most:
            raise OutOfMemoryError(f"{len(batch)} do not fit")
        self.running += 1
        self.most_running = max(self.running, self.most_running)

        def result() -> Floats:
            self.running -= 1
            return repeat(batch)

        return result

    def cancel(self) -> None:
        self.cancelled += 1
        self.running = 0


KINDS: list[Callable[[int], Small | SmallQueue]] = [Small, SmallQueue]
every_kind = pytest.mark.parametrize("kind", KINDS)


def numbers(count: int, side: int) -> Floats:
    return np.random.default_rng(count).random((count, 3, side, side), np.float32)


@every_kind
@given(count=st.integers(1, 40), side=st.integers(1, 4), most=st.integers(16, 200))
def test_halves_give_the_same_result(
    kind: Callable[[int], Small | SmallQueue], count: int, side: int, most: int
) -> None:
    batch = numbers(count, side)

    np.testing.assert_array_equal(spare_memory(kind(most))(batch), repeat(batch))


@every_kind
def test_a_lone_picture_that_does_not_fit_is_refused(
    kind: Callable[[int], Small | SmallQueue],
) -> None:
    with pytest.raises(OutOfMemoryError, match="1 do not fit"):
        spare_memory(kind(15))(numbers(8, 4))


def test_the_smaller_size_is_remembered_in_pixels() -> None:
    small = Small(most=64)
    network = spare_memory(small)

    network(numbers(16, 4))
    assert small.tried == [16, 1, 8, 4, 4, 4, 3]
    small.tried.clear()
    network(numbers(6, 4))
    network(numbers(20, 2))

    assert small.tried == [1, 4, 1, 1, 16, 3]


def test_what_fits_is_not_copied() -> None:
    small = Small(most=64)

    assert spare_memory(small)(numbers(4, 4)) is small.buffer


def test_other_failures_pass_through() -> None:
    def broken(batch: Floats) -> Floats:
        raise BackendError(f"{len(batch)} fail")

    with pytest.raises(BackendError, match="8 fail"):
        spare_memory(broken)(numbers(8, 2))


@every_kind
def test_a_stream_gives_every_result_in_turn(kind: Callable[[int], Small | SmallQueue]) -> None:
    batches = [numbers(count, 3) for count in (1, 9, 4, 4, 2)]

    network = spare_memory(kind(40))
    found = [part.copy() for part in stream((network, batch) for batch in batches)]

    for part, batch in zip(found, batches, strict=True):
        np.testing.assert_array_equal(part, repeat(batch))


def test_a_stream_keeps_a_device_busy_and_its_memory_bounded() -> None:
    queue = SmallQueue(most=1000)

    for n, _ in enumerate(stream([(queue, numbers(2, 2))] * 9)):
        assert queue.running == (1 if n < 8 else 0)

    assert (queue.running, queue.most_running) == (0, 1 + AHEAD)


def test_a_stream_goes_through_many_networks_in_order() -> None:
    networks: list[Network] = [
        Small(1000),
        SmallQueue(1000),
        SmallQueue(1000),
        repeat,
        SmallQueue(20),
    ]
    jobs = [(spare_memory(networks[n % 5]), numbers(1 + n % 4, 3)) for n in range(20)]

    for found, (_, batch) in zip(stream(jobs), jobs, strict=True):
        np.testing.assert_array_equal(found, repeat(batch))


def test_memory_may_run_out_when_a_result_is_asked_for() -> None:
    class Late(SmallQueue):
        def submit(self, batch: Floats) -> Pending:
            def result() -> Floats:
                if batch[:, 0].size > self.most:
                    raise OutOfMemoryError(f"{len(batch)} do not fit")
                return repeat(batch)

            return result

    network = spare_memory(Late(40))
    batches = [numbers(count, 3) for count in (9, 1, 7, 4)]

    found = [part.copy() for part in stream((network, batch) for batch in batches)]

    for part, batch in zip(found, batches, strict=True):
        np.testing.assert_array_equal(part, repeat(batch))


# --- Giving up ---


def test_what_was_begun_is_given_up_when_results_are_no_longer_wanted() -> None:
    first, second = SmallQueue(1000), SmallQueue(1000)
    jobs = [(spare_memory(queue), numbers(1, 3)) for queue in (first, second, first, second)]

    with closing(stream(jobs)) as found:
        next(found)

    assert first.cancelled + second.cancelled >= 1
    assert first.running == second.running == 0


def test_what_was_begun_is_given_up_when_a_batch_fails() -> None:
    class Failing(SmallQueue):
        def submit(self, batch: Floats) -> Pending:
            def result() -> Floats:
                raise KeyboardInterrupt

            return result

    failing, other = Failing(1000), SmallQueue(1000)

    with pytest.raises(KeyboardInterrupt):
        list(stream([(failing, numbers(1, 3)), (other, numbers(1, 3))]))

    assert (failing.cancelled, other.cancelled, other.running) == (1, 1, 0)


def test_nothing_is_given_up_that_came_to_its_end() -> None:
    queue = SmallQueue(1000)

    with closing(stream([(queue, numbers(1, 3))] * 5)) as found:
        for _ in range(5):
            next(found)

    assert queue.cancelled == 0


# --- Real runtimes with too little memory ---

# glibc may give a thread an arena of its own, of 64 MiB of address space; without, the limit is what it says.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}

LIMITED = """
import json, logging, resource, sys
import numpy as np
from pathlib import Path
from classsr.backends import open_backend
from classsr.model import find_model

notes = []
handler = logging.Handler()
handler.emit = lambda record: notes.append(record.getMessage())
logging.getLogger("classsr").addHandler(handler)
logging.getLogger("classsr").setLevel(logging.INFO)
network = open_backend(sys.argv[1], precision="f32", threads=1).branch(find_model("compact-x4"), -1)
batch = np.random.default_rng(0).random((64, 3, 64, 64), np.float32)
plain = np.concatenate([network(one[None]).copy() for one in batch[-8:]])
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
plenty = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (held + (170 << 20), plenty[1]))
found = network(batch)
resource.setrlimit(resource.RLIMIT_AS, plenty)
print(json.dumps({"notes": notes, "difference": float(np.abs(found[-8:] - plain).max())}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
@pytest.mark.parametrize("name", ["openvino", "onnx", "torch"])
def test_a_runtime_out_of_memory_goes_on_with_smaller_batches(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, name],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ONE_ARENA,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["notes"][0] == "out of memory with 64 windows at once; going on with half"
    assert told["difference"] <= 1e-5


FAILED_FIRST = """
import resource, sys
import numpy as np
from pathlib import Path
from classsr.backends import open_backend
from classsr.errors import OutOfMemoryError
from classsr.model import find_model

backend, model = open_backend(sys.argv[1], precision="f32", threads=1), find_model(sys.argv[2])
hardest = len(model.config.levels) - 1
random = np.random.default_rng(0)
large, small = (random.random((1, 3, side, side), np.float32) for side in (1400, 48))
plain = backend.branch(model, hardest)(small).copy()
network = backend.branch(model, hardest)
held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
plenty = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (held + (300 << 20), plenty[1]))
pending = [network.submit(each) for each in (large, small)] if hasattr(network, "submit") else []
try:
    pending[0]() if pending else network(large)
    print("large fits")
except OutOfMemoryError:
    pass
resource.setrlimit(resource.RLIMIT_DATA, plenty)
for result in (*pending[1:], lambda: network(small), lambda: network(small)):
    print(np.abs(result() - plain).max())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
@pytest.mark.parametrize("model", ["fsrcnn-x4", "carn-x4", "compact-x4"])
@pytest.mark.parametrize("name", ["openvino", "onnx", "torch"])
def test_a_network_whose_first_batch_did_not_fit_is_right_afterwards(name: str, model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILED_FIRST, name, model],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    differences = done.stdout.split("\n")[:-1]
    assert len(differences) == (3 if name == "openvino" else 2)
    assert all(float(each) <= 1e-5 for each in differences)
