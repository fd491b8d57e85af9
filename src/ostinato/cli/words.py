"""What `train` says at its start, at an evaluation, and at its end: facts first, then what to type next."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.cli.curves import curve
from ostinato.cli.start_text import describe
from ostinato.core.stopping import StopRequested
from ostinato.experiment.run_view import RunView
from ostinato.training.build import Built

LAST_NUMBERS = (
    "loss",
    "reward/mean",
    "validation/loss",
    "validation/perplexity",
    "validation/accuracy",
    "validation/reward/mean",
)


TOLD = {*LAST_NUMBERS, "validation/token_accuracy", "validation/rewards/accuracy", "validation/bits_per_byte"}


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
    facts = [*describe(built.trainer, built.tier), *([built.vocabulary] if built.vocabulary else [])]
    return "\n".join([f"run        {folder} ({how})", *facts, "data", indent(receipts)])


def indent(text: str, by: str = "  ") -> str:
    return "\n".join(by + line for line in text.splitlines())


def eval_text(step: int, metrics: Mapping[str, float]) -> str:
    """`step 500  validation/loss 1.8765  validation/perplexity 6.5300`: what matters most; the row has all of them."""
    told = [name for name in metrics if name.removesuffix("_average") in TOLD] or list(metrics)[:3]
    return f"step {step}  " + "  ".join(f"{name} {with_error(metrics, name)}" for name in told)


def stopped_text(folder: Path, step: int, request: StopRequested) -> str:
    """After a stop signal: what is saved, and how to go on."""
    name = signal.Signals(request.number).name
    saved = f"step {step} is saved" if step else "no step was done yet, nothing is lost"
    return (
        f"stopped by {name}: {saved}.\n  continue it     ostinato train --resume --name {folder.name}{root_of(folder)}"
    )


def root_of(folder: Path) -> str:
    return "" if str(folder.parent) == "experiments" else f" -o experiment.output_root={folder.parent}"


def closing_text(folder: Path, prompt: str | None = "Once upon a time", report: Path | None = None) -> str:
    """The last numbers, what changed, and what to type next; `prompt` None: it is no model that can be sampled."""
    run = RunView(folder)
    lines = [f"done       {folder}: step {run.step}"]
    by_kind = {kind: [row for row in run.history() if row["kind"] == kind] for kind in ("train", "eval")}
    for rows in by_kind.values():
        told = {name: rows[-1][name] for name in LAST_NUMBERS if rows and name in rows[-1]}
        lines[0] += "".join(f", {n} {v:.4f}" for n, v in told.items() if isinstance(v, float))
    lines += changes(by_kind["train"], by_kind["eval"])
    root = "" if str(folder.parent) == "experiments" else f" --root {folder.parent}"
    lines += [f"  sample from it  ostinato generate {folder} --prompt '{prompt}'"] if prompt is not None else []
    if any((folder / "outputs" / "samples").glob("step_*.jsonl")):
        lines.append(f"  what it said    ostinato runs samples {folder.name}{root}")
    lines += [f"  report          {report}"] if report is not None else []
    return "\n".join(
        [
            *lines,
            f"  what ran        ostinato runs show {folder.name}{root}",
            f"  curves          tensorboard --logdir {folder / 'logs' / 'tensorboard'}",
        ]
    )


def changes(train: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> list[str]:
    """The curve of the loss or the reward, and a held-out score before and after with its standard errors."""
    name = "reward/mean" if train and "reward/mean" in train[-1] else "loss"
    lines = [f"  {name:15} {curve([row[name] for row in train])}"] if len(train) > 1 else []
    score = "validation/reward/mean" if held_out and "validation/reward/mean" in held_out[-1] else "validation/loss"
    if len(held_out) > 1 and score in held_out[-1]:
        before, after = (with_error(row, score) for row in (held_out[0], held_out[-1]))
        steps = f"step {held_out[0]['step']} -> {held_out[-1]['step']}"
        lines.append(f"  {'held out':15} {score} {before} -> {after} ({steps})")
    return lines


def with_error(row: Mapping[str, Any], name: str) -> str:
    """`0.523 ± 0.022`, where the row has the standard error."""
    error = row.get(name.replace("/mean", "/standard_error")) if name.endswith("/mean") else None
    return f"{row[name]:.4f}" + (f" ± {error:.4f}" if error is not None else "")


def example_prompt(trainer: Any) -> str | None:
    """One that the model was made for: the config's, or that of the first row; None where it gives no text."""
    if trainer.model_output == "scalar" or trainer.tokenizer is None:
        return None
    data, given = trainer.parts.data, trainer.config.generation.prompts
    first = next(iter(data.train.values()))[0]
    row = getattr(first, "row", {})
    prompt = given[0] if given else row.get("prompt") if isinstance(row, dict) else None
    return prompt if isinstance(prompt, str) and "'" not in prompt and "\n" not in prompt else "Once upon a time"
