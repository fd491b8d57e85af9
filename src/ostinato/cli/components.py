"""`ostinato components` and `ostinato explain`: what a config can name, read from source text."""

from __future__ import annotations

from typing import Any

import click

from ostinato.cli.config import as_json, fail, print_json
from ostinato.core.catalog import Found, shown
from ostinato.core.frozen import flow
from ostinato.core.mistakes import NOWHERE, Mistake, nearest
from ostinato.core.registry import REGISTRIES, catalog
from ostinato.core.signatures import plain_default


def _kinds(kind: str | None, as_json: bool) -> list[str]:
    if kind is None:
        return list(REGISTRIES)
    if kind.upper() not in REGISTRIES:
        guess = nearest(kind.upper(), REGISTRIES)
        hint = f" Did you mean {guess.lower()}?" if guess else ""
        text = f"no kind of components is called {kind!r}.{hint} Known: {', '.join(REGISTRIES).lower()}."
        fail([Mistake(NOWHERE, None, text)], as_json)
    return [kind.upper()]


def _json(found: Found) -> dict[str, Any]:
    options = [
        {
            "name": option.name,
            "type": str(option.type),
            "default": None if option.required else plain_default(option.default, option.type),
            "required": option.required,
        }
        for option in found.options.values()
    ]
    return {
        "kind": found.kind.lower(),
        "name": found.name,
        "file": shown(found.path),
        "line": found.line,
        "doc": found.doc,
        "options": options,
    }


@click.command("components")
@click.argument("kind", required=False)
@as_json
def components(kind: str | None, as_json: bool) -> None:
    """List the components that a config can name, of all kinds or of one."""
    found = [item for name in _kinds(kind, as_json) for item in catalog().all(name)]
    if as_json:
        return print_json(
            [
                {
                    "kind": item.kind.lower(),
                    "name": item.name,
                    "doc": item.doc.split("\n")[0],
                    "file": shown(item.path),
                    "line": item.line,
                }
                for item in found
            ]
        )
    rows = [(item.kind.lower(), item.name, item.doc.split("\n")[0], item.origin) for item in found]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for row in rows:
        click.echo(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}  ({row[3]})")


@click.command("explain")
@click.argument("name")
@as_json
def explain(name: str, as_json: bool) -> None:
    """Documentation, origin and options of a component: NAME, or KIND.NAME."""
    kind, _, short = name.rpartition(".")
    kinds = _kinds(kind or None, as_json)
    found = [item for one in kinds for item in catalog().find(one, short)]
    if not found:
        known = [item.name for one in kinds for item in catalog().all(one)]
        guess = nearest(short, known)
        hint = f" Did you mean {guess}?" if guess else " `ostinato components` lists all."
        fail([Mistake(NOWHERE, None, f"no component is called {name!r}.{hint}")], as_json)
    if as_json:
        return print_json([_json(item) for item in found])
    click.echo("\n\n".join(map(_text, found)))


def _text(found: Found) -> str:
    rows = [
        (
            option.name,
            str(option.type),
            "required" if option.required else flow(plain_default(option.default, option.type)),
        )
        for option in found.options.values()
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    table = [f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {default}" for name, kind, default in rows]
    head = f"{found.kind.lower()}.{found.name}  ({found.origin})"
    return "\n".join([head, "", found.doc or "(no docstring)", "", "options:" if rows else "no options", *table])
