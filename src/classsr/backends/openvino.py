"""OpenVINO: the default engine on a CPU. One dynamic-shape model per network."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties as props
from openvino.properties import hint

from classsr.backends.base import AHEAD, Choice, Floats, Network, Pending, Precision, failure
from classsr.errors import BackendError
from classsr.model import Model

TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}
NATIVE = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}  # as a processor's capabilities name them
OUT_OF_MEMORY = ("Failed to allocate", "can't alloc", "bad_alloc")
WAKE = 50  # ms after which Python looks whether Ctrl-C was pressed while a batch is run
# What a network keeps ready for shapes it has met; by default 5,000, and every one takes some 100 KiB: a folder of
# 900 small pictures, all of other sizes, went from 168 to 630 MiB. A picture has about ten shapes a level.
SHAPES = 100
# Kernels of all networks that oneDNN inside it keeps besides. Pictures have blocks of many sizes, each with kernels of
# its own, and making them anew takes time: with 128, pictures of 2,000 pixels that were run in turns by all routes took
# up to 1.4 times as long (docs/log.md, 2026-11-30). Those for AMX are large, though: 300 small pictures took 300 MiB in
# bf16 instead of 183.
KERNELS = 1024
AMX_KERNELS = 128
LONE_PIXEL = (
    3  # values in a batch of one pixel, for which bf16 convolutions are wrong in OpenVINO 2026.4
)


@cache
def _core() -> ov.Core:
    """Return the one Core of this process, which is never let go of.

    OpenVINO 2026.4 gives the thread a stack for signals and, when one of several Cores ends, may leave it on one that
    was freed: the next Ctrl-C would be a segmentation fault.
    """
    kernels = AMX_KERNELS if _has_amx() else KERNELS
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(kernels))  # read at first use
    core = ov.Core()
    with suppress(RuntimeError):  # a version that does not know it
        core.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": SHAPES})
    return core


def _has_amx() -> bool:
    """Whether the processor has AMX, as far as Linux tells."""
    with suppress(OSError):
        return "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return False


class OpenVINOBackend:
    """Runs ONNX graphs with OpenVINO on the CPU."""

    name = "openvino"
    version = ov.get_version()

    def __init__(self, *, precision: Choice, threads: int | None) -> None:
        self.threads = threads
        self._core = _core()
        self._settings = {
            hint.performance_mode(): hint.PerformanceMode.LATENCY,
            hint.num_requests(): 1,
        }
        if threads is not None:
            self._settings[props.inference_num_threads()] = threads
            if threads < (os.cpu_count() or 1):
                # Else OpenVINO binds them to the first processors, those of every other process, too.
                self._settings[hint.enable_cpu_pinning()] = False
        native = self._core.get_property("CPU", props.device.capabilities())
        if precision == "auto":
            precision = "bf16" if NATIVE["bf16"] in native else "f32"
        elif NATIVE[precision] not in native:
            raise BackendError(
                f"This processor has no {precision} arithmetic; use --precision f32."
            )
        self.precision: Precision = precision

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module, in f32; see `Backend.classifier`."""
        assert model.config.classifier is not None
        return self._load(model.path(model.config.classifier.file), "f32")

    def branch(self, model: Model, level: int) -> Network:
        """Load one branch; see `Backend.branch`."""
        found = model.config.levels[level]
        precision = self.precision if found.network != "bicubic" else "f32"
        return self._load(model.path(found.file), precision)

    def _load(self, path: Path, precision: Precision) -> Network:
        settings = self._settings | {hint.inference_precision(): TYPES[precision]}

        def compiled() -> ov.CompiledModel:
            try:
                graph = self._core.read_model(path)
                _leave_phases(graph)
                return self._core.compile_model(graph, "CPU", settings)
            except (RuntimeError, MemoryError) as exc:
                raise BackendError(f"OpenVINO cannot load {path} ({exc}).") from exc

        return OpenVINONetwork(compiled)


def _leave_phases(graph: ov.Model) -> None:
    """Let a graph end before its last PixelShuffle, if that is where it ends; see `Network`."""
    end = graph.get_results()[0].input(0)
    last = end.get_source_output().get_node()
    is_shuffle = last.get_type_name() == "DepthToSpace"
    if is_shuffle and last.get_attributes()["mode"] == "depth_first":
        end.replace_source_output(last.input_value(0))


class OpenVINONetwork:
    """A compiled model with several requests, so that one can be run while the result of another is used.

    After a failure it is compiled anew, and batches that were queued behind the one that failed are run again:
    OpenVINO 2026.4 keeps the weights of a layer for which memory ran out before they were arranged, and what is run
    with them is wrong without a word.
    """

    def __init__(self, compile_model: Callable[[], ov.CompiledModel]) -> None:
        self._compile = compile_model
        self._open()

    def _open(self) -> None:
        self._compiled = self._compile()
        self._alone = self._compiled.create_infer_request()  # disturbs none that is queued
        self._requests = [self._compiled.create_infer_request() for _ in range(1 + AHEAD)]
        self._queued = cycle(self._requests)
        self._failed = False

    def __call__(self, batch: Floats) -> Floats:
        """Run a batch and wait for it."""
        self._mend()
        return self._begin(self._alone, batch)()

    def submit(self, batch: Floats) -> Pending:
        """Begin with a batch; see `Queue.submit`."""
        self._mend()
        return self._begin(next(self._queued), batch)

    def cancel(self) -> None:
        """Stop before the next layer; see `Queue.cancel`."""
        for request in self._requests:
            request.cancel()
        for request in self._requests:
            with suppress(RuntimeError):  # that it was cancelled
                request.wait()

    def _mend(self) -> None:
        if self._failed:
            self.cancel()  # what is queued is run again
            self._compiled.release_memory()  # what the failed batch had got, as long as something refers to it
            self._open()

    def _begin(self, request: ov.InferRequest, batch: Floats) -> Pending:
        compiled = self._compiled
        lone = batch.size == LONE_PIXEL
        given = np.concatenate([batch, batch]) if lone else batch
        try:
            # OpenVINO 2026.4: infer() keeps silent about a failure and leaves the last result; wait() tells.
            request.start_async([given], share_inputs=True)
        except (RuntimeError, MemoryError) as exc:
            raise self._failure(batch, exc) from exc

        def result() -> Floats:
            if self._failed or compiled is not self._compiled:
                return self(batch)
            try:
                while not request.wait_for(WAKE):
                    pass
                request.wait()
            except (RuntimeError, MemoryError) as exc:
                raise self._failure(batch, exc) from exc
            values = np.asarray(request.get_output_tensor(0).data)
            return values[: len(given) - lone]

        return result

    def _failure(self, batch: Floats, exc: Exception) -> BackendError:
        self._failed = True
        return failure("OpenVINO", batch, exc, OUT_OF_MEMORY)
