"""Packed fp32 SFT of a tiny Llama: our trainer beside a bare transformers loop, and beside TRL's SFTTrainer.

The transformers loop takes turns with ours, step by step on the same packed rows, already collated for it. TRL packs
the same rows by itself in a process of its own, run in turns with `ours` in another; it needs requirements-bench.lock:

    python -m benchmarks.sft --trl-python /path/to/environment/bin/python
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import ROOT, THREADS, library_text, record, run_json, spread, take_turns
from benchmarks.turns import PeerStep, take_turns_in_a_run
from ostinato.data.batches import TokenBatch
from ostinato.training.trainer import BaseTrainer

WIDTH, LAYERS, HEADS, KV_HEADS, MLP_WIDTH, VOCABULARY, LENGTH, SEQUENCES = 192, 4, 6, 2, 512, 4096, 512, 24
OVERRIDES = [
    *("model.name=transformer", f"model.width={WIDTH}", f"model.layers={LAYERS}", f"model.heads={HEADS}"),
    *(f"model.kv_heads={KV_HEADS}", f"model.mlp_width={MLP_WIDTH}", "training.learning_rate=1e-3"),
    *("tokenizer.name=bpe", f"tokenizer.vocab_size={VOCABULARY}"),
    *(f"data.sequence_length={LENGTH}", f"training.batch_size={SEQUENCES}", "data.train.name=jsonl"),
]
LLAMA = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": MLP_WIDTH,
    "max_position_embeddings": LENGTH,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def write_rows(path: Path, count: int = 3000) -> None:
    """Prompts of 40 to 300 and responses of 100 to 900 characters, cut from the standard library's source."""
    draw, text = random.Random(0), "".join(library_text(3_000_000))
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            start, prompt, response = draw.randrange(len(text) - 1200), draw.randint(40, 300), draw.randint(100, 900)
            row = {
                "prompt": text[start : start + prompt],
                "response": text[start + prompt : start + prompt + response],
            }
            file.write(json.dumps(row) + "\n")


def transformers_loop(trainer: BaseTrainer) -> PeerStep:
    """LlamaForCausalLM with our weights, its own loss and packed rows told by their positions; AdamW as ours."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(vocab_size=trainer.tokenizer.vocab_size, attn_implementation="sdpa", use_cache=False, **LLAMA)
    model = LlamaForCausalLM(shape)
    model.load_state_dict(trainer.model.state_dict())
    model.train()
    matrices, others = ([p for p in model.parameters() if (p.ndim >= 2) is wanted] for wanted in (True, False))
    decay = [{"params": matrices, "weight_decay": 0.0}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decay, lr=1e-3, betas=(0.9, 0.95), fused=True)
    checked = False

    def step(batches: Sequence[TokenBatch]) -> None:
        nonlocal checked
        (batch,) = batches
        count = batch.trained.numel()
        if not checked:
            same_loss(trainer, model, batch)
            checked = True
        output = model(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            labels=batch.labels,
            shift_labels=batch.labels,
            num_items_in_batch=count,
        )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        output.loss.item()

    return step


@torch.no_grad()
def same_loss(trainer: BaseTrainer, model: torch.nn.Module, batch: TokenBatch) -> None:
    """Both must compute the same thing, or their times mean nothing."""
    own = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(trainer.model.state_dict())
    ours = trainer.model(batch.tokens, batch.positions, batch.documents, labels=batch.labels, trained=batch.trained)
    logits = model(input_ids=batch.tokens, position_ids=batch.positions).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
    model.load_state_dict(own)
    difference = abs(-ours.log_probs.mean() - theirs).item()
    assert difference < 1e-4, f"the losses of the two models differ by {difference}"


def beside_transformers(folder: Path) -> list[str]:
    """The lines of our trainer beside the bare transformers loop."""

    def make_peer(trainer: BaseTrainer) -> PeerStep:
        trainer.tokenizer.save(folder)  # for TRL
        return transformers_loop(trainer)

    overrides = [*OVERRIDES, f"data.train.path={folder / 'rows.jsonl'}"]
    turns = take_turns_in_a_run("configs/algorithms/sft.yaml", overrides, make_peer, chunk=5, rounds=12)
    return turns.lines("a bare transformers loop on the same packed rows")


def beside_trl(folder: Path, trl_python: str, rounds: int) -> list[str]:
    """The lines of our trainer beside TRL's SFTTrainer, whole processes in turns."""
    from ostinato.data.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    (folder / "llama.json").write_text(json.dumps({"vocab_size": tokenizer.vocab_size, **LLAMA}))
    peer = [trl_python, ROOT / "benchmarks" / "peers" / "trl_sft.py", folder, "--length", LENGTH, "--threads", THREADS]
    commands = {
        "ostinato": [sys.executable, "-m", "benchmarks.peers.ours", folder],
        "TRL, packing on": [*peer, "--recompute"],
        "TRL, packing on, gradient checkpointing off": peer,
    }
    by_processor: dict[str, list[float]] = {name: [] for name in commands}

    def run(name: str) -> float:
        result = run_json(commands[name])
        by_processor[name].append(result["processor"])
        return result["wall"]

    by_wall = take_turns({name: functools.partial(run, name) for name in commands}, rounds)
    lines = [f"- {name}: {spread(values)} trained tokens/s" for name, values in by_wall.items()]
    for clock, kept in (("tokens/s", by_wall), ("tokens per processor second", by_processor)):
        for name in list(commands)[1:]:
            ratios = [ours / theirs for ours, theirs in zip(kept["ostinato"], kept[name], strict=True)]
            lines.append(f"- {clock}, ostinato / {name} (aim: at least 4): {spread(ratios)}")
    return lines


def has_trl(python: str) -> bool:
    """Whether an interpreter can import trl; says what to do where it cannot."""
    found = subprocess.run([python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('trl') is None)"])
    if found.returncode:
        print("TRL is not installed here: pip install -r requirements-bench.lock, or name another environment")
        print("with --trl-python. Nothing was measured against it.")
    return found.returncode == 0


def main() -> None:
    """A Llama of width 192, 4 layers, 4,096 tokens in the vocabulary; rows of 512 tokens, 24 sequences a step, fp32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment that has trl")
    parser.add_argument("--rounds", type=int, default=3, help="of whole processes in turns with TRL")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl")
        record("packed SFT, a bare transformers loop", [main.__doc__ or "", *beside_transformers(folder)])
        if not has_trl(arguments.trl_python):
            return
        record(
            "packed SFT, TRL's SFTTrainer",
            [main.__doc__ or "", *beside_trl(folder, arguments.trl_python, arguments.rounds)],
        )


if __name__ == "__main__":
    main()
