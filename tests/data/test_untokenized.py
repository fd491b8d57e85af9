"""Data that is no text: a format of a project's own, from a config to batches, without any tokenizer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ostinato.core.config import load_config
from ostinato.core.registry import DATASETS
from ostinato.core.types import Batch
from ostinato.data.build import open_data
from ostinato.data.formats import SampleFormat
from ostinato.data.loader import Loader, evaluation_batches
from ostinato.data.source_samples import SourceSamples


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
        items = [point(item) for row in rows for item in row]
        return PointBatch(*(torch.tensor(column) for column in zip(*items, strict=True)))

    def empty(self):
        return PointBatch(torch.zeros(0), torch.zeros(0))

    def describe(self, item):
        return "x {:g}, y {:g}".format(*point(item))


def point(row: dict) -> tuple[float, float]:
    """12+7=, 19 as the numbers 12 and 19."""
    return float(row["prompt"].split("+")[0]), float(row["answer"])


def opened(tmp_path, *overrides: str):
    path = tmp_path / "points.yaml"
    path.write_text("data: {train: {name: addition, size: 10}, validation_fraction: 0.3}\ntraining: {batch_size: 4}\n")
    return open_data(load_config(path, overrides), Points)


def test_rows_become_batches_without_a_tokenizer(tmp_path):
    data = opened(tmp_path)
    assert data.tokenizer is None and data.identity["tokenizer"] is None
    rows = [point(row) for row in DATASETS.build(load_config(tmp_path / "points.yaml").data.train, 0)]
    batch = Loader(data.plan, data.train, data.format).assemble(1).micro_batches[0]
    points = list(zip(batch.x.tolist(), batch.y.tolist(), strict=True))
    assert points == [rows[sample.index] for sample in data.plan.samples(1)] and set(points) < set(rows[:7])
    held_out = list(evaluation_batches(data.validation, data.format, 2))
    assert [batch.x.tolist() for batch in held_out] == [[rows[7][0], rows[8][0]], [rows[9][0]]]


def test_receipts_speak_of_rows_not_tokens(tmp_path):
    data = opened(tmp_path)
    for receipt, samples, text in zip(
        data.receipts,
        (data.train["train"], data.validation),
        ("train: 7 of 7 rows", "train (held out): 3 of 3 rows"),
        strict=True,
    ):
        assert receipt.render().splitlines() == [text, *(f"  | {data.format.describe(samples[i])}" for i in (0, 1))]


def test_the_fingerprint_is_of_the_rows(tmp_path):
    seen = {opened(tmp_path, *options).fingerprint for options in ([], ["data.train.size=20"], ["experiment.seed=1"])}
    assert len(seen) == 3 and opened(tmp_path).fingerprint in seen


def test_a_row_keeps_its_place(tmp_path):
    assert opened(tmp_path).validation.place(0) == "sum 7"
