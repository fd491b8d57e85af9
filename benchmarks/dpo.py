"""DPO of a tiny Llama, fp32: our trainer beside TRL's DPOTrainer on the same pairs from the same weights.

Both are processes that take turns; TRL needs requirements-bench.lock:

    python -m benchmarks.dpo [--trl-python /path/to/environment/bin/python] [--print-only]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import THREADS, record
from benchmarks.processes import ours, ratio_lines, seconds_in_turns, time_lines
from benchmarks.sft import has_trl
from benchmarks.tiny_llama import Passages, hand_over, log_prob, make_tokenizer, make_trainer, overrides, write_rows
from ostinato.data.tokenizer import Tokenizer

CONFIG, ROWS, LENGTH, CHUNK, WARMUP = "configs/algorithms/dpo.yaml", 600, 512, 3, 3
OPTIONS = [f"data.sequence_length={LENGTH}", "dpo.loss=sigmoid", "dpo.beta=0.1", "training.learning_rate=1e-6"]


def rows(tokenizer: Tokenizer) -> Iterator[dict[str, str]]:
    """Prompts of about 60 tokens; responses of 20 to 200, of a pair unequal."""
    passage = Passages(tokenizer)
    for _ in range(ROWS):
        yield {"prompt": passage.prompt(50, 70), "chosen": passage(20, 200), "rejected": passage(20, 200)}


def prepare(folder: Path, settings: list[str]) -> dict[str, float]:
    """Weights, tokenizer and rows for both sides; the facts by which it is known that they do the same."""
    trainer = make_trainer(CONFIG, settings)
    hand_over(trainer, folder / "model")
    pairs = trainer.parts.data.train["train"]
    first = pairs[0].chosen
    count = int(first.trained.argmax())
    return {
        "tokens of all pairs": sum(pairs.length(number) for number in range(len(pairs))),
        "trained tokens of all pairs": sum(pairs[number].trained_tokens for number in range(len(pairs))),
        "log p(chosen) of the first pair": log_prob(trainer, first.ids[:count].tolist(), first.ids[count:].tolist()),
    }


def measure(trl_python: str, pairs: int, rounds: int) -> list[str]:
    """What goes into the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", rows(make_tokenizer(folder)))
        settings = [*overrides(folder), *OPTIONS, f"training.batch_size={pairs}"]
        facts = prepare(folder, settings)
        trl: list[str | Path] = [trl_python, "-m", "benchmarks.peers.trl_dpo", folder]
        trl += ["--pairs", str(pairs), "--chunk", str(CHUNK), "--warmup", str(WARMUP), "--threads", str(THREADS)]
        commands = {
            "ostinato": ours(CONFIG, settings, CHUNK, WARMUP),
            "TRL by default, gradient checkpointing on": [*trl, "--recompute"],
            "TRL, gradient checkpointing off": trl,
        }
        seconds = seconds_in_turns(commands, rounds, facts)
    size = {name: value / ROWS for name, value in facts.items() if "tokens" in name}
    told = f"- {pairs} pairs a step; of a pair {json.dumps({n: round(v, 1) for n, v in size.items()})}"
    lines = time_lines(seconds["wall"], pairs, "pairs")
    return [told, *lines, *ratio_lines(seconds, "aim: at least 4", of_peer=True)]


def main() -> None:
    """A Llama of width 192, 4 layers, 4,096 tokens in the vocabulary; sigmoid, beta 0.1, frozen reference, fp32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment that has trl")
    parser.add_argument("--pairs", type=int, default=8, help="per step; 8 is TRL's default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--print-only", action="store_true", help="do not append to docs/log.md")
    arguments = parser.parse_args()
    if not has_trl(arguments.trl_python):
        return
    lines = measure(arguments.trl_python, arguments.pairs, arguments.rounds)
    record("DPO, TRL's DPOTrainer", [main.__doc__ or "", *lines], print_only=arguments.print_only)


if __name__ == "__main__":
    main()
