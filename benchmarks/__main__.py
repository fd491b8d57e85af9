"""`make bench`, or `python -m benchmarks [NAME...]`: every benchmark, or those named; results go to docs/log.md."""

from __future__ import annotations

import importlib
import sys

NAMES = ["startup", "overhead", "sft", "dpo", "grpo", "lora_memory", "generation", "nanogpt", "loading"]


def main(names: list[str]) -> None:
    """Run the benchmarks one after the other."""
    if unknown := [name for name in names if name not in NAMES]:
        sys.exit(f"unknown benchmark {', '.join(unknown)}. Known: {', '.join(NAMES)}.")
    sys.argv[1:] = []  # each has a command line of its own: python -m benchmarks.NAME --help
    for name in names or NAMES:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
