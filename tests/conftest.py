"""Fixtures that several test files share: a tiny trained-looking model, small pictures, the shared data."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from classsr.costs import by_macs
from command_line import CommandLine
from fakes import FakeBackend

settings.register_profile("classsr", deadline=None, print_blob=True)
settings.load_profile("classsr")

DATA = Path(os.environ.get("CLASSSR_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of training and benchmark pictures; tests that need it skip where it is absent."""
    if not (DATA / "MANIFEST.csv").is_file():
        pytest.skip(
            f"no pictures at {DATA}; set CLASSSR_DATA to the folder that holds MANIFEST.csv"
        )
    return DATA


@pytest.fixture(scope="session", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Costs that tests measure are remembered for them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSSR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def same_weights() -> Iterator[None]:
    """Draw the same weights and inputs every time; what is drawn stays without effect on other tests."""
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """The command line on a NumPy backend, in an empty folder."""
    backend = FakeBackend()
    monkeypatch.setattr("classsr.upscaler.open_backend", lambda name, **options: backend)
    monkeypatch.setattr(
        "classsr.engine.costs_on_this_machine", lambda backend, model: by_macs(model.config)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    yield CommandLine(tmp_path, backend, monkeypatch, capsys)
    logging.getLogger("classsr").handlers.clear()
