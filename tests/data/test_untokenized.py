"""Data that is no text: a format of a project's own, from a config to batches, without any tokenizer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ostinato.core.config import load_config
from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.core.types import Batch
from ostinato.data.build import open_data
from ostinato.data.formats import SampleFormat
from ostinato.data.loader import Loader, evaluation_batches
from ostinato.data.source_samples import SourceSamples


@DATASETS.register("squares")
class Squares:
    kind = "generated"

    def __init__(self, seed: int, *, size: int = 10) -> None:
        self.size, self.fingerprint = size, hash_of(["squares", size])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict:
        return {"x": float(index), "y": float(index**2)}

    def place(self, index: int) -> str:
        return f"square {index}"


@dataclass
class PointBatch(Batch):
    x: Tensor  # (B,)
    y: Tensor  # (B,)

    def counts(self) -> dict[str, int]:
        return {"points": len(self.x)}


class Points(SampleFormat):
    tokenized = False

    def prepare(self, source, label):
        return SourceSamples(label, source, self.describe)

    def collate(self, rows):
        items = [item for row in rows for item in row]
        return PointBatch(torch.tensor([item["x"] for item in items]), torch.tensor([item["y"] for item in items]))

    def empty(self):
        return PointBatch(torch.zeros(0), torch.zeros(0))

    def describe(self, item):
        return f"{item['x']:g} -> {item['y']:g}"


def opened(tmp_path, *overrides: str):
    path = tmp_path / "points.yaml"
    path.write_text("data: {train: {name: squares}, validation_fraction: 0.3}\ntraining: {batch_size: 4}\n")
    return open_data(load_config(path, overrides), Points)


def test_rows_become_batches_without_a_tokenizer(tmp_path):
    data = opened(tmp_path)
    assert data.tokenizer is None and data.identity["tokenizer"] is None
    batch = Loader(data.plan, data.train, data.format).assemble(1).micro_batches[0]
    assert torch.equal(batch.y, batch.x**2) and len(set(batch.x.tolist())) == 4 and max(batch.x) < 7
    held_out = list(evaluation_batches(data.validation, data.format, 2))
    assert [batch.x.tolist() for batch in held_out] == [[7.0, 8.0], [9.0]]


def test_receipts_speak_of_rows_not_tokens(tmp_path):
    train, held_out = opened(tmp_path).receipts
    assert train.render() == "train: 7 of 7 rows\n  | 0 -> 0\n  | 1 -> 1"
    assert held_out.render() == "train (held out): 3 of 3 rows\n  | 7 -> 49\n  | 8 -> 64"


def test_the_fingerprint_is_of_the_rows(tmp_path):
    seen = {opened(tmp_path, *options).fingerprint for options in ([], ["data.train.size=20"], ["experiment.seed=1"])}
    assert len(seen) == 3 and opened(tmp_path).fingerprint in seen
    assert opened(tmp_path).validation.place(0) == "square 7"
