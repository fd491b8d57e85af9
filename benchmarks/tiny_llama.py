"""The tiny Llama that post-training is measured with, its random weights handed over to TRL, and text to train on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.measure import ROOT, THREADS, library_text
from ostinato.core.config import load_config
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe
from ostinato.training.build import build, open_strategy
from ostinato.training.tensor_files import write_tensors
from ostinato.training.trainer import BaseTrainer

WIDTH, LAYERS, HEADS, KV_HEADS, MLP_WIDTH, VOCABULARY = 192, 4, 6, 2, 512, 4096
TEXT = 3_000_000  # characters


def overrides(folder: Path) -> list[str]:
    """The model, the folder's tokenizer and rows."""
    return [
        *("model.name=transformer", f"model.width={WIDTH}", f"model.layers={LAYERS}", f"model.heads={HEADS}"),
        *(f"model.kv_heads={KV_HEADS}", f"model.mlp_width={MLP_WIDTH}", f"training.threads={THREADS}"),
        *("tokenizer.name=pretrained", f"tokenizer.path={folder / 'tokenizer'}"),
        *("data.train.name=jsonl", f"data.train.path={folder / 'rows.jsonl'}"),
    ]


def make_tokenizer(folder: Path) -> Tokenizer:
    """BPE of the standard library's source, without a chat template: rows are read as they are on both sides."""
    bpe(library_text(TEXT), VOCABULARY).save(folder / "tokenizer")
    file = folder / "tokenizer" / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["chat_template"]
    file.write_text(json.dumps(settings))
    return Tokenizer.load(folder / "tokenizer")


class Passages:
    """Pieces of the standard library's source, so many tokens long; each begins with a letter."""

    def __init__(self, tokenizer: Tokenizer, seed: int = 0) -> None:
        self.draw, self.tokenizer = random.Random(seed), tokenizer
        self.ids = tokenizer.encode("".join(library_text(TEXT)))

    def __call__(self, fewest: int, most: int) -> str:
        size = self.draw.randint(fewest, most)
        while True:
            start = self.draw.randrange(len(self.ids) - size)
            text = self.tokenizer.decode(self.ids[start : start + size])
            if text[0].isalpha():
                return text

    def prompt(self, fewest: int, most: int) -> str:
        """It ends with a colon, which no tokenizer joins with the letter that a response begins with."""
        return self(fewest, most).rstrip() + " :"


def write_rows(path: Path, rows: Iterator[dict[str, str]]) -> None:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_trainer(config: str, overrides: Sequence[str]) -> BaseTrainer:
    """The trainer of a config of this repository, ready for its first step."""
    loaded = load_config(str(ROOT / config), list(overrides))
    return build(loaded, open_strategy(loaded)).trainer


def hand_over(trainer: BaseTrainer, folder: Path) -> None:
    """A folder that transformers loads: our description of the model, our state dict as it is, our tokenizer."""
    model = trainer.model
    described = {**model.hf_config(), "bos_token_id": None, "eos_token_id": trainer.tokenizer.eos_id}  # type: ignore[operator]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(described))
    write_tensors(folder / "model.safetensors", model.state_dict(), {"format": "pt"})
    trainer.tokenizer.save(folder)


@torch.no_grad()
def log_prob(trainer: BaseTrainer, prompt: Sequence[int], response: Sequence[int]) -> float:
    """log p(response | prompt) by our model, for TRL's model to agree with."""
    ids = torch.tensor([[*prompt, *response]])
    labels = torch.full_like(ids, -100)
    labels[0, len(prompt) - 1 : -1] = ids[0, len(prompt) :]
    return trainer.model(ids, labels=labels).log_probs.double().sum().item()
