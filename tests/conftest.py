"""Fixtures that several test files share: a tiny trained-looking model, small pictures, the shared data."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
