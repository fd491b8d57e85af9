"""One training step as `ostinato data show` prints it: its samples as they lie in rows, what is trained on visible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostinato.data.build import Data

TRAINED = re.compile("(⟦.*?⟧)", re.DOTALL)


def step_as_seen(data: Data, step: int, limit: int) -> dict[str, Any]:
    """What a step trains on, as plain values; the first `limit` rows with their text (0: all)."""
    samples = data.plan.samples(step)

    def read(position: int) -> Any:
        return data.train[samples[position].source][samples[position].index]

    items = [data.format.item_at(position, len(samples), read) for position in range(len(samples))]
    lengths = [data.train[sample.source].length(sample.index) for sample in samples]
    layout = data.format.layout(lengths)
    batch = data.format.collate([[items[position] for position in row] for row in layout])
    columns: Any = getattr(batch, "tokens", None)
    while hasattr(columns, "tokens"):  # a batch that holds one of tokens
        columns = columns.tokens
    shown = layout[:limit] if limit else layout
    rows = []
    for row in layout:
        entries = []
        for position in row:
            source, epoch, index = samples[position]
            entry = {"position": position, "source": source, "epoch": epoch, "index": index}
            entry |= {"place": data.train[source].place(index), "tokens": lengths[position]}
            entries.append(entry | ({"text": data.format.describe(items[position])} if row in shown else {}))
        rows.append(entries)
    return {
        "step": step,
        "counts": batch.counts(),
        "tokens": sum(lengths),
        "width": None if columns is None else columns.shape[1],
        "fill": None if columns is None else sum(lengths) / columns.numel(),
        "kinds": {name: part.receipt.kind for name, part in data.train.items() if part.receipt.kind},
        "rows": rows,
    }


def step_as_text(seen: dict[str, Any]) -> Iterator[str]:
    """Lines of what `step_as_seen` gave."""
    samples = sum(map(len, seen["rows"]))
    counts = ", ".join(f"{count:,} {unit}" for unit, count in seen["counts"].items())
    width = "" if seen["width"] is None else f" of {seen['width']:,}, {seen['fill']:.1%} full"
    rows = many(len(seen["rows"]), "row")
    yield f"step {seen['step']}: {many(samples, 'sample')} in {rows}{width}; trained on: {counts}"
    yield from (f"rows of {name} are {kind}" for name, kind in seen["kinds"].items())
    for number, row in enumerate(seen["rows"]):
        if "text" not in row[0]:
            yield f"... and {many(len(seen['rows']) - number, 'more row')} (--rows 0 shows all)"
            return
        tokens = sum(entry["tokens"] for entry in row)
        yield f"\nrow {number}: {many(len(row), 'sample')}" + (f", {tokens:,} tokens" if tokens else "")
        for entry in row:
            size = f", {entry['tokens']:,} tokens" if entry["tokens"] else ""
            name = f"{entry['source']} {entry['index']} (epoch {entry['epoch']}{size})"
            yield f"--- {entry['position']}: {name}  {entry['place']}"
            yield entry["text"]


def many(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def coloured(line: str) -> None:
    """Print to a terminal: what is trained on in green, without its brackets."""
    from rich.console import Console
    from rich.text import Text

    pieces = [(piece[1:-1], "bold green") if piece[:1] == "⟦" else (piece, "") for piece in TRAINED.split(line)]
    Console(highlight=False, soft_wrap=True).print(Text.assemble(*pieces))
