"""The layers of a config in composition order: bases left to right, each with its own first, the file, then `-o`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ostinato.core.catalog import PACKAGE, shown
from ostinato.core.frozen import prove
from ostinato.core.mistakes import NOWHERE, Mistakes, Place, nearest
from ostinato.core.nodes import Map, Scalar, Sequence
from ostinato.core.overrides import read_override
from ostinato.core.reader import Source, read_text
from ostinato.core.renamed import move_renamed
from ostinato.core.variables import BadVariable, expand_text

SHIPPED = "ostinato:"


@dataclass(slots=True)
class Layer:
    """One file or one `-o`. `bases`: the layers it lies on directly; `below`: a bit for each it dominates."""

    index: int
    root: Map
    bases: tuple[int, ...] = ()
    below: int = 0
    is_override: bool = False
    base_place: Place = NOWHERE  # of the value of `_base_`


@dataclass(slots=True)
class _Open:
    """A file whose bases are still being read."""

    path: Path
    root: Map
    targets: Iterator[tuple[Path, Place]]
    bases: list[int] = field(default_factory=list)


class Layers:
    """Reads files, each once, without recursion: depth is limited by nothing but the disk."""

    def __init__(self, environ: Mapping[str, str], mistakes: Mistakes) -> None:
        self.environ, self.mistakes = environ, mistakes
        self.layers: list[Layer] = []
        self.done: dict[Path, int] = {}
        self.warnings: list[str] = []

    def read(self, name: str | Path, overrides: Iterable[str]) -> list[Layer]:
        """All layers of a file and its overrides."""
        stack = [self.open(_locate(str(name), Path.cwd()), NOWHERE)]
        while stack:
            top = stack[-1]
            for target, place in top.targets:
                if target in self.done:
                    top.bases.append(self.done[target])
                elif any(target == other.path for other in stack):
                    self.cycle([other.path for other in stack], target, place)
                else:
                    stack.append(self.open(target, place))
                    break
            else:
                self.close(stack.pop())
                if stack:
                    stack[-1].bases.append(self.done[top.path])
        for number, text in enumerate(overrides, 1):
            self.override(text, number)
        return self.layers

    def open(self, path: Path, place: Place) -> _Open:
        """Begin with a file: parse it and find its bases."""
        source = Source(shown(path))
        node = None
        if (text := self.text(path, place, source)) is not None:
            node = read_text(text, source, self.mistakes)
        if node is not None and not isinstance(node, Map):
            self.mistakes.add(node.place, None, "a config is one map of sections. Write `section: {...}`.")
            self.mistakes.unread = True
        root = node if isinstance(node, Map) else Map({}, source.place())
        prove(root, self.mistakes)
        self.warnings += move_renamed(root, self.mistakes)
        return _Open(path, root, iter(self.targets(path, root)))

    def text(self, path: Path, place: Place, source: Source) -> str | None:
        """The text of a file; None when it cannot be read."""
        key = None if place == NOWHERE else "_base_"
        try:
            data = path.read_bytes()
            return data.decode("utf-8-sig")
        except FileNotFoundError:
            guess = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else None
            hint = f"Did you mean {shown(path.parent / guess)}?" if guess else "Correct the path."
            self.mistakes.add(place, key, f"no such file: {shown(path)}. {hint}")
        except UnicodeDecodeError as error:
            place = Place(source.file, data[: error.start].count(b"\n") + 1, 1)
            self.mistakes.add(place, None, "is no UTF-8 text. Save it as UTF-8.")
        except OSError as error:
            self.mistakes.add(place, key, f"cannot read {shown(path)}: {error.strerror}.")
        self.mistakes.unread = True
        return None

    def targets(self, path: Path, root: Map) -> list[tuple[Path, Place]]:
        """The bases a file names, as real paths."""
        if (entry := root.special.get("_base_")) is None:
            return []
        found = []
        for node in entry.node.items if isinstance(entry.node, Sequence) else [entry.node]:
            if not isinstance(node, Scalar) or not node.text:
                self.mistakes.add(node.place, "_base_", "expected a path or a list of paths.")
                self.mistakes.unread = True
                continue
            try:
                found.append((_locate(expand_text(node.text, self.environ), path.parent), node.place))
            except BadVariable as error:
                self.mistakes.add(node.place, "_base_", str(error))
                self.mistakes.unread = True
        return found

    def cycle(self, open_files: list[Path], target: Path, place: Place) -> None:
        """Note that a base reaches itself."""
        chain = [*open_files[open_files.index(target) :], target]
        self.mistakes.add(place, "_base_", f"cycle: {' -> '.join(map(shown, chain))}. Remove one of them.")

    def close(self, file: _Open) -> None:
        """All bases are read: the file is the next layer."""
        index = len(self.layers)
        bases = tuple(dict.fromkeys(file.bases))
        entry = file.root.special.get("_base_")
        place = entry.node.place if entry else NOWHERE
        self.layers.append(Layer(index, file.root, bases, self.below(bases), False, place))
        self.done[file.path] = index
        self.mistakes.order.setdefault(file.root.place.file or "", index)

    def override(self, text: str, number: int) -> None:
        """One `-o`: it lies on everything before it."""
        root = read_override(text, number, self.mistakes)
        if root is not None:
            self.warnings += move_renamed(root, self.mistakes)
            bases = (len(self.layers) - 1,)
            self.layers.append(Layer(len(self.layers), root, bases, self.below(bases), True))

    def below(self, bases: tuple[int, ...]) -> int:
        """The bits of these layers and of all below them."""
        bits = 0
        for base in bases:
            bits |= 1 << base | self.layers[base].below
        return bits


def _locate(name: str, folder: Path) -> Path:
    if name.startswith(SHIPPED):
        return Path(os.path.realpath(PACKAGE / "configs" / name.removeprefix(SHIPPED)))
    return Path(os.path.realpath(folder / name))
