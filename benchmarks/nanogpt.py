"""nanoGPT's CPU line beside `configs/experiments/shakespeare_char.yaml`.

First the two take turns step by step in one process (`--whole` adds both commands from start to end, minutes each).
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import DATA, ROOT, THREADS, library_text, record, run_json, spread, take_turns
from benchmarks.peers import nanogpt
from benchmarks.turns import PeerStep, take_turns_in_a_run
from ostinato.data.batches import TokenBatch
from ostinato.training.trainer import BaseTrainer

CONFIG = "configs/experiments/shakespeare_char.yaml"


def training_text(folder: Path) -> Path:
    """Tiny Shakespeare beside the project, else as much of the standard library's source."""
    path = DATA / "tinyshakespeare.txt"
    if path.exists():
        return path
    path = folder / "text.txt"
    path.write_text("".join(library_text(1_115_394)), "utf-8")
    return path


def make_peer(data: Path, vocabulary: int) -> PeerStep:
    """One iteration of nanoGPT's loop, its random windows and its printing included."""
    torch.manual_seed(1337)
    model = nanogpt.Model(vocabulary)
    groups = [[p for p in model.parameters() if (p.ndim >= 2) is decayed] for decayed in (True, False)]
    decay = [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decay, lr=1e-3, betas=(0.9, 0.99))
    sink = io.StringIO()

    def step(_: Sequence[TokenBatch]) -> None:
        loss = model(*nanogpt.draw(data))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(f"loss {loss.item():.4f}", file=sink)

    return step


def whole_commands(text: Path, folder: Path) -> list[str]:
    """2,000 steps, evaluations and checkpoints included; ours with its start-up, nanoGPT from its model on."""

    def ours() -> float:
        name, started = f"run{time.time_ns()}", time.perf_counter()
        settings = [f"data.train.path={text}", f"experiment.output_root={folder}", f"training.threads={THREADS}"]
        options = [part for setting in settings for part in ("-o", setting)]
        command = [str(Path(sys.executable).with_name("ostinato")), "train", str(ROOT / CONFIG), "--name", name]
        subprocess.run([*command, *options], stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - started
        rows = map(json.loads, (folder / name / "logs" / "metrics.jsonl").read_text().splitlines())
        losses["ostinato"] = [row["validation/loss"] for row in rows if row["kind"] == "eval"][-1]
        return seconds

    def theirs() -> float:
        result = run_json([sys.executable, "-m", "benchmarks.peers.nanogpt", text, "--threads", str(THREADS)])
        losses["nanoGPT"] = result["whole_loss"]
        return result["seconds"]

    losses: dict[str, float] = {}
    kept = take_turns({"ostinato": ours, "nanoGPT": theirs}, rounds=2)
    ratios = [a / b for a, b in zip(kept["ostinato"], kept["nanoGPT"], strict=True)]
    lines = [f"- {name}, whole command: {spread(kept[name])} s; loss {losses[name]:.4f} nats" for name in kept]
    return [*lines, f"- time, ostinato / nanoGPT, whole commands (aim: at most 0.8): {spread(ratios)}"]


def main() -> None:
    """A GPT-2 shape, 4 layers of width 128, 12 windows of 64 characters a step; loss over the whole held-out tenth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", action="store_true", help="both commands from start to end as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = training_text(folder)
        vocabulary = nanogpt.prepare(text, folder)

        def peer(_: BaseTrainer) -> PeerStep:
            return make_peer(folder / "train.bin", vocabulary)

        overrides = [f"data.train.path={text}", f"experiment.output_root={folder}"]
        turns = take_turns_in_a_run(CONFIG, overrides, peer, chunk=25, rounds=16)
        lines = [main.__doc__ or "", *turns.lines("nanoGPT's loop")]
        record("nanoGPT's CPU line", lines + (whole_commands(text, folder) if arguments.whole else []))


if __name__ == "__main__":
    main()
