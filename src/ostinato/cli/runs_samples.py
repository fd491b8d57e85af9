"""The samples that a run kept, to read: tables of sampled responses with their rewards, or plain texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.cli.runs_text import value_text
from ostinato.core.errors import UserError
from ostinato.experiment.samples import BETWEEN_TEXTS, Kept, Row, kept_samples, prompt_text

if TYPE_CHECKING:
    from rich.table import Table

NUMBERS = ("score", "advantage", "tokens")
RATIOS = {"prompt": 2, "response": 3}  # columns that share the width that is left, and wrap
PIPE_WIDTH = 120  # where there is no terminal
SHOWN = 10


def kept_steps(run: Path) -> list[Kept]:
    """The steps of a run that left samples, ascending. Raises UserError where none did."""
    kept = kept_samples(run)
    if not kept:
        raise UserError(f"{run.name} kept no samples. logging.samples_interval: N keeps them every N steps.")
    return kept


def chosen_step(kept: Sequence[Kept], step: str | None, run: str) -> Kept:
    """The newest, or the one that is asked for; UserError names those there are."""
    if step is None:
        return kept[-1]
    for one in kept:
        if step.isdecimal() and one.step == int(step):
            return one
    raise UserError(f"--step {step}: {run} kept no samples then, but at {', '.join(str(one.step) for one in kept)}.")


def sorted_rows(rows: Sequence[Row], by: str) -> list[Row]:
    """By score, advantage, tokens or a reward, smallest first, `-NAME` largest first; those without it last."""
    name, down = by.removeprefix("-"), by.startswith("-")
    values = [row.get(name) if name in NUMBERS else (row.get("parts") or {}).get(name) for row in rows]
    having = [(value, row) for value, row in zip(values, rows, strict=True) if value is not None]
    if not having and rows:
        rewards = dict.fromkeys(label for row in rows for label in row.get("parts") or ())
        raise UserError(f"--sort {by}: no sample has {name!r}. Choose of {', '.join([*NUMBERS, *rewards])}.")
    having.sort(key=lambda pair: pair[0], reverse=down)
    return [row for _, row in having] + [row for value, row in zip(values, rows, strict=True) if value is None]


def columns_of(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Cells by column; a column without any is left out."""
    rewards = [{label: value_text(v) or "none" for label, v in (row.get("parts") or {}).items()} for row in rows]
    columns = {
        "prompt": [prompt_text(row.get("prompt", "")) for row in rows],
        "response": [str(row.get("response", "")) for row in rows],
        "score": [value_text(row.get("score")) for row in rows],
        "rewards": ["\n".join(f"{label} {value}" for label, value in one.items()) for one in rewards],
        "advantage": [value_text(row.get("advantage")) for row in rows],
        "stop": [str(row.get("stop_reason", "")) for row in rows],
        "tokens": [value_text(row.get("tokens")) for row in rows],
    }
    return {name: cells for name, cells in columns.items() if any(cells)}


def render(rows: Sequence[Row]) -> Table:
    """A table whose prompts and responses wrap."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = columns_of(rows)
    table = Table(box=box.SIMPLE_HEAD, expand=True, show_lines=True, pad_edge=False)
    for name in columns:
        ratio = RATIOS.get(name)
        side: Any = "right" if name in NUMBERS else "left"
        table.add_column(name, ratio=ratio, no_wrap=ratio is None, overflow="fold", justify=side)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def printable(text: str) -> str:
    """With what would command a terminal written out: a model may say anything."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(kept: Kept, rows: Sequence[Row]) -> None:
    """Print them, in the width of the terminal or, into a pipe, in one of their own."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if kept.is_table:
        console.print(render(rows))
    else:
        console.print(BETWEEN_TEXTS.join(printable(row["text"]) for row in rows), markup=False, soft_wrap=True)
