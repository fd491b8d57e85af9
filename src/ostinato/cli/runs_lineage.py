"""`ostinato runs lineage [RUN]`: `sft @500 -> dpo-1 @1000 -> grpo-2 (running)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostinato.cli.runs import JSON, ROOT, print_json

if TYPE_CHECKING:
    from ostinato.experiment.lineage import Edge, Lineage, Node

MARKS = {"pin": "[pinned by] ", "reproduces": "[repeated as] "}


@click.command("lineage")
@click.argument("run", required=False)
@ROOT
@JSON
def command(run: str | None, root: Path, as_json: bool) -> None:
    """Which run began from which: of all runs, or what RUN comes from and what comes from it."""
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.lineage import read_lineage

    folder = find_run(run, root).resolve() if run else None
    lineage = read_lineage(folder.parent if folder else root)
    chosen = next((n.id for n in lineage.nodes.values() if folder and n.folder == str(folder)), None)
    if chosen is not None:
        lineage = lineage.around(chosen)
    if as_json:
        nodes = [asdict(node) for node in lineage.nodes.values()]
        return print_json({"run": chosen, "runs": nodes, "edges": [asdict(edge) for edge in lineage.edges]})
    lines = list(tree(lineage, chosen))
    click.echo("\n".join(lines) or f"no run in {root} began from another")


def tree(lineage: Lineage, chosen: str | None) -> Iterator[str]:
    """The lines of all trees: from those that began from nothing; a ring of damaged records is cut open somewhere."""
    below: dict[str, list[Edge]] = {}
    for edge in lineage.edges:
        below.setdefault(edge.parent, []).append(edge)
    children = {edge.child for edge in lineage.edges}
    tops = [name for name in lineage.nodes if name not in children and (name in below or name == chosen)]
    drawn: set[str] = set()
    for top in [*tops, *below]:
        if top not in drawn:
            yield from branch("", lineage.nodes[top], lineage, below, drawn, chosen)


def branch(
    prefix: str, node: Node, lineage: Lineage, below: dict[str, list[Edge]], drawn: set[str], chosen: str | None
) -> Iterator[str]:
    """A run and all below it; its first child goes on in its line, others begin below it. `drawn` is added to."""
    text = prefix + label(node, chosen)
    edges = [] if node.id in drawn else below.get(node.id, [])
    drawn.add(node.id)
    if not edges:
        yield text
    for number, edge in enumerate(edges):
        at = "" if edge.step is None else f" @{edge.step}"
        problem = f" [{edge.problem}]" if edge.problem else ""
        start = (text if number == 0 else " " * len(text)) + f"{at}{problem} -> {MARKS.get(edge.kind, '')}"
        child = lineage.nodes[edge.child]
        if edge.kind == "began_from":
            yield from branch(start, child, lineage, below, drawn, chosen)
        else:
            yield start + label(child, chosen)


def label(node: Node, chosen: str | None) -> str:
    """The name, with the state unless it is completed; `*` marks the run that was asked for."""
    return ("*" if node.id == chosen else "") + node.name + (f" ({node.state})" if node.state != "completed" else "")
