"""`ostinato import SOURCE --name N`: a model from elsewhere as a run to start from, sample from and export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json


@click.command("import")
@click.argument("source")
@click.option("--name", required=True, help="The name of the run.")
@ROOT
@JSON
def command(source: str, name: str, root: Path, as_json: bool) -> None:
    """Copy a model into a run folder, verified and hashed, with a record of where it came from.

    SOURCE is a folder with config.json and safetensors, hub:ORG/NAME@REVISION, a run (its name, run:NAME@step) or
    a checkpoint's folder. Then run:N, `generate N`, `export N` and `runs show N` know it.
    """
    from ostinato.cli.export import find_model
    from ostinato.experiment.imported import check_free, create_imported
    from ostinato.training.import_model import import_model

    check_free(root, name)
    origin, _, _ = find_model(source, root, None)
    found = import_model(origin)
    facts = {
        "model": found.model,
        "tokenizer": found.tokenizer and {"fingerprint": found.tokenizer.fingerprint},
        "imported": {"source": source_of(source), "hash": found.hash, **origin.lineage},
    }
    folder = create_imported(root, name, facts, found.write, sys.argv)
    told = {"run": str(folder), "model": found.model, "hash": found.hash, "tensors": len(found.tensors)}
    if as_json:
        return print_json(told)
    click.echo(f"{folder}: {found.model}, {len(found.tensors)} tensors, from {source}")
    at = "" if str(root) == "experiments" else f" --root {root}"
    click.echo(f"  start from it   model: {{init_from: run:{name}}}")
    if found.tokenizer is not None:
        click.echo(f"  sample from it  ostinato generate {name}{at} --prompt '...'")


def source_of(source: str) -> str:
    """Folders by their full path, so that the record says the same from everywhere."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source
