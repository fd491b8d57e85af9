"""README.md of an exported model: what it is, what it comes from, how it was trained and measured, how it is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.experiment.ancestry import ancestry, base_model
from ostinato.experiment.facts import NOT_METRICS
from ostinato.experiment.model_loading import loading_text
from ostinato.experiment.reading import counting, read_or_empty, read_rows
from ostinato.experiment.report_text import value

PLAIN = re.compile(r"[A-Za-z][\w./-]*")
KINDS = {"causal": "language model", "scores": "reward model: one number for a text", "own": "model of ostinato"}
KINDS["adapter"] = "low-rank adapter of a language model"
LIBRARIES = {"own": "ostinato", "adapter": "peft"}
TASKS = {"causal": "text-generation", "adapter": "text-generation", "scores": "text-classification"}


@dataclass(frozen=True)
class CardFacts:
    """What the weights' side knows. `kind`: causal, scores or own; `facts`: further lines of the table."""

    name: str
    kind: str
    architecture: str | None
    parameters: int
    dtype: str
    facts: Mapping[str, Any]
    notes: Sequence[str]
    chat: bool


def model_card(model: CardFacts, run: Path | None, step: int | None, ostinato: str) -> str:
    """The whole text. `run`: the folder of the run that it is of; None for a model that no run here made."""
    parts = [head(model, run), f"# {escaped(model.name)}", summary(model, run, step, ostinato), table(model)]
    if run is not None:
        parts += [lineage_text(run, step), training_text(run), evaluation_text(run, step)]
    parts += [loading_text(model.name, model.kind, model.chat)]
    return "\n\n".join(part for part in parts if part) + "\n"


def head(model: CardFacts, run: Path | None) -> str:
    """The YAML that a hub reads. The licence is not ours to say."""
    record = read_or_empty(run / "metadata.json") if run else {}
    lines = ["---", "license: unknown"]
    if run is not None and (base := base_model(run)):
        lines.append(f"base_model: {yaml_text(base)}")
    lines.append(f"library_name: {LIBRARIES.get(model.kind, 'transformers')}")
    if model.kind in TASKS:
        lines.append(f"pipeline_tag: {TASKS[model.kind]}")
    tags = ["ostinato", record.get("algorithm"), *(record.get("tags") or [])]
    lines += ["tags:", *(f"- {yaml_text(str(tag))}" for tag in dict.fromkeys(tags) if tag and tag != "imported")]
    return "\n".join([*lines, "---"])


def summary(model: CardFacts, run: Path | None, step: int | None, ostinato: str) -> str:
    """Two or three sentences."""
    of = f" from step {step} of the run `{run.name}`" if run is not None else ""
    first = f"A {KINDS[model.kind]}, written{of} by ostinato {ostinato}."
    notes = [note[0].upper() + note[1:] + "." for note in model.notes]
    licence = "Its licence was not recorded: that of its data and of the model it began from apply."
    return " ".join([first, *map(escaped, notes), licence])


def table(model: CardFacts) -> str:
    """What it is."""
    facts = {
        "class": model.architecture or "ostinato's own",
        "parameters": f"{model.parameters:,}",
        "type": model.dtype,
    }
    return rows_text(["", ""], [[name, str(found)] for name, found in {**facts, **model.facts}.items()])


def lineage_text(run: Path, step: int | None) -> str:
    """The tree of what it stands on."""
    return "\n".join(["## Lineage", "", "```", *ancestry(run, step), "```"])


def training_text(run: Path) -> str:
    """Algorithm, data, hashes; nothing for a model that was only imported."""
    record = read_or_empty(run / "metadata.json")
    if record.get("imported"):
        return ""
    hashes, data = record.get("hashes") or {}, record.get("data") or {}
    code = [f"{one.get('role')} {one['tree'][:12]}" for one in record.get("code") or [] if one.get("tree")]
    facts = {
        "algorithm": record.get("algorithm"),
        "seed": record.get("seed"),
        "numerics": record.get("numerics"),
        "config (SHA-256)": hashes.get("full") and f"`{hashes['full']}`",
        "data plan": data.get("plan") and f"`{data['plan']}`",
        "tokenizer": (record.get("tokenizer") or {}).get("fingerprint"),
        "code": ", ".join(code),
        "hardware": record.get("hardware"),
        "ostinato": record.get("ostinato"),
    }
    lines = ["## Training", "", rows_text(["", ""], [[k, str(v)] for k, v in facts.items() if v not in (None, "")])]
    sources = [
        [str(one.get("name")), str(one.get("rows")), str(one.get("used")), f"`{one.get('fingerprint')}`"]
        for one in data.get("sources", [])
    ]
    if sources:
        lines += ["", rows_text(["data", "rows", "used", "fingerprint"], sources)]
    return "\n".join(lines)


def evaluation_text(run: Path, step: int | None) -> str:
    """The last held-out metrics up to that step."""
    rows = [row for row in counting(read_rows(run)) if row["kind"] == "eval"]
    rows = [row for row in rows if step is None or row["step"] <= step]
    if not rows:
        return ""
    found = {name: amount for name, amount in rows[-1].items() if name not in NOT_METRICS}
    lines = [[f"`{name}`", value(amount)] for name, amount in found.items() if not isinstance(amount, (list, dict))]
    return f"## Evaluation, at step {rows[-1]['step']}\n\n" + rows_text(["metric", "value"], lines)


def rows_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(_lines([header, ["---"] * len(header), *rows]))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield "| " + " | ".join(cell if set(cell) == {"-"} else escaped(cell) for cell in row) + " |"


def escaped(text: str) -> str:
    """On one line, and nothing of it a mark of Markdown or HTML; code in backticks as it is."""
    if text.startswith("`") and text.endswith("`") and len(text) > 1:
        return text.replace("|", "\\|")
    return re.sub(r"([\\|<>*_`\[\]#])", r"\\\1", " ".join(text.split()))


def yaml_text(text: str) -> str:
    """A string of YAML."""
    return text if PLAIN.fullmatch(text) and text not in ("true", "false", "null", "yes", "no") else json.dumps(text)
