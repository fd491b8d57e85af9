"""`ostinato config show|explain|check|diff|hash|schema`: everything about configs, without importing a component."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ostinato.cli.config_differences import differences
from ostinato.core.config import Config, load_config
from ostinato.core.frozen import flow
from ostinato.core.mistakes import NOWHERE, ConfigError, Mistake

if TYPE_CHECKING:
    from ostinato.core.origins import Step

overrides = click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one value (repeatable).")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("config")
def command() -> None:
    """Show, explain, check, compare configs. FILE is a path or ostinato:base/training.yaml."""


def print_json(value: Any) -> None:
    """JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def fail(mistakes: list[Mistake], as_json: bool) -> NoReturn:
    """Print mistakes (as JSON on stdout, else as a report on stderr) and exit with 2."""
    if not as_json:
        raise ConfigError(mistakes)
    print_json([mistake.to_json() for mistake in mistakes])
    sys.exit(2)


def load(file: str, overrides: tuple[str, ...], as_json: bool) -> Config:
    """The config, or its mistakes and exit code 2."""
    try:
        return load_config(file, overrides)
    except ConfigError as error:
        fail(error.mistakes, as_json)


@command.command()
@click.argument("file")
@overrides
@as_json
def show(file: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Every value, resolved: what `train` freezes into the run folder."""
    config = load(file, overrides, as_json)
    if as_json:
        print_json(config.to_dict())
    else:
        click.echo(config.to_yaml(), nl=False)


@command.command()
@click.argument("file")
@click.argument("key")
@overrides
@as_json
def explain(file: str, key: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Where the value of KEY comes from: every file and override that said something of it, the winner last."""
    config = load(file, overrides, as_json)
    from ostinato.core.origins import UnknownKey
    from ostinato.core.suggestions import unknown_target

    origins = config.loaded.origins
    try:
        found = origins.explain(key)
    except (UnknownKey, ValueError):
        text = f"unknown key. {unknown_target(origins.schema, origins.root, key)}"
        fail([Mistake(NOWHERE, key, text)], as_json)
    if as_json:
        print_json(found)
        return
    chains = found if isinstance(found, dict) else {key: found}
    for leaf, chain in chains.items():
        for line in _lines(leaf, chain):
            click.echo(line)


def _lines(leaf: str, chain: list[Step]) -> list[str]:
    rows = [(flow(step["value"]), step["kind"], where(step)) for step in chain]
    width = max((len(value) for value, _, _ in rows), default=0)
    return [leaf, *(f"  {value:<{min(width, 40)}}  {kind:<7}  {place}" for value, kind, place in rows)]


def where(step: Step) -> str:
    """`file:line`, or which `-o`."""
    return f"{step['file']}:{step['line']}" if step["file"] else f"-o number {step['line']}"


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@overrides
@as_json
def check(files: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Everything that `train` would find wrong before its first step: also imports plugins and components."""
    mistakes: list[Mistake] = []
    for file in files:
        try:
            load_config(file, overrides, complete=True)
        except ConfigError as error:
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
    if mistakes:
        fail(mistakes, as_json)
    if as_json:
        print_json([])
    else:
        click.echo("\n".join(f"{file}: no mistakes" for file in files))


@command.command()
@click.argument("a")
@click.argument("b")
@as_json
def diff(a: str, b: str, as_json: bool) -> None:
    """The values that differ, and where each comes from."""
    left, right = both(lambda: load_config(a), lambda: load_config(b), as_json)
    rows = differences(left, right)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        sides = [
            f"  {side}: {flow(row[side])}  ({row[side + '_file']}:{row[side + '_line']})"
            for side in "ab"
            if side in row
        ]
        click.echo("\n".join([row["key"], *sides]))


def both(left: Callable[[], Config], right: Callable[[], Config], as_json: bool) -> list[Config]:
    """Two configs, or the mistakes of both."""
    found, mistakes = [], []
    for read in (left, right):
        try:
            found.append(read())
        except ConfigError as error:
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
    return fail(mistakes, as_json) if mistakes else found


@command.command("hash")
@click.argument("file")
@overrides
@as_json
def hash_(file: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """The full hash, and the hash of what the experiment asks."""
    config = load(file, overrides, as_json)
    if as_json:
        print_json({"full": config.full_hash, "science": config.science_hash})
    else:
        click.echo(f"full {config.full_hash}\nscience {config.science_hash}")


@command.command()
@click.argument("file", required=False)
@overrides
@as_json
def schema(file: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """JSON Schema of a config file, with the components of ostinato and of FILE's plugins."""
    from ostinato.core.json_schema import json_schema
    from ostinato.core.registry import catalog

    plugins = load(file, overrides, as_json).plugins if file else ()
    print_json(json_schema(catalog(tuple(plugins))))
