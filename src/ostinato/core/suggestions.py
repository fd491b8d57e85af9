"""What was meant by a key that the schema does not know."""

from __future__ import annotations

from ostinato.core.claims import spell
from ostinato.core.component_nodes import Algorithm
from ostinato.core.merged import Merged
from ostinato.core.mistakes import nearest
from ostinato.core.nodes import join
from ostinato.core.overrides import BadKey, split_key
from ostinato.core.shapes import ROOT, Schema, Shape

ELSEWHERE = "it exists at"


def remedy(schema: Schema, root: Merged, parts: list[str]) -> tuple[str, list[str]]:
    """What to do about an unknown key, and further places to look at."""
    shape, merged, fixed = ROOT, root, ""
    node: Merged | None = merged
    for part in parts:
        known = known_below(schema, shape, node)
        key = part if part in known else nearest(part, known)
        if key is None:
            return elsewhere(schema, root, parts[-1], shape, node, fixed), []
        inner = schema.inner(shape, node, key)
        assert inner is not None
        node = (node.children or {}).get(key) if node is not None else None
        shape, fixed = inner, join(fixed, key)
    return f"Did you mean {fixed}?", [f"{place} sets {fixed} to {text}" for place, text in _set_at(node)]


def _set_at(node: Merged | None) -> list[tuple[str, str]]:
    if node is None or node.node is None or node.is_map:
        return []
    return [(node.place.short, spell(node.node))]


def known_below(schema: Schema, shape: Shape, merged: Merged | None) -> list[str]:
    """The keys that may stand below a key."""
    children = schema.children(shape, merged)
    if children is not None:
        known = list(children)
        return [*known, *_algorithms(schema, known)] if shape is ROOT else known
    return list(merged.live) if merged is not None else list(shape.default if isinstance(shape.default, dict) else {})


def _algorithms(schema: Schema, known: list[str]) -> list[str]:
    return [name for name in schema.catalog.names("ALGORITHMS") if name not in known]


def elsewhere(schema: Schema, root: Merged, key: str, shape: Shape, merged: Merged | None, path: str) -> str:
    """Where else the last part of a key exists, else what may stand here."""
    if homes := [found for found in all_keys(schema, root) if split_key(found)[-1][0] == key]:
        return f"{ELSEWHERE} {' and '.join(homes)}."
    known = known_below(schema, shape, merged)
    return f"Known {'in ' + path if path else 'sections'}: {', '.join(known) or 'none'}."


def all_keys(schema: Schema, root: Merged) -> list[str]:
    """Every key of the schema, with the options of the components that the config names."""
    found: list[str] = []

    def walk(shape: Shape, merged: Merged | None, path: str) -> None:
        for key, inner in (schema.children(shape, merged) or {}).items():
            found.append(join(path, key))
            walk(inner, (merged.children or {}).get(key) if merged is not None else None, join(path, key))

    walk(ROOT, root, "")
    return found


def unknown_target(schema: Schema, root: Merged, target: str) -> str:
    """The remedy for a key that someone asks for: of a reference, of `explain`."""
    try:
        parts = [name for name, _ in split_key(target)]
    except BadKey as error:
        return str(error)
    text, _ = remedy(schema, root, parts)
    return text[0].upper() + text[1:]


def unknown_key(schema: Schema, root: Merged, shape: Shape, merged: Merged, path: str) -> tuple[str, list[str]]:
    """The message for the unknown key `path` in a section or component node, and further places."""
    parts = [name for name, _ in split_key(path)]
    found = shape.algorithm or (schema.component(shape, merged) if shape.component is not None else None)
    if shape.component is Algorithm:
        chosen = found.name if found else "the algorithm"
        return f"the options of {chosen} are in the section {chosen}: write {chosen}: {{{parts[-1]}: ...}}.", []
    text, notes = remedy(schema, root, parts)
    if found is not None:
        here = f"not an option of {found.name} ({found.origin})"
        owners = [other.name for other in schema.catalog.all(found.kind) if parts[-1] in other.options]
        if owners:
            return f"{here}; it belongs to {', '.join(owners)}.", []
        if not text.startswith(ELSEWHERE):
            return f"{here}. {text}", notes
    return (f"unknown key here; {text}" if text.startswith(ELSEWHERE) else f"unknown key. {text}"), notes
