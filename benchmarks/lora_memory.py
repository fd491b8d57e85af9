"""GRPO with a KL term: the memory of training all weights beside that of training an adapter, in units of the weights.

Each is a process of its own, in which whole steps are done:

    python -m benchmarks.lora_memory [--width 512] [--layers 8] [--print-only]
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import THREADS, record, run_json
from benchmarks.tiny_llama import make_trainer, write_rows

STEPS, MIB = 2, 1 << 20
CONTENDERS = {
    "all weights": [],
    "LoRA": ["model.adapter.name=lora"],
    "LoRA, base in bf16": ["model.adapter.name=lora", "model.adapter.base_dtype=bfloat16"],
}


def settings(folder: Path, width: int, layers: int) -> list[str]:
    """A Llama on bytes, four prompts, four samples of each."""
    return [
        *("model.name=transformer", f"model.width={width}", f"model.layers={layers}", "model.heads=8"),
        *("tokenizer.name=byte", "data.train.name=jsonl", f"data.train.path={folder / 'rows.jsonl'}"),
        *("data.sequence_length=64", "training.batch_size=4", "training.micro_batch_size=2", "grpo.group_size=4"),
        *(f"training.total_steps={STEPS}", "generation.max_new_tokens=16", "grpo.kl_coefficient=0.04"),
        *("rewards.short.name=length", f"training.threads={THREADS}", "training.learning_rate=1e-4"),
    ]


def held_bytes() -> int:
    """Of all tensors that are alive, each storage once."""
    alive = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in alive}.values())


def peak_bytes() -> int:
    """The most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(overrides: list[str]) -> None:
    """Train, then print what was held: one line of JSON."""
    torch.zeros(1).sum()
    before = peak_bytes()
    trainer = make_trainer("configs/algorithms/grpo.yaml", overrides)
    parameters = {one: one.numel() for one in trainer.model.parameters()}
    trained = sum(count for one, count in parameters.items() if one.requires_grad)
    trainer.train()
    gc.collect()
    facts = {"parameters": sum(parameters.values()), "trained": trained, "held": held_bytes()}
    print(json.dumps({**facts, "peak": peak_bytes() - before}))


def measure(width: int, layers: int) -> list[str]:
    """What goes into the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", ({"prompt": f"{number} and {number}"} for number in range(40)))
        command = [sys.executable, "-m", "benchmarks.lora_memory", "--child", *settings(folder, width, layers)]
        found = {label: run_json([*command, *extra]) for label, extra in CONTENDERS.items()}
    weights = 4 * found["all weights"]["parameters"]
    lines = [f"The weights in fp32: {weights / MIB:.0f} MiB.", ""]
    lines += ["| | trained | held between steps | peak of the process |", "|---|---|---|---|"]
    for label, one in found.items():
        held, peak = (f"{one[key] / MIB:.0f} MiB, {one[key] / weights:.2f} x" for key in ("held", "peak"))
        lines.append(f"| {label} | {one['trained'] / MIB:.2f} M | {held} | {peak} |")
    return lines


def main() -> None:
    """GRPO with KL 0.04 on the CPU, AdamW, 4 prompts x 4 samples of 16 bytes, two steps. Held between steps: every
    tensor that is alive. Peak: the most memory of the process, less what it had before the model was built; sampling
    lays the weights out once more, and lets go of them when it ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--print-only", action="store_true", help="do not append to docs/log.md")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        return child(arguments.child)
    lines = measure(arguments.width, arguments.layers)
    record("GRPO, memory with an adapter", [main.__doc__ or "", *lines], print_only=arguments.print_only)
    return None


if __name__ == "__main__":
    main()
