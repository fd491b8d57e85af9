"""Tokens added to a model that exists: its rows, what a run says and records of them, and what stays as it was."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe
from ostinato.training.vocabulary import ROWS_AT_ONCE, with_new_rows
from tests.data.foreign import write_json
from tests.faults.processes import finish

BASE = """
experiment: {{name: base, output_root: {folder}/runs, seed: 1}}
model: {{name: transformer, width: 16, layers: 1, heads: 2, tied_embeddings: {tied}}}
tokenizer: {{name: byte}}
data: {{train: {{name: jsonl, path: {folder}/rows.jsonl}}, sequence_length: 96}}
algorithm: {{name: sft}}
training: {{total_steps: 2, batch_size: 4, learning_rate: 1e-2, threads: 1}}
logging: {{save_interval: 2, trackers!: {{}}}}
"""
MORE = """
experiment: {{name: more, output_root: {folder}/runs, seed: 2}}
model: {{init_from: "run:base"}}
tokenizer: {{added_tokens: ["<think>", "</think>"]}}
data: {{train: {{name: jsonl, path: {folder}/rows.jsonl}}, sequence_length: 96}}
algorithm: {{name: sft}}
training: {{total_steps: 1, batch_size: 4, learning_rate: 0.0, threads: 1}}
logging: {{save_interval: 1, trackers!: {{}}}}
"""


def test_new_rows_are_the_mean_of_the_old():
    for shape in ((5, 3), (5,), (ROWS_AT_ONCE + 7, 2)):
        old = torch.randn(shape, generator=torch.manual_seed(0)).to(torch.bfloat16)
        new = with_new_rows(old, torch.Size((shape[0] + 2, *shape[1:])), (shape[0], shape[0] + 2))
        assert torch.equal(new[: shape[0]], old)
        mean = old.double().sum(0) / shape[0]
        assert torch.equal(new[-1], new[-2]) and torch.equal(new[-1], mean.to(torch.bfloat16))
    old = torch.zeros(5, 3)
    for wanted, grown in (((7, 3), None), ((7, 4), (5, 7)), ((6, 3), (5, 7)), ((7, 3), (4, 7)), ((5, 3), (5, 7))):
        assert with_new_rows(old, torch.Size(wanted), grown) is old  # its shape is then refused by who loads it


@pytest.mark.parametrize("tied", ["true", "false"])
def test_tokens_are_added_in_a_chain(tmp_path: Path, tied: str) -> None:
    rows = [{"prompt": f"say {n}", "response": f"<think>{n}</think>{n}"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("base", BASE), ("more", MORE)):
        (tmp_path / f"{name}.yaml").write_text(text.format(folder=tmp_path, tied=tied))
    log = tmp_path / "log"
    assert finish(["train", str(tmp_path / "base.yaml"), str(tmp_path / "more.yaml")], log) == 0, log.read_text()
    said = "vocabulary 261 tokens, 261 rows: 2 new (<think>, </think>), the mean of the 259 of init_from"
    assert said in log.read_text()
    lineage = json.loads((tmp_path / "runs/more/metadata.json").read_text())["lineage"]["init_from"]
    assert lineage["new_rows"] == 2
    before = load_file(tmp_path / "runs/base/checkpoints/step_00000002/model/model.safetensors")
    folder = tmp_path / "runs/more/checkpoints/step_00000001/model"
    after = load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    grown = [name for name in before if before[name].shape != after[name].shape]
    assert len(grown) == (1 if tied == "true" else 2)
    for name in before:  # a learning rate of zero: what was loaded is what was saved
        assert torch.equal(after[name][: len(before[name])], before[name])
    for name in grown:
        torch.testing.assert_close(after[name][259:], before[name].mean(0).expand(2, -1), rtol=0, atol=1e-7)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 261
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.encode("<think></think>") == [259, 260]
    # What comes after it has the tokens, adds nothing, and a smaller tokenizer leaves the rows where they are.
    (tmp_path / "next.yaml").write_text(
        MORE.format(folder=tmp_path).replace("more", "next").replace("run:base", "run:more")
    )
    assert finish(["train", str(tmp_path / "next.yaml")], log) == 0, log.read_text()
    assert log.read_text().count("vocabulary ") == 1
    Tokenizer.load(tmp_path / "runs/base/checkpoints/step_00000002/model").save(tmp_path / "small")
    less = MORE.format(folder=tmp_path).replace("more", "less").replace("run:base", "run:more")
    less = less.replace('{added_tokens: ["<think>", "</think>"]}', f"{{name: pretrained, path: {tmp_path}/small}}")
    (tmp_path / "less.yaml").write_text(less)
    assert finish(["train", str(tmp_path / "less.yaml")], log) == 0, log.read_text()
    assert "vocabulary 259 tokens, 261 rows: 2 are kept that no token has" in log.read_text()
    # A vocabulary in which ids mean something else is no growth.
    bpe(["other words"], 280).save(tmp_path / "other")
    other = less.replace("less", "other").replace(f"{tmp_path}/small", f"{tmp_path}/other")
    (tmp_path / "other.yaml").write_text(other)
    assert finish(["train", str(tmp_path / "other.yaml")], log) == 2
    assert "for the model of model.init_from it is" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_tokens_are_added_to_a_folder_of_hugging_face(tmp_path: Path, tied: bool) -> None:
    """Vocabulary and merges, a Qwen3 of random weights, two tokens more: transformers reads what comes out, old logits
    are bit-equal, and a new token's logit is the mean of the old ones."""
    transformers = pytest.importorskip("transformers")
    made = json.loads(bpe(["the quick answer is think"] * 5, 320)._backend.to_str())
    vocabulary, size = made["model"]["vocab"], len(made["model"]["vocab"])
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = {str(size + n): {"content": name, "special": True} for n, name in enumerate(names)}
    config = transformers.Qwen3Config(
        vocab_size=size + 3, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(0)
    before = transformers.Qwen3ForCausalLM(config).eval()
    before.save_pretrained(tmp_path / "qwen")
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>", "added_tokens_decoder": added}
    write_json(tmp_path / "qwen", vocab=vocabulary, tokenizer_config=settings)
    merges = "\n".join(" ".join(merge) for merge in made["model"]["merges"])
    (tmp_path / "qwen/merges.txt").write_text(merges + "\n")
    rows = [{"prompt": f"say {n}", "response": f"<think>\n{n}\n</think>\n\n{n}"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = MORE.format(folder=tmp_path).replace('"run:base"', str(tmp_path / "qwen"))
    (tmp_path / "more.yaml").write_text(text.replace('"</think>"]', '"</think>"], chat_template: qwen3'))
    log = tmp_path / "log"
    assert finish(["train", str(tmp_path / "more.yaml")], log) == 0, log.read_text()
    assert f"2 new (<think>, </think>), the mean of the {size + 3} of init_from" in log.read_text()
    folder = tmp_path / "runs/more/checkpoints/step_00000001/model"
    after = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.randint(0, size, (2, 9), generator=torch.manual_seed(0))
    with torch.no_grad():
        old, new = before(ids).logits, after(ids).logits
    assert torch.equal(new[..., : size + 3], old)
    torch.testing.assert_close(new[..., size + 3 :], old.mean(-1, keepdim=True).expand(-1, -1, 2), rtol=0, atol=1e-6)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder)
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>\na\n</think>\n\nb"}]
    assert ours.chat is not None and ours.chat.render(chat).text == theirs.apply_chat_template(chat, tokenize=False)
    assert [ours.token(index) for index in ours.eos_ids] == ["<|endoftext|>", "<|im_end|>"]  # answers end with the turn
