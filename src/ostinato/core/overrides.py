"""`-o KEY=VALUE` -> the same nodes that a file gives."""

from __future__ import annotations

import re

import yaml

from ostinato.core.mistakes import Mistakes, Place
from ostinato.core.nodes import Entry, Map, Node, Scalar
from ostinato.core.reader import LOADER, Reader, Source, TooLarge, read_key, refuse_tags

PART = re.compile(r'"([^"]*)"([+!]?)|([^".]*)')


class BadKey(ValueError):
    """A KEY that cannot be read."""


def read_override(text: str, number: int, mistakes: Mistakes) -> Map | None:
    """One `-o` as a map of sections; None if a mistake is noted."""
    source = Source(None, f"-o {text}", number)
    place = source.place()
    key, equals, value = text.partition("=")
    try:
        parts = split_key(key)
    except BadKey as error:
        mistakes.add(place, key or None, str(error))
        return None
    deletes = parts[-1][1] == "~"
    path = ".".join(name for name, _ in parts)
    if path in ("_base_", "_hash_"):
        mistakes.add(place, path, "stands at the top of a file only. Write it there.")
    elif equals and deletes:
        mistakes.add(place, path, f"~ deletes and takes no value. Write -o '{key}'.")
    elif not equals and not deletes:
        mistakes.add(place, path, f"an override sets a value. Write -o {key}=VALUE.")
    else:
        node: Node | None = Scalar("", True, place) if deletes else read_value(value, source, path, mistakes)
        return _nest(parts, node, place) if node is not None else None
    return None


def split_key(key: str) -> list[tuple[str, str]]:
    """The parts of a KEY, each with its operator; a leading `~` is the last part's."""
    if not key:
        raise BadKey("no KEY. Write section.key=VALUE.")
    deletes, rest = key.startswith("~"), key.removeprefix("~")
    parts, position = [], 0
    while True:
        match = PART.match(rest, position)
        assert match is not None
        quoted, operator, plain = match.groups()
        part = (quoted, operator) if quoted is not None else read_key(plain, True)
        if not part[0]:
            raise BadKey(f"an empty part in the key {key!r}. Write section.key.")
        if quoted is None and ("[" in plain or "]" in plain):
            raise BadKey(f"{plain!r}: elements of lists cannot be set. Write the whole list, or KEY+=[...] to append.")
        parts.append(part)
        position = match.end()
        if position == len(rest):
            break
        if rest[position] != ".":
            raise BadKey(f'{key!r} cannot be read. Put a part with a dot or a quote in double quotes: a."x.y".')
        position += 1
    return [*parts[:-1], (parts[-1][0], "~")] if deletes else parts


def read_value(value: str, source: Source, path: str, mistakes: Mistakes) -> Node | None:
    """A VALUE: one YAML flow value, or else all of it, byte for byte, one plain scalar."""
    place = source.place()
    if not value:
        return Scalar("", False, place)
    if value[0] in "[{\"'":
        try:
            raw = yaml.compose(value, Loader=LOADER)
            is_flow = raw.flow_style if isinstance(raw, yaml.CollectionNode) else raw.style in ("'", '"')
            if is_flow and raw.end_mark.index == len(value.rstrip()):
                refuse_tags(value, source, mistakes)
                return Reader(source, mistakes).node(raw, path)
        except yaml.YAMLError:
            pass  # no flow value, hence a plain scalar
        except (TooLarge, RecursionError):
            mistakes.add(place, path, "this value is too large. Put it into a file.")
            return None
    return Scalar(value, True, place)


def _nest(parts: list[tuple[str, str]], node: Node, place: Place) -> Map:
    for name, operator in reversed(parts):
        node = Map({name: Entry(name, operator, place, node)}, place)
    assert isinstance(node, Map)
    return node
