"""GRPO of a tiny Llama, fp32: whole steps of our trainer beside TRL's GRPOTrainer, which samples with transformers.

Both are processes that take turns, from the same weights with the same prompts and reward; TRL needs
requirements-bench.lock:

    python -m benchmarks.grpo [--trl-python /path/to/environment/bin/python] [--print-only]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import THREADS, record
from benchmarks.processes import ours, ratio_lines, seconds_in_turns, time_lines
from benchmarks.sft import has_trl
from benchmarks.tiny_llama import Passages, hand_over, log_prob, make_tokenizer, make_trainer, overrides, write_rows
from ostinato.data.tokenizer import Tokenizer

CONFIG, ROWS, PROMPTS, GROUP, NEW_TOKENS, CHUNK, WARMUP = "configs/algorithms/grpo.yaml", 200, 4, 8, 64, 2, 2
ENDS_WITH_A_VOWEL = ".*[aeiou]"
OPTIONS = [
    *(f"training.batch_size={PROMPTS}", f"grpo.group_size={GROUP}", f"generation.max_new_tokens={NEW_TOKENS}"),
    *("data.sequence_length=256", "grpo.kl_coefficient=0.04", "grpo.kl_where=loss", "training.learning_rate=1e-6"),
    *("rewards.vowel.name=format", f"rewards.vowel.pattern='{ENDS_WITH_A_VOWEL}'"),
]


def rows(tokenizer: Tokenizer) -> Iterator[dict[str, str]]:
    """Prompts of about 60 tokens."""
    passage = Passages(tokenizer)
    return ({"prompt": passage.prompt(50, 70)} for _ in range(ROWS))


def prepare(folder: Path, settings: list[str]) -> dict[str, float]:
    """Weights, tokenizer and rows for both sides; the facts by which it is known that they do the same."""
    trainer = make_trainer(CONFIG, settings)
    hand_over(trainer, folder / "model")
    prompts = trainer.parts.data.train["train"]
    (first, second), count = (prompts[number].ids for number in range(2)), len(prompts)
    return {
        "tokens of all prompts": sum(prompts.length(number) for number in range(count)),
        "log p(second prompt | first)": log_prob(trainer, first, second),
    }


def measure(trl_python: str, rounds: int) -> list[str]:
    """What goes into the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", rows(make_tokenizer(folder)))
        settings = [*overrides(folder), *OPTIONS]
        facts = prepare(folder, settings)
        trl: list[str | Path] = [trl_python, "-m", "benchmarks.peers.trl_grpo", folder]
        trl += ["--prompts", str(PROMPTS), "--group", str(GROUP), "--new-tokens", str(NEW_TOKENS)]
        trl += ["--pattern", ENDS_WITH_A_VOWEL]
        trl += ["--chunk", str(CHUNK), "--warmup", str(WARMUP), "--threads", str(THREADS)]
        commands = {
            "ostinato": ours(CONFIG, settings, CHUNK, WARMUP),
            "TRL by default, gradient checkpointing on": [*trl, "--recompute"],
            "TRL, gradient checkpointing off": trl,
        }
        seconds = seconds_in_turns(commands, rounds, facts)
    return [*time_lines(seconds["wall"]), *ratio_lines(seconds, "aim: at most 0.5", of_peer=False)]


def main() -> None:
    """A Llama of width 192, 4 layers, 4,096 tokens in the vocabulary; 4 prompts of about 60 tokens x 8 samples of 64
    new tokens, KL 0.04, a regular expression for a reward, one update; whole steps, fp32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment that has trl")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--print-only", action="store_true", help="do not append to docs/log.md")
    arguments = parser.parse_args()
    if not has_trl(arguments.trl_python):
        return
    lines = measure(arguments.trl_python, arguments.rounds)
    record("GRPO, TRL's GRPOTrainer", [main.__doc__ or "", *lines], print_only=arguments.print_only)


if __name__ == "__main__":
    main()
