"""What the measurements ran on, how fast it multiplies matrices, and how jobs take turns on it."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties as props
import torch
from openvino import opset13 as ops
from openvino.properties import hint

import classsr

PACKAGES = ("openvino", "onnxruntime", "torch", "numpy", "pyvips-binary")
GEMM_SIDES = (1024, 2048)  # of the square matrices; the best counts
GEMM_SECONDS = 0.7  # spent on each
OPENVINO_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}
TORCH_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def describe() -> str:
    """Say on what this runs: processor, cores, load, commit, versions, date."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0].partition(":")[2].strip() if models else processor
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = [f"classsr {classsr.__version__}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} (not installed)")
    return (
        f"{processor}, {os.cpu_count()} cores, load {load} before the start; commit {commit()}; "
        f"{', '.join(versions)}; {datetime.now(UTC):%Y-%m-%d}."
    )


def commit() -> str:
    """Name the commit of this checkout, and whether tracked files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def limit_memory() -> None:
    """Let this process and its children allocate only what is free now, on Linux: a runtime that gets no more says so.

    Without it the system ends the whole process.
    """
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        import resource  # only where there is one

        (line,) = (each for each in meminfo.read_text().splitlines() if "MemAvailable" in each)
        free = int(line.split()[1]) * 1024
        resource.setrlimit(
            resource.RLIMIT_DATA, (free, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


def take_turns(jobs: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Run jobs in turn, every second round backwards; return the seconds of every run. Each should be warm."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats):
        for name in list(jobs) if turn % 2 == 0 else reversed(list(jobs)):
            started = time.perf_counter()
            jobs[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of every job's seconds."""
    return {name: statistics.median(each) for name, each in seconds.items()}


def gemm_peak(precision: str, *, threads: int | None) -> tuple[float, str]:
    """Multiply square matrices with OpenVINO and with torch, for some seconds in all.

    Args:
        precision: f32 or bf16.
        threads: processor threads; all by default.

    Returns:
        The best of all, in GFLOP/s, and what reached it.

    """
    best, by = 0.0, ""
    for side in GEMM_SIDES:
        jobs = {
            "OpenVINO": _openvino_gemm(side, precision, threads),
            "torch": _torch_gemm(side, precision, threads),
        }
        for name, multiply in jobs.items():
            multiply()
            until = time.perf_counter() + GEMM_SECONDS
            while True:
                started = time.perf_counter()
                multiply()
                done = time.perf_counter()
                speed = 2 * side**3 / (done - started) / 1e9
                if speed > best:
                    best, by = speed, f"{name}, {side} x {side}"
                if done > until:
                    break
    return best, by


def _openvino_gemm(side: int, precision: str, threads: int | None) -> Callable[[], object]:
    values = np.random.default_rng(0).standard_normal((side, side), np.float32)
    given = ops.parameter([side, side], np.float32)
    model = ov.Model([ops.matmul(given, ops.constant(values), False, False)], [given])
    settings = {
        hint.performance_mode(): hint.PerformanceMode.LATENCY,
        hint.inference_precision(): OPENVINO_TYPES[precision],
    }
    if threads is not None:
        settings[props.inference_num_threads()] = threads
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def multiply() -> None:
        request.start_async([values], share_inputs=True)
        request.wait()

    return multiply


def _torch_gemm(side: int, precision: str, threads: int | None) -> Callable[[], object]:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    a, b = torch.randn(2, side, side).to(TORCH_TYPES[precision])
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)
