"""What a run stands on, as lines of a tree: the runs and models that it began from, the runs that it needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ostinato.experiment.lineage import Lineage, read_lineage
from ostinato.experiment.reading import read_or_empty

WORDS = {"began_from": "began from", "pin": "needed", "reproduces": "repeats"}


def ancestry(run: Path, step: int | None) -> list[str]:
    """`sft @500`, below it `began from base @100`, and so on, two columns further in for each generation."""
    run = run.resolve()
    lineage = read_lineage(run.parent)
    record = read_or_empty(run / "metadata.json")
    name = str(record.get("name") or run.name)
    first = name + (imported(record) or at(step))
    return [first, *_above(str(record.get("id") or run.name), lineage, "  ", {name})]


def _above(run: str, lineage: Lineage, indent: str, seen: set[str]) -> Iterator[str]:
    for edge in lineage.edges:
        if edge.child != run or edge.kind not in WORDS:
            continue
        node = lineage.nodes[edge.parent]
        record = read_or_empty(Path(node.folder) / "metadata.json") if node.folder else {}
        name = Path(node.name).name if node.state == "a folder" else node.name  # nobody's disk is described
        problem = f" [{edge.problem}]" if edge.problem else ""
        yield f"{indent}{WORDS[edge.kind]} {name}{at(edge.step)}{imported(record)}{problem}"
        if edge.parent not in seen:
            yield from _above(edge.parent, lineage, indent + "  ", seen | {edge.parent})


def at(step: int | None) -> str:
    """` @500`."""
    return "" if step is None else f" @{step}"


def imported(record: Mapping[str, Any]) -> str:
    """Where an imported model came from."""
    found = record.get("imported") or {}
    return f", imported from {source_name(found)}" if found else ""


def source_name(found: Mapping[str, Any]) -> str:
    """`hub:org/name@revision`, or the name of a folder and the hash of what was in it."""
    source = str(found.get("hub") or found.get("source", ""))
    return source if source.startswith("hub:") else f"{Path(source).name} ({found.get('hash')})"


def base_model(run: Path) -> str | None:
    """`org/name` of the hub's model that all of it began from, where that is known."""
    lineage = read_lineage(run.resolve().parent)
    child = str(read_or_empty(run / "metadata.json").get("id") or run.name)
    seen: set[str] = set()
    while child not in seen:
        seen.add(child)
        folder = lineage.nodes[child].folder if child in lineage.nodes else None
        record = read_or_empty(Path(folder) / "metadata.json") if folder else {}
        began = (record.get("lineage") or {}).get("init_from") or {}
        for source in (record.get("imported") or {}, began):
            if isinstance(hub := source.get("hub"), str):
                return hub.removeprefix("hub:").partition("@")[0]
        child = next((e.parent for e in lineage.edges if e.child == child and e.kind == "began_from"), child)
    return None
