"""`ostinato data`: prepare a config's data, tell what it is, show what a step trains on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ostinato.core.errors import RefusedError, UserError

if TYPE_CHECKING:
    from ostinato.data.build import Data
    from ostinato.data.formats import Samples
    from ostinato.data.tokens import TokenShards


def takes_config(function: Callable[..., None]) -> Callable[..., None]:
    """The argument and options that all verbs share."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
    function = click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a value.")(function)
    return click.argument("config")(function)


@click.group("data")
def command() -> None:
    """Prepare, inspect and show what a config trains on."""


@command.command("prepare")
@takes_config
def prepare(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tokenise a config's data into the cache, once, and print the receipts."""
    data = open_config_data(config, overrides, as_json)
    if as_json:
        print_json({**summary(data), "sources": [about(part) for part in parts_of(data)]})
    else:
        click.echo("\n".join([*(part.receipt.render() for part in parts_of(data)), *head(data)]))


@command.command("inspect")
@takes_config
@click.option("--verify", is_flag=True, help="Hash every byte of the prepared files.")
def inspect(config: str, overrides: tuple[str, ...], as_json: bool, verify: bool) -> None:
    """Print fingerprints, sizes and receipts; exit code 3 where a prepared file is damaged."""
    data = open_config_data(config, overrides, as_json)
    if verify:
        verify_shards(data)
    if as_json:
        return print_json({**summary(data), "verified": verify, "sources": [about(part) for part in parts_of(data)]})
    for part in parts_of(data):
        click.echo(f"{part.label}\n  fingerprint {part.fingerprint}, {len(part):,} samples")
        for shards in shards_of(part):
            size = sum(file["bytes"] for shard in shards.index["shards"] for file in shard["files"].values())
            click.echo(f"  {shards.folder}: {size:,} bytes{', every one as it was written' if verify else ''}")
        click.echo(part.receipt.render())
    click.echo("\n".join(head(data)))


@command.command("show")
@takes_config
@click.option("--step", default=1, show_default=True, type=click.IntRange(min=1), help="Which step.")
@click.option("--rows", default=4, show_default=True, type=click.IntRange(min=0), help="Rows to decode; 0: all.")
def show(config: str, overrides: tuple[str, ...], as_json: bool, step: int, rows: int) -> None:
    """Print the samples of a step as they lie in its rows, decoded, what is trained on in colour or in ⟦ ⟧."""
    from ostinato.cli.data_step import coloured, step_as_seen, step_as_text

    seen = step_as_seen(open_config_data(config, overrides, as_json), step, rows)
    if as_json:
        return print_json(seen)
    write = coloured if sys.stdout.isatty() else click.echo
    for line in step_as_text(seen):
        write(line)


def open_config_data(path: str, overrides: tuple[str, ...], as_json: bool) -> Data:
    """The data of a config, as its algorithm wants it. With JSON asked for, mistakes of the config are JSON too."""
    from ostinato.cli.config import load
    from ostinato.core.registry import ALGORITHMS
    from ostinato.data.build import open_data

    config = load(path, overrides, as_json)
    if config.algorithm.name is None:
        raise UserError(f"{path}: algorithm.name: not set. It decides what samples look like: -o algorithm.name=sft.")
    form = ALGORITHMS.get(config.algorithm.name).sample_format
    if config.model.init_from is None:
        return open_data(config, form)
    from ostinato.training.weights import find_origin, inherited_tokenizer  # which needs torch

    return open_data(config, form, tokenizer=inherited_tokenizer(config, find_origin(config)))


def parts_of(data: Data) -> list[Samples]:
    """Every prepared part: the training sources, then what is held out."""
    return [*data.train.values(), *([] if data.validation is None else [data.validation])]


def shards_of(part: Any) -> list[TokenShards]:
    """The token shards a part is read from; a joined one has several, one that is not of tokens none."""
    if hasattr(part, "parts"):
        return [shards for one in part.parts for shards in shards_of(one)]
    return [part.shards] if hasattr(part, "shards") else []


def verify_shards(data: Data) -> None:
    """Hash every byte of the prepared files; raises RefusedError naming the first damaged one."""
    from ostinato.core.manifest import Damaged

    folders = {shards.folder: shards for part in parts_of(data) for shards in shards_of(part)}
    for shards in folders.values():
        try:
            shards.verify()
        except Damaged as error:
            raise RefusedError(str(error)) from error


def head(data: Data) -> list[str]:
    """Tokenizer and data in two lines."""
    tokenizer = data.tokenizer
    lines = [f"tokenizer {tokenizer.fingerprint}, {tokenizer.vocab_size:,} ids"] if tokenizer else []
    return [*lines, f"data {data.fingerprint}"]


def summary(data: Data) -> dict[str, Any]:
    """The same as plain values."""
    own = data.tokenizer
    tokenizer = {"fingerprint": own.fingerprint, "vocab_size": own.vocab_size} if own else None
    return {"fingerprint": data.fingerprint, "tokenizer": tokenizer}


def about(part: Samples) -> dict[str, Any]:
    """A prepared part as plain values."""
    folders = [str(shards.folder) for shards in shards_of(part)]
    receipt = part.receipt.to_dict()
    return {"label": part.label, "fingerprint": part.fingerprint, "samples": len(part), "folders": folders} | {
        "receipt": receipt
    }


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
