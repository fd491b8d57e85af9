"""YAML text -> nodes with places, every mistake of form noted."""

from __future__ import annotations

from typing import Any

import yaml

from ostinato.core.mistakes import Mistakes, Place
from ostinato.core.nodes import Entry, Map, Node, Scalar, Sequence, join

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_NODES = 100_000
MAX_DEPTH = 100  # of maps and lists in one another


class TooLarge(Exception):
    """A file that expands to too many nodes."""


class Source:
    """Where a text comes from: gives its marks a place."""

    def __init__(self, file: str | None, text: str = "", number: int | None = None) -> None:
        self.file, self.text, self.number = file, text, number

    def place(self, mark: Any = None) -> Place:
        """The place of a mark of the parser (which counts from 0); without one, the text's beginning."""
        if self.file is None:
            return Place(None, self.number, None, self.text)
        return Place(self.file, mark.line + 1, mark.column + 1) if mark is not None else Place(self.file, 1, 1)


def read_key(text: str, plain: bool) -> tuple[str, str]:
    """A key as written -> (key, operator). Quoted keys are literal."""
    if not plain or len(text) < 2:
        return text, ""
    if text[0] == "~":
        return text[1:], "~"
    return (text[:-1], text[-1]) if text[-1] in "+!" else (text, "")


class Reader:
    """Turns the parser's nodes of one text into ours, noting every mistake of form."""

    def __init__(self, source: Source, mistakes: Mistakes) -> None:
        self.source, self.mistakes = source, mistakes
        self.count = 0
        self.open: set[int] = set()  # nodes being read: an alias back to one contains itself

    def node(self, raw: Any, path: str) -> Node:
        """The node, with everything below it."""
        self.count += 1
        if self.count > MAX_NODES:
            raise TooLarge
        place = self.source.place(raw.start_mark)
        if isinstance(raw, yaml.ScalarNode):
            return Scalar(raw.value, not raw.style, place)
        if id(raw) in self.open:
            self.mistakes.add(place, path, "this alias contains itself. Write the values out.")
            return Map({}, place)
        if len(self.open) > MAX_DEPTH:
            raise RecursionError
        self.open.add(id(raw))
        if isinstance(raw, yaml.SequenceNode):
            node: Node = Sequence([self.node(item, f"{path}[{i}]") for i, item in enumerate(raw.value)], place)
        else:
            node = self.map(raw, path, place)
        self.open.discard(id(raw))
        return node

    def map(self, raw: Any, path: str, place: Place) -> Map:
        """A map: keys once each, `_delete_`, and merge keys, over which what the map itself writes wins."""
        result, merged = Map({}, place), []
        for raw_key, raw_value in raw.value:
            key_place = self.source.place(raw_key.start_mark)
            if not isinstance(raw_key, yaml.ScalarNode):
                self.mistakes.add(key_place, path or None, "a key must be a scalar. Write a name before the colon.")
            elif not raw_key.style and raw_key.value == "<<":
                merged.append(raw_value)
            elif not raw_key.style and raw_key.value == "_delete_":
                self.delete(result, raw_value, key_place, join(path, "_delete_"))
            elif not raw_key.style and raw_key.value in ("_base_", "_hash_"):
                self.special(result, raw_key.value, raw_value, key_place, path)
            else:
                self.entry(result, raw_key, raw_value, key_place, path)
        for value in merged:
            self.merge(result, value, path)
        return result

    def entry(self, result: Map, raw_key: Any, raw_value: Any, place: Place, path: str) -> None:
        key, operator = read_key(raw_key.value, not raw_key.style)
        full = join(path, key)
        node = self.node(raw_value, full)
        if (first := result.entries.get(key)) is not None:
            where = f"line {first.place.line}" if first.place.file else first.place.text
            self.mistakes.add(place, full, f"written twice in this map; first at {where}. Keep one.")
        elif operator == "~" and not (isinstance(node, Scalar) and node.plain and node.text in ("", "~", "null")):
            self.mistakes.add(place, full, f"~{key} deletes and takes no value. Write `~{key}:` alone.")
        else:
            result.entries[key] = Entry(key, operator, place, node)

    def special(self, result: Map, key: str, raw_value: Any, place: Place, path: str) -> None:
        if path or self.source.file is None:
            self.mistakes.add(place, join(path, key), "stands at the top of a file only. Move it there or remove it.")
        elif key in result.special:
            first = result.special[key].place.line
            self.mistakes.add(place, key, f"written twice in this map; first at line {first}. Keep one.")
        else:
            result.special[key] = Entry(key, "", place, self.node(raw_value, key))

    def delete(self, result: Map, raw: Any, place: Place, path: str) -> None:
        if isinstance(raw, yaml.ScalarNode) and not raw.style and raw.value in ("true", "True", "TRUE"):
            result.whole = place
        else:
            self.mistakes.add(place, path, "takes no other value than true. Write `_delete_: true` or remove it.")

    def merge(self, result: Map, raw: Any, path: str) -> None:
        for part in raw.value if isinstance(raw, yaml.SequenceNode) else [raw]:
            node = self.node(part, path)
            if not isinstance(node, Map):
                self.mistakes.add(node.place, join(path, "<<"), "merges maps only. Write `<<: *name` of a map.")
                continue
            for key, entry in node.entries.items():
                result.entries.setdefault(key, entry)
            result.whole = result.whole or node.whole


def read_text(text: str, source: Source, mistakes: Mistakes) -> Node | None:
    """The one node of a text; None for an empty one, or for one that cannot be parsed (noted, `unread` set)."""
    try:
        refuse_tags(text, source, mistakes)
        raw = yaml.compose(text, Loader=LOADER)
        return None if raw is None else Reader(source, mistakes).node(raw, "")
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        place = source.place()._replace(line=line)
        mistakes.add(place, None, f"not YAML: {error.reason} (character #x{error.character:02x}). Remove it.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark.index >= len(text.rstrip()) and error.context_mark:
            mark = error.context_mark  # something is open at the end of the text: where it began
        mistakes.add(source.place(mark), None, f"not YAML: {_problem(error, text)}")
    except TooLarge:
        mistakes.add(source.place(), None, f"expands to more than {MAX_NODES:,} nodes. Use fewer aliases.")
    except RecursionError:
        mistakes.add(source.place(), None, "nested too deeply to be read. Flatten it.")
    mistakes.unread = True
    return None


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    marks = [mark.line for mark in (error.context_mark, error.problem_mark) if mark]
    near = text.splitlines()[min(marks) : max(marks) + 1]
    hint = ' Inside {} and [] a variable must be quoted: "${NAME}".' if any("${" in line for line in near) else ""
    return ", ".join(filter(None, [error.context, error.problem])) + "." + hint


def refuse_tags(text: str, source: Source, mistakes: Mistakes) -> None:
    """Note every explicit tag: parsed nodes do not show them all, the tokens do."""
    for token in yaml.scan(text, Loader=LOADER) if "!" in text else ():
        if isinstance(token, yaml.TagToken):
            tag = "".join(part for part in token.value if part)
            mistakes.add(source.place(token.start_mark), None, f"the tag {tag} is not allowed. Remove it.")
