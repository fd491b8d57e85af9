"""What a component's name stands for, and what is wrong with it."""

from __future__ import annotations

from ostinato.core.catalog import Found
from ostinato.core.mistakes import Mistakes, Place, nearest
from ostinato.core.registry import REGISTRIES
from ostinato.core.shapes import Schema
from ostinato.core.signatures import BadSignature, refuse_names


def look_up(schema: Schema, kind: str, name: str, place: Place, key: str, mistakes: Mistakes) -> Found | None:
    """The one component of that name; None, with the mistake noted, if there is none or more than one."""
    found = schema.find(kind, name)
    if len(found) > 1:
        places = " and ".join(item.origin for item in found)
        mistakes.add(place, key, f"{name!r} is registered twice in {kind}: {places}. Rename one.")
        return None
    if not found:
        mistakes.add(place, key, unknown_name(schema, kind, name))
        return None
    if (problem := _problem(found[0])) is not None:
        mistakes.add(place, key, f"{name!r} ({found[0].origin}) cannot be used: {problem}")
    return found[0]


def unknown_name(schema: Schema, kind: str, name: str) -> str:
    """The message for a name that no component bears."""
    known = {item.name: item for item in schema.catalog.all(kind)}
    guess = nearest(name, known)
    hint = f" Did you mean {guess} ({known[guess].origin})?" if guess else ""
    return f"{name!r} is not in {kind}.{hint} Known: {', '.join(known) or 'none'}."


def _problem(found: Found) -> BadSignature | None:
    try:
        registry = REGISTRIES[found.kind]
        refuse_names(found.options.values(), registry.common)
        registry.refuse_reserved(found.name)
    except BadSignature as error:
        return error
    return found.problem
