"""English prose that every Python has: the docstrings of its standard library."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.standard_library import StandardLibrary

PLACES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
VERSION = 1  # of what is made of a file; part of the fingerprint


@DATASETS.register("docstrings")
class Docstrings:
    """One document for each module that has any: its docstrings, in the order of the file.

    `megabytes` of source are read, the first files by path; `shortest` leaves out docstrings of fewer characters.
    """

    kind = "full"

    def __init__(self, seed: int, *, megabytes: float | None = None, shortest: int = 20) -> None:
        self.library = StandardLibrary(seed, megabytes=megabytes)
        sources = (self.library[index]["text"] for index in range(len(self.library)))
        texts = ["\n\n".join(docstrings(source, shortest)) for source in sources]
        self.documents = [(index, text) for index, text in enumerate(texts) if text]
        self.fingerprint = hash_of(["docstrings", VERSION, self.library.fingerprint, shortest])

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> Row:
        return {"text": self.documents[index][1]}

    def place(self, index: int) -> str:
        """The file that the docstrings are of."""
        return self.library.place(self.documents[index][0])


def docstrings(source: str, shortest: int = 0) -> Iterator[str]:
    """The docstrings of a module, its classes and functions, without their indentation; none of what does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library are not ours to mend
            tree = ast.parse(source)
    except SyntaxError:
        return
    places = [node for node in ast.walk(tree) if isinstance(node, PLACES)]
    for node in sorted(places, key=lambda node: getattr(node, "lineno", 0)):
        text = (ast.get_docstring(node) or "").strip()
        if len(text) >= max(1, shortest):
            yield text
