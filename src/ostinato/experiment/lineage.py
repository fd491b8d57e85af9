"""Which run began from which checkpoint of which other, and who else needs a checkpoint: edges, read from both ends.

A child records its parent in `metadata.json`; the parent has a pin with the child's id in `checkpoints/pins/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core.manifest import Damaged, NewerFormat, read_checkpoint
from ostinato.experiment.finding import run_folders
from ostinato.experiment.reading import read_or_empty, state_of

PIN = re.compile(r"(?P<run>.+)-step_(?P<step>\d{8,})\.json")


@dataclass(frozen=True)
class Node:
    """A run, by its id; `state` is `missing` for one that is only heard of."""

    id: str
    name: str
    state: str
    folder: str | None


@dataclass(frozen=True)
class Edge:
    """`child` needs step `step` of `parent`: `began_from`, `pin` (a teacher, a reward model, ...), or `reproduces`."""

    parent: str
    child: str
    step: int | None
    kind: str
    problem: str | None = None


@dataclass(frozen=True)
class Lineage:
    """All runs below a root by id, and the edges between them and to runs that are only heard of."""

    nodes: Mapping[str, Node]
    edges: list[Edge]

    def around(self, run: str) -> Lineage:
        """Only what a run comes from, with all that comes from it."""
        kept: set[Edge] = set()
        for near, far in (("child", "parent"), ("parent", "child")):
            ends, seen = [run], {run}
            while ends:
                end = ends.pop()
                found = [edge for edge in self.edges if getattr(edge, near) == end]
                kept.update(found)
                further = [getattr(edge, far) for edge in found if edge.kind == "began_from"]
                ends += [other for other in further if other not in seen]
                seen.update(further)
        edges = [edge for edge in self.edges if edge in kept]
        known = {run, *(end for edge in edges for end in (edge.parent, edge.child))}
        return Lineage({name: node for name, node in self.nodes.items() if name in known}, edges)


def read_lineage(root: Path) -> Lineage:
    """The lineage of all runs directly below a root."""
    folders = run_folders(root)
    records = {folder: read_or_empty(folder / "metadata.json") for folder in folders}
    ids = {folder: str(record.get("id") or folder.name) for folder, record in records.items()}
    nodes = {ids[f]: Node(ids[f], f.name, state_of(f, clock_folder=root), str(f)) for f in folders}
    edges: dict[tuple[str, str, int | None], Edge] = {}
    for folder, record in records.items():
        lineage = record.get("lineage")
        for edge, name in _from_child(ids[folder], lineage if isinstance(lineage, dict) else {}, nodes):
            nodes.setdefault(edge.parent, Node(edge.parent, name, _elsewhere(edge.parent), None))
            edges[edge.parent, edge.child, edge.step] = edge
    for folder in folders:
        for child, step in _pins(folder):
            nodes.setdefault(child, Node(child, child, "missing", None))
            problem = needed_problem(folder, step, None)
            edges.setdefault((ids[folder], child, step), Edge(ids[folder], child, step, "pin", problem))
    ranked = sorted(edges.values(), key=lambda edge: (edge.kind, edge.step or 0, nodes[edge.child].name))
    return Lineage(nodes, ranked)


def _from_child(child: str, lineage: Mapping[str, Any], nodes: Mapping[str, Node]) -> Iterator[tuple[Edge, str]]:
    """The edges that a run records, with its parent's name."""
    began = lineage.get("init_from")
    if isinstance(began, dict) and (parent := began.get("id") or began.get("hub") or began.get("folder")):
        step, node = began.get("step"), nodes.get(parent)
        if node is not None and node.folder is not None:
            problem = needed_problem(Path(node.folder), step, began.get("checkpoint"))
        else:
            problem = None if _elsewhere(parent) != "missing" else "its run is not here"
        yield Edge(parent, child, step, "began_from", problem), str(began.get("run") or parent)
    again = lineage.get("reproduces")
    name = again.get("run") if isinstance(again, dict) else again
    parent = again.get("id") if isinstance(again, dict) else None
    if parent or name:
        known = parent or next((node.id for node in nodes.values() if name in (node.name, node.id)), str(name))
        yield Edge(known, child, None, "reproduces", None if known in nodes else "its run is not here"), str(name)


def _elsewhere(parent: str) -> str:
    if parent.startswith("hub:"):
        return "a hub"
    return "a folder" if "/" in parent and Path(parent).is_dir() else "missing"


def _pins(folder: Path) -> Iterator[tuple[str, int]]:
    """(id of the run that needs it, step) of each pin; the name of the file says both, whatever is in it."""
    for path in sorted((folder / "checkpoints" / "pins").glob("*.json")):
        if match := PIN.fullmatch(path.name):
            yield match["run"], int(match["step"])


def needed_problem(run: Path, step: Any, recorded: str | None) -> str | None:
    """What is wrong with the checkpoint that a child needs, by its manifest alone (`runs verify` reads all of it)."""
    if not isinstance(step, int):
        return None
    folder = run / "checkpoints" / f"step_{step:08d}"
    if not folder.is_dir():
        return "the checkpoint is missing"
    try:
        manifest = read_checkpoint(folder)
    except (Damaged, NewerFormat, OSError, KeyError, TypeError) as error:
        return f"the checkpoint is damaged: {error}"
    if recorded not in (None, manifest["xxh3"]):
        return "the checkpoint is no longer the one it began from"
    return None
