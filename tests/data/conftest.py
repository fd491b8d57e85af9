"""Real text where it lies beside the project, and a cache of its own for every test."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty folder for prepared data."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("OSTINATO_CACHE", str(folder))
    return folder


@pytest.fixture
def tinyshakespeare() -> Path:
    """1.1 MB of plays, where it is present."""
    file = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
    if not file.is_file():
        pytest.skip(f"{file.name} is not beside the project (../shared/data)")
    return file
