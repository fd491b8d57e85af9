"""`ostinato export RUN_OR_MODEL --to DIR`: a model in Hugging Face's form, for transformers and what reads the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ostinato.cli.runs import JSON, ROOT, print_json

if TYPE_CHECKING:
    from ostinato.training.export import Exported
    from ostinato.training.weights import Origin


@click.command("export")
@click.argument("source", metavar="RUN_OR_MODEL")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--step", type=int, help="The checkpoint of this step; default: the newest good one.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Round to it; default: as it is stored.")
@click.option("--max-shard-size", "shard", default="5GB", show_default=True, help="The most that one file holds.")
@click.option("--merge", is_flag=True, help="Make the adapter part of the weights; else it alone is written, for peft.")
@click.option("--force", is_flag=True, help="Replace the exported model that is there.")
@ROOT
@JSON
def command(source: str, target: Path, step: int | None, shard: str, root: Path, as_json: bool, **options: Any) -> None:
    """Write config.json, safetensors, tokenizer, generation_config.json and a model card.

    RUN_OR_MODEL is a run's name or folder, run:NAME@step, hub:ORG/NAME@REVISION, or a folder with a model.
    """
    from ostinato.training.export import export_model, size_bytes

    shard_bytes = size_bytes(shard)
    origin, run, config = find_model(source, root, step)
    found = export_model(
        origin,
        target,
        shard_bytes=shard_bytes,
        sampling=config.to_dict()["generation"] if config else None,
        **options,
        card=lambda exported: card_of(exported, target.absolute().name, origin, run),
    )
    if as_json:
        facts = {"to": str(target), "class": found.model.architecture, "dtype": found.dtype, "bytes": found.bytes}
        return print_json({**facts, "parameters": found.parameters, "files": found.files, "notes": found.model.notes})
    what = found.model.architecture or f"{found.model.kind} {found.model.node.name}"
    click.echo(f"{target}: {what}, {found.parameters:,} parameters, {found.dtype}, {found.bytes / 1e6:,.1f} MB")
    for note in found.model.notes:
        click.echo(f"  {note}")


def find_model(source: str, root: Path, step: int | None) -> tuple[Origin, Path | None, Any]:
    """Where the weights are; the folder and the config of the run that they are of, where there is one."""
    from ostinato.cli.generate import find_folder, frozen_config
    from ostinato.core.errors import UserError
    from ostinato.training.weights import find_weights, from_run

    if source.startswith("hub:"):
        return find_weights(source, root, key="source"), None, None
    if source.startswith("run:"):
        name, at, number = source.removeprefix("run:").partition("@")
        if at and (not number.isdecimal() or step not in (None, int(number))):
            raise UserError(f"{source}: the step is a number, and --step is no other one.")
        source, step = name, int(number) if at else step
    folder = find_folder(source, root)
    if (folder / "checkpoints").is_dir():
        config = frozen_config(folder)
        return from_run(folder, step), folder, config
    if step is not None:
        raise UserError(f"--step: {folder} is no run, so it has no steps. Leave --step out.")
    run = run_of(folder)
    config = frozen_config(run) if run else None
    return find_weights(str(folder), root, key="source"), run, config


def run_of(folder: Path) -> Path | None:
    """The run that a checkpoint's folder, or the `model` in it, belongs to."""
    for path in list(folder.resolve().parents)[:3]:
        if path.name == "checkpoints" and (path.parent / "metadata.json").is_file():
            return path.parent
    return None


def card_of(exported: Exported, name: str, origin: Origin, run: Path | None) -> str:
    """README.md."""
    from importlib import metadata

    from ostinato.experiment.model_card import CardFacts, model_card
    from ostinato.experiment.reading import read_or_empty

    tokenizer, config = exported.model.tokenizer, exported.model.config
    facts = {
        "vocabulary": exported.model.inputs.vocab_size or None,
        "context": config.get("max_position_embeddings"),
        "ends of a text": ", ".join(f"`{tokenizer.token(one)}`" for one in tokenizer.eos_ids) if tokenizer else None,
    }
    algorithm = read_or_empty(run / "metadata.json").get("algorithm") if run else None
    model = CardFacts(
        name=name,
        kind=exported.model.kind,
        architecture=exported.model.architecture,
        parameters=exported.parameters,
        dtype=exported.dtype,
        facts={key: value for key, value in facts.items() if value},
        notes=exported.model.notes,
        chat=tokenizer is not None and tokenizer.chat_template is not None and algorithm != "pretrain",
    )
    return model_card(model, run, origin.lineage.get("step"), metadata.version("ostinato"))
