"""`ostinato data prepare|inspect|show` on a small file of questions and answers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ostinato.cli.data import command
from ostinato.cli.data_step import coloured
from ostinato.core.errors import RefusedError, UserError

ROWS = [{"question": f"{a} + {a}?", "answer": f"{'so ' * a}{2 * a}"} for a in range(1, 9)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    train = {"name": "jsonl", "path": "qa.jsonl", "columns": {"prompt": "question", "response": "answer"}}
    data = {"train": train, "sequence_length": 128, "validation_fraction": 0.25, "shuffle": False}
    config = {"algorithm": {"name": "sft"}, "data": data, "training": {"batch_size": 4}}
    Path("sft.yaml").write_text(json.dumps(config))
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def chat_tokens(row):
    """<|im_start|>user\\n..<|im_end|>\\n<|im_start|>assistant\\n..<|im_end|>\\n, a byte a token."""
    return 1 + 5 + len(row["question"]) + 2 + 1 + 10 + len(row["answer"]) + 2


def test_prepare_prints_receipts(project):
    text = run("prepare", "sft.yaml")
    tokens, trained = sum(map(chat_tokens, ROWS[:6])), sum(len(row["answer"]) + 1 for row in ROWS[:6])
    assert f"train: 6 of 6 rows, {tokens:,} tokens, {trained:,} trained on" in text
    assert "train (held out): 2 of 2 rows" in text
    assert text.count("  rows are prompt and response\n") == 2
    assert "  | ⟦so 2<|im_end|>⟧" in text
    again = json.loads(run("prepare", "sft.yaml", "--json"))
    assert [part["receipt"]["used"] for part in again["sources"]] == [6, 2]
    assert again["tokenizer"]["vocab_size"] == 259


def test_show_is_the_step(project):
    seen = json.loads(run("show", "sft.yaml", "--step", "1", "--rows", "0", "--json"))
    lengths = [chat_tokens(row) for row in ROWS[:4]]
    assert lengths == [31, 34, 37, 40]  # 40 + 37 + 34 = 111 leave 17 of 128: the first is alone
    assert [[entry["position"] for entry in row] for row in seen["rows"]] == [[0], [1, 2, 3]]
    assert (seen["tokens"], seen["width"], seen["fill"]) == (142, 128, 142 / 256)
    assert seen["counts"] == {"tokens": sum(len(row["answer"]) + 1 for row in ROWS[:4]), "sequences": 4}
    entry = seen["rows"][1][0]
    assert (entry["source"], entry["epoch"], entry["index"], entry["tokens"]) == ("train", 0, 1, 34)
    assert entry["place"] == "qa.jsonl:2"
    assert entry["text"] == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n⟦so so 4<|im_end|>⟧\n"
    # six samples an epoch: step 2 ends with the first two of the next
    second = json.loads(run("show", "sft.yaml", "--step", "2", "--json"))
    placed = {entry["position"]: entry for row in second["rows"] for entry in row}
    assert [(placed[i]["epoch"], placed[i]["index"]) for i in range(4)] == [(0, 4), (0, 5), (1, 0), (1, 1)]


def test_show_as_text_decodes_the_rows_asked_for(project):
    text = run("show", "sft.yaml", "--rows", "1")
    assert text.startswith("step 1: 4 samples in 2 rows of 128, 55.5% full; trained on: ")
    assert "--- 0: train 0 (epoch 0, 31 tokens)  qa.jsonl:1\n" in text and "⟦so 2<|im_end|>⟧" in text
    assert "so so 4" not in text and "... and 1 more row (--rows 0 shows all)" in text
    assert "so so 4" in run("show", "sft.yaml", "--rows", "0")


def test_unpacked_rows(project):
    seen = json.loads(run("show", "sft.yaml", "--json", "-o", "data.packing=false"))
    assert [len(row) for row in seen["rows"]] == [1, 1, 1, 1] and seen["width"] == 64


def test_windows_are_shown_too(project):
    Path("book.txt").write_text("0123456789" * 10)
    set_up = ["-o", "algorithm.name=pretrain", "-o", "data.train={name: text, path: book.txt}"]
    set_up += ["-o", "data.sequence_length=8", "-o", "data.validation_fraction=0"]
    text = run("show", "sft.yaml", "--rows", "1", *set_up)
    assert "4 samples in 4 rows of 8, 100.0% full; trained on: 32 tokens" in text and "012345678" in text
    inspected = json.loads(run("inspect", "sft.yaml", "--json", "--verify", *set_up))
    assert len(inspected["sources"][0]["folders"]) == 1


def test_inspect_verifies_every_byte(project):
    text = run("inspect", "sft.yaml", "--verify")
    assert (
        "every one as it was written" in text and "rows are prompt and response" in text and "train (held out)" in text
    )
    (shard,) = (project / "cache" / "tokens").glob("*/mask-00000.bin")
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    run("inspect", "sft.yaml")  # sizes are right
    with pytest.raises(RefusedError, match="mask-00000.bin does not match its hash"):
        run("inspect", "sft.yaml", "--verify")


def test_what_cannot_be_shown(project):
    with pytest.raises(UserError, match="algorithm.name: not set"):
        Path("part.yaml").write_text("data: {train: {name: jsonl, path: qa.jsonl}}")
        run("show", "part.yaml")
    with pytest.raises(
        UserError, match=r"qa.jsonl:1: the keys .* fit prompt and response and text; choose with columns"
    ):
        run("prepare", "sft.yaml", "-o", "data.train.columns={text: question}")
    with pytest.raises(UserError, match=r"qa.jsonl:1: no column 'ask'; there are question, answer. Row 1: "):
        run("prepare", "sft.yaml", "-o", "data.train.columns={prompt: ask}")
    wrong = CliRunner().invoke(command, ["show", "sft.yaml", "--json", "-o", "data.packin=true"])
    assert wrong.exit_code == 2 and [mistake["key"] for mistake in json.loads(wrong.stdout)] == ["data.packin"]
    assert CliRunner().invoke(command, ["show", "sft.yaml", "--step", "0"]).exit_code == 2


def test_colours_take_the_place_of_brackets(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured("plain ⟦trained\nhere⟧ [bold]kept[/bold]")
    out = capsys.readouterr().out
    assert "⟦" not in out and "[bold]kept[/bold]" in out
    assert "plain \x1b[1;32mtrained\x1b[0m\n\x1b[1;32mhere\x1b[0m" in out
