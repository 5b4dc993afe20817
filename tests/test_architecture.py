"""Imports point downwards, each engine has one importer, and importing the package is cheap."""

import ast
import graphlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import classsr

PACKAGE = "classsr"

# Lowest first. A name stands for the module and everything inside it.
LAYERS = {
    "errors": {"errors"},
    "ground": {
        "alpha",
        "files",
        "image",
        "prices",
        "resize",
        "sizes",
        "tiles",
        "metrics",
        "model",
        "phases",
    },
    "learned": {
        "networks",
        "flops",
        "checkpoint",
        "data",
        "training",
        "export",
        "parity",
        "naming",
        "foreign",
    },
    "run": {
        "backends",
        "canvas",
        "costs",
        "engine",
        "guard",
        "plan",
        "planner",
        "report",
        "routing",
        "routing_map",
        "source",
        "upscaler",
    },
    "top": {
        "about",
        "batch",
        "jobs",
        "manifest",
        "comparison",
        "evaluation",
        "evaluation_page",
        "figures",
        "page",
        "scoreboard",
    },
    "cli": {"cli", "__main__"},
    "root": {"__init__"},
}
ORDER = list(LAYERS)
# Training and running do not know each other and meet in files, with this one exception.
STRANGERS = {("learned", "run"), ("run", "learned")}
MAY_MEET = {("backends.pytorch", "networks"), ("backends.pytorch", "checkpoint")}

# Third-party engines and who may import them; what is not named here is free.
IMPORTERS = {
    "torch": LAYERS["learned"] | {"backends.pytorch"},
    "openvino": {"backends.openvino", "export", "parity"},
    "onnxruntime": {"backends.onnx", "parity"},
    "pydantic": {"training.config"},
    "matplotlib": {"figures"},
}
RUNTIMES = ("torch", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Import:
    """One imported name: who imports it, and what, both as dotted module names."""

    importer: str
    imported: str


def read_sources() -> dict[str, str]:
    """Every module of the package by its dotted name below `classsr`, packages as `name.__init__`."""
    root = Path(classsr.__file__).parent
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path.read_text("utf-8")
        for path in sorted(root.rglob("*.py"))
    }


def find_imports(module: str, source: str) -> Iterator[Import]:
    """All imports of one module at any depth: functions, TYPE_CHECKING and literal import_module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (Import(module, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                start = [PACKAGE, *module.split(".")[:-level]] if level else []
                origin = ".".join([*start, *([base] if base else [])])
                yield from (Import(module, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(module, name)


def within(module: str, places: set[str]) -> bool:
    """Whether `module` is one of `places` or lies inside one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def layer_of(module: str) -> str | None:
    return next((layer for layer, places in LAYERS.items() if within(module, places)), None)


def resolve(imported: str, modules: set[str]) -> str | None:
    """The module of ours that `classsr.a.b.name` lives in, None for `classsr.__version__`."""
    parts = imported.split(".")[1:]
    if parts == ["__version__"]:
        return None
    for end in range(len(parts), -1, -1):
        name = ".".join(parts[:end])
        if name in modules:
            return name
        package = f"{name}.__init__" if name else "__init__"
        if package in modules:
            return package
    raise AssertionError(f"{imported} lies outside the package")


def internal_imports(sources: Mapping[str, str]) -> list[Import]:
    """Imports of our own modules, both ends as keys of `sources`."""
    found = []
    for module, source in sources.items():
        for entry in find_imports(module, source):
            if entry.imported.partition(".")[0] == PACKAGE:
                target = resolve(entry.imported, set(sources))
                if target is not None:
                    found.append(Import(module, target))
    return found


def layer_violations(sources: Mapping[str, str]) -> list[str]:
    homeless = [f"{module} has no layer" for module in sources if layer_of(module) is None]
    found = []
    for entry in internal_imports(sources):
        above, below = layer_of(entry.importer), layer_of(entry.imported)
        if above is None or below is None:
            continue
        excused = any(
            entry.importer == importer and within(entry.imported, {imported})
            for importer, imported in MAY_MEET
        )
        upwards = ORDER.index(below) > ORDER.index(above)
        if not excused and (upwards or (above, below) in STRANGERS):
            found.append(f"{entry.importer} ({above}) imports {entry.imported} ({below})")
    return homeless + found


def engine_violations(sources: Mapping[str, str]) -> list[str]:
    """Imports of a third-party engine by a module that may not have it."""
    return [
        f"{module} imports {entry.imported}"
        for module, source in sources.items()
        for entry in find_imports(module, source)
        for engine in IMPORTERS
        if within(entry.imported, {engine}) and not within(module, IMPORTERS[engine])
    ]


def find_cycle(sources: Mapping[str, str]) -> list[str] | None:
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for entry in internal_imports(sources):
        graph[entry.importer].add(entry.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        return list(exc.args[1])
    return None


def test_imports_point_downwards() -> None:
    assert layer_violations(read_sources()) == []


def test_engines_are_imported_where_they_belong() -> None:
    assert engine_violations(read_sources()) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    assert find_cycle(read_sources()) is None


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_runtime_has_exactly_one_backend(runtime: str) -> None:
    importers = {
        module
        for module, source in read_sources().items()
        for entry in find_imports(module, source)
        if within(module, {"backends"}) and within(entry.imported, {runtime})
    }

    assert len(importers) == 1


@pytest.mark.parametrize(
    ("module", "source", "violation"),
    [
        ("tiles", "from classsr.upscaler import Upscaler", "tiles (ground) imports upscaler (run)"),
        ("tiles", "import classsr.routing", "tiles (ground) imports routing (run)"),
        ("tiles", "from . import routing", "tiles (ground) imports routing (run)"),
        ("errors", "from .tiles import split", "errors (errors) imports tiles (ground)"),
        (
            "tiles",
            "def f():\n    from classsr import networks",
            "tiles (ground) imports networks.__init__ (learned)",
        ),
        (
            "tiles",
            "import importlib\nimportlib.import_module('classsr.cli')",
            "tiles (ground) imports cli (cli)",
        ),
        (
            "training.loop",
            "from classsr import upscaler",
            "training.loop (learned) imports upscaler (run)",
        ),
        (
            "upscaler",
            "from .networks import build",
            "upscaler (run) imports networks.__init__ (learned)",
        ),
        (
            "backends.onnx",
            "from ..checkpoint import load",
            "backends.onnx (run) imports checkpoint (learned)",
        ),
        (
            "backends.pytorch",
            "from classsr.training import loop",
            "backends.pytorch (run) imports training.loop (learned)",
        ),
        (
            "routing",
            "from classsr.figures import sheet",
            "routing (run) imports figures.sheet (top)",
        ),
        ("cli", "from classsr import Upscaler", "cli (cli) imports __init__ (root)"),
        ("helpers", "", "helpers has no layer"),
    ],
)
def test_a_planted_upward_import_is_found(module: str, source: str, violation: str) -> None:
    sources = read_stubs() | {module: source}

    assert layer_violations(sources) == [violation]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("backends.pytorch", "from classsr.networks import build\nfrom ..checkpoint import load"),
        ("evaluation", "from classsr import flops, metrics, upscaler"),
        ("figures.sheet", "from classsr import routing\nfrom matplotlib.figure import Figure"),
        ("networks.__init__", "from .fsrcnn import FSRCNN"),
        ("export", "from classsr import __version__\nfrom classsr.model import Model"),
        ("cli", "def f():\n    from .training import loop"),
    ],
)
def test_imports_that_the_design_allows_pass(module: str, source: str) -> None:
    sources = read_stubs() | {module: source}

    assert layer_violations(sources) == []
    assert find_cycle(sources) is None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tiles", "import torch.nn as nn"),
        ("upscaler", "from torch import Tensor"),
        ("backends.onnx", "def f():\n    import torch"),
        ("backends.base", "from importlib import import_module\nimport_module('openvino')"),
        ("evaluation", "import onnxruntime"),
        ("training.loop", "from pydantic import BaseModel"),
        ("evaluation", "from matplotlib.figure import Figure"),
    ],
)
def test_a_planted_engine_is_found(module: str, source: str) -> None:
    assert len(engine_violations({module: source})) == 1


def test_a_module_named_like_an_engine_is_not_that_engine() -> None:
    sources = {"backends.__init__": "from . import openvino\nfrom classsr.backends import onnx"}

    assert engine_violations(sources) == []


def test_a_planted_cycle_is_found() -> None:
    sources = {
        "tiles": "from classsr import resize",
        "resize": "def f():\n    from .tiles import split",
    }

    assert set(find_cycle(sources) or []) == {"tiles", "resize"}


def read_stubs() -> dict[str, str]:
    """An empty module for every place of the design, to plant imports in."""
    modules = "errors tiles metrics model networks.__init__ networks.fsrcnn flops checkpoint"
    modules += " training.__init__ training.loop export backends.__init__ backends.onnx"
    modules += " backends.pytorch routing upscaler evaluation figures.sheet cli __init__"
    return dict.fromkeys(modules.split(), "")


def test_every_public_name_resolves() -> None:
    missing = [name for name in classsr.__all__ if not hasattr(classsr, name)]

    assert missing == []
    assert len(set(classsr.__all__)) == len(classsr.__all__)


IMPORT_PROBE = """
import json, sys, time
start = time.perf_counter()
import classsr
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "loaded": sorted(sys.modules)}))
"""
# What the script that pip installs runs.
COMMAND = "import sys; from classsr.cli import main; sys.argv[0] = 'classsr'; sys.exit(main())"


def test_importing_the_package_loads_no_engine() -> None:
    output = subprocess.check_output([sys.executable, "-c", IMPORT_PROBE])
    loaded = set(json.loads(output)["loaded"])

    assert loaded.isdisjoint({*RUNTIMES, "numpy", "PIL", "pyvips", "pydantic", "rich", "typer"})


@pytest.mark.timing
def test_importing_the_package_takes_less_than_150_ms() -> None:
    outputs = [subprocess.check_output([sys.executable, "-c", IMPORT_PROBE]) for _ in range(5)]

    assert min(json.loads(output)["seconds"] for output in outputs) < 0.15


@pytest.mark.timing
def test_version_is_printed_within_200_ms() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        output = subprocess.check_output([sys.executable, "-c", COMMAND, "--version"], text=True)
        seconds.append(time.perf_counter() - start)
        assert classsr.__version__ in output

    assert min(seconds) < 0.2
