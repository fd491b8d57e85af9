"""What `train` says at its start, at an evaluation, and at its end: facts first, then what to type next."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from ostinato.core.stopping import StopRequested
from ostinato.experiment.reading import RunView
from ostinato.training.build import Built, describe

LAST_NUMBERS = (
    "loss",
    "reward/mean",
    "validation/loss",
    "validation/perplexity",
    "validation/accuracy",
    "validation/reward/mean",
)


def opening_text(built: Built, folder: Path, resumed_from: int | None) -> str:
    """Run, data receipt, model, batch, numerics. The receipt is also written to outputs/samples/data.txt."""
    receipts = "\n".join(receipt.render() for receipt in built.trainer.parts.data.receipts)
    (folder / "outputs" / "samples" / "data.txt").write_text(receipts + "\n", encoding="utf-8")
    if resumed_from is None:
        how = "new"
    elif resumed_from == 0:
        how = "resumed: no checkpoint was ever written, so it starts at step 1"
    else:
        how = f"resumed after step {resumed_from}"
    return "\n".join([f"run        {folder} ({how})", *describe(built.trainer, built.tier), "data", indent(receipts)])


def indent(text: str, by: str = "  ") -> str:
    return "\n".join(by + line for line in text.splitlines())


def eval_text(step: int, metrics: Mapping[str, float]) -> str:
    """`step 500  validation/loss 1.8765  validation/perplexity 6.53`."""
    return f"step {step}  " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def stopped_text(folder: Path, step: int, request: StopRequested) -> str:
    """After a stop signal: what is saved, and how to go on."""
    name = signal.Signals(request.number).name
    saved = f"step {step} is saved" if step else "no step was done yet, nothing is lost"
    return (
        f"stopped by {name}: {saved}.\n  continue it     ostinato train --resume --name {folder.name}{root_of(folder)}"
    )


def root_of(folder: Path) -> str:
    return "" if str(folder.parent) == "experiments" else f" -o experiment.output_root={folder.parent}"


def closing_text(folder: Path) -> str:
    """The last numbers, and what to type next."""
    run = RunView(folder)
    lines = [f"done       {folder}: step {run.step}"]
    for kind in ("train", "eval"):
        rows = [row for row in run.history() if row["kind"] == kind]
        if rows:
            told = {name: rows[-1][name] for name in LAST_NUMBERS if name in rows[-1]}
            lines[0] += "".join(f", {n} {v:.4f}" for n, v in told.items() if isinstance(v, float))
    root = "" if str(folder.parent) == "experiments" else f" --root {folder.parent}"
    return "\n".join(
        [
            *lines,
            f"  sample from it  ostinato generate {folder} --prompt 'Once upon a time'",
            f"  what ran        ostinato runs show {folder.name}{root}",
            f"  curves          tensorboard --logdir {folder / 'logs' / 'tensorboard'}",
        ]
    )
