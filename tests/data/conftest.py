"""Real text where it lies beside the project, and a cache of its own for every test."""

from pathlib import Path

import pytest
from tests.data.making import Rows

from ostinato.data.formats import DataOptions
from ostinato.data.tokenizer_kinds import byte
from ostinato.data.windows import Windows


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


@pytest.fixture
def windows(cache):
    """Makes (format, samples) of pre-training windows over texts, byte by byte."""

    def make(texts, length: int, *, packing: bool = True, tokenizer=None, label: str = "train"):
        options = DataOptions(tokenizer or byte(), sequence_length=length, cache=cache, packing=packing)
        form = Windows(options)
        return form, form.prepare(Rows([{"text": text} for text in texts]), label)

    return make


@pytest.fixture
def rows_source():
    """Makes a source of a list of rows."""
    return Rows
