"""From a config file to its data: the wiring, and what is refused."""

import json
import os
import subprocess
import sys
from itertools import islice

import pytest

from ostinato.core.config import load_config
from ostinato.core.errors import UserError
from ostinato.core.mistakes import ConfigError
from ostinato.data.build import open_data
from ostinato.data.loader import Loader, evaluation_batches
from ostinato.data.plan import differences
from ostinato.data.windows import Windows


@pytest.fixture
def opened(tmp_path):
    """Opens the data of a config given as a dict (JSON is YAML)."""
    (tmp_path / "a.txt").write_text("".join(f"line {number} of the first file\n" for number in range(40)))
    (tmp_path / "b.txt").write_text("the second file\n" * 30)

    def open_config(data: dict, *overrides: str, tokenizer=None, **sections):
        config = {"data": {"sequence_length": 16, **data}, "training": {"batch_size": 4}, **sections}
        (tmp_path / "c.yaml").write_text(json.dumps(config))
        return open_data(load_config(tmp_path / "c.yaml", list(overrides)), Windows, tokenizer=tokenizer)

    def text(name: str, **options):
        return {"name": "text", "path": str(tmp_path / name), **options}

    open_config.text = text
    return open_config


def first_steps(data, count=5):
    return [one.data for one in islice(Loader(data.plan, data.train, data.format).steps(1), count)]


def test_one_source_with_its_end_held_out(opened):
    data = opened({"train": opened.text("a.txt"), "validation_fraction": 0.25})
    assert list(data.train) == ["train"]
    total = sum(len(f"line {number} of the first file\n") for number in range(40)) + 1
    assert data.receipts[0].tokens == int(total * 0.75)
    assert [one.label for one in data.receipts] == ["train", "train (held out)"]
    trained = sum(batch.counts()["tokens"] for batch in evaluation_batches(data.validation, data.format, 3))
    assert trained == data.receipts[1].trained_tokens == total - int(total * 0.75) - 1
    assert data.plan.lengths == {"train": len(data.train["train"])}


def test_a_mixture_and_a_dataset_of_its_own_to_validate_on(opened):
    sources = {"a": opened.text("a.txt", weight=3), "b": opened.text("b.txt")}
    data = opened({"train": {"sources": sources}, "validation": opened.text("b.txt"), "mixture_block": 8})
    assert data.plan.effective_weights() == [{"a": 0.75, "b": 0.25}]
    assert sorted(data.train) == ["a", "b"] and data.validation.label == "validation"
    assert [one.label for one in data.receipts] == ["a", "b", "validation"]


def test_a_mixtures_held_out_parts_are_one(opened):
    sources = {"a": opened.text("a.txt"), "b": opened.text("b.txt")}
    data = opened({"train": {"sources": sources}, "validation_fraction": 0.5})
    alone = [opened({"train": opened.text(name), "validation_fraction": 0.5}).validation for name in ("a.txt", "b.txt")]
    assert len(data.validation) == sum(map(len, alone))
    assert data.validation.receipt.trained_tokens == sum(one.receipt.trained_tokens for one in alone)
    last = len(data.validation) - 1
    assert data.validation[last].tokens.tolist() == alone[1][len(alone[1]) - 1].tokens.tolist()
    assert data.validation.place(last).startswith("b (held out), tokens")
    with pytest.raises(IndexError):
        data.validation[last + 1]


def test_stages_reach_the_plan(opened):
    sources = {"a": opened.text("a.txt"), "b": opened.text("b.txt", weight=0)}
    stages = [{"from_step": 3, "weights": {"a": 0, "b": 1}}]
    data = opened({"train": {"sources": sources}, "mixture_block": 4, "stages": stages})
    drawn = [{one.source for one in data.plan.samples(step)} for step in range(1, 5)]
    assert drawn == [{"a"}, {"a"}, {"b"}, {"b"}]


def test_the_fingerprint_is_of_what_decides_the_samples(opened):
    base = opened({"train": opened.text("a.txt")})
    same = opened({"train": opened.text("a.txt")}, "data.workers=7", "training.micro_batch_size=1")
    assert same.fingerprint == base.fingerprint and first_steps(same) == first_steps(base)
    others = [
        opened({"train": opened.text("b.txt")}),
        opened({"train": opened.text("a.txt")}, "experiment.seed=1"),
        opened({"train": opened.text("a.txt")}, "data.sequence_length=8"),
        opened({"train": opened.text("a.txt")}, "tokenizer.name=character"),
        opened({"train": opened.text("a.txt")}, "data.shuffle=false"),
        base.skipping([(2, 5)]),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 7
    assert any("source train: " in line for line in differences(base.identity, others[0].identity))
    assert first_steps(others[-1])[1:] == first_steps(base, 12)[6:10]


@pytest.mark.parametrize("kind", ["character", "bpe"])
def test_a_tokenizer_is_trained_once_on_all_of_the_training_data(opened, cache, kind):
    sources = {"a": opened.text("a.txt"), "b": opened.text("b.txt")}
    config = {"train": {"sources": sources}, "validation_fraction": 0.5}
    data = opened(config, f"tokenizer.name={kind}", "tokenizer.vocab_size=280")
    assert data.tokenizer.vocab_size == (
        len(set("line of the first file\nsecond 0123456789")) if kind == "character" else 280
    )
    (folder,) = (cache / "tokenizers").iterdir()
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = opened(config, f"tokenizer.name={kind}", "tokenizer.vocab_size=280")
    assert again.tokenizer.fingerprint == data.tokenizer.fingerprint and again.fingerprint == data.fingerprint
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    given = opened(config, tokenizer=data.tokenizer)  # a model that brings its own
    assert given.tokenizer is data.tokenizer


def test_a_pretrained_tokenizer_without_a_path_is_the_models(opened, tmp_path):
    opened({"train": opened.text("a.txt")}, "tokenizer.name=bpe", "tokenizer.vocab_size=300").tokenizer.save(
        tmp_path / "m"
    )
    data = opened({"train": opened.text("a.txt")}, "tokenizer.name=pretrained", f"model.init_from={tmp_path / 'm'}")
    assert data.tokenizer.vocab_size == 300


def test_what_is_refused(opened):
    text = opened.text("a.txt")
    for data, message in (
        ({}, "data.train: not set"),
        ({"train": text, "validation_fraction": 0.0001}, "nothing held out"),
        ({"train": opened.text("none.txt")}, "none.txt: no such file"),
        ({"train": text, "stages": [{"step": 3, "weights": {}}]}, "from_step: N"),
    ):
        with pytest.raises(UserError, match=message):
            opened(data)
    with pytest.raises(ConfigError, match="data.train: addition: digits: 0 is not between 1 and 9"):
        opened({"train": {"name": "addition", "digits": 0}})


def test_all_processes_see_the_same(opened, tmp_path):
    """Another process, with another hash seed and other threads, reads the same steps."""
    config = {"train": {"sources": {"a": opened.text("a.txt"), "b": opened.text("b.txt")}}}
    expected = opened(config, "tokenizer.name=bpe", "tokenizer.vocab_size=300")
    code = (
        "import sys; from itertools import islice; from ostinato.core.config import load_config\n"
        "from ostinato.data.build import open_data; from ostinato.data.loader import Loader\n"
        "from ostinato.data.windows import Windows\n"
        "data = open_data(load_config(sys.argv[1], ['tokenizer.name=bpe', 'tokenizer.vocab_size=300']), Windows)\n"
        "loader = Loader(data.plan, data.train, data.format, workers=3, rank=1, world_size=2)\n"
        "print(data.fingerprint, *[one.data for one in islice(loader.steps(1), 5)]); loader.close()"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "RAYON_NUM_THREADS": "3",
        "OSTINATO_CACHE": str(tmp_path / "new"),
    }
    command = [sys.executable, "-c", code, str(tmp_path / "c.yaml")]
    output = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert output.split() == [expected.fingerprint, *first_steps(expected)]


def test_receipts_are_plain_values_and_readable_text(opened):
    (receipt,) = opened({"train": opened.text("a.txt")}).receipts
    assert type(receipt)(**json.loads(json.dumps(receipt.to_dict()))) == receipt
    assert receipt.render().splitlines()[:3] == [
        "train: 1 of 1 rows, 1,031 tokens, 1,030 trained on (99.9%)",
        "  rows are text",
        "  | line 0 of the fir",
    ]
