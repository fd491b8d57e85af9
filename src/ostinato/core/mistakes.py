"""What is wrong with a config, all of it at once: each mistake with its place and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ostinato.core.errors import UserError


class Place(NamedTuple):
    """Where something is written. Lines and columns count from 1; an `-o` has no file, its number as line, its text."""

    file: str | None = None
    line: int | None = None
    column: int | None = None
    text: str = ""  # of an `-o`

    def __str__(self) -> str:
        return self.text if self.file is None else f"{self.file}:{self.line}:{self.column}"

    @property
    def short(self) -> str:
        """`file:line`, or the `-o` itself."""
        return self.text if self.file is None else f"{self.file}:{self.line}"


NOWHERE = Place()


@dataclass(frozen=True)
class Mistake:
    """One mistake; `key` is null where a file cannot be parsed, `notes` are further places."""

    place: Place
    key: str | None
    message: str
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        start = [part for part in (str(self.place), self.key and f"{self.key}: {self.message}") if part]
        text = "  ".join(start if self.key else [*start, self.message])
        return "\n  ".join([text, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        place = self.place
        return {
            "file": place.file,
            "line": place.line,
            "column": place.column,
            "key": self.key,
            "message": "\n".join([self.message, *self.notes]),
        }


class ConfigError(UserError):
    """All mistakes of a config, or of several."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = list(mistakes)
        super().__init__(report(self.mistakes))


def report(mistakes: list[Mistake]) -> str:
    """One block per mistake and how many there are."""
    count = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}; nothing was run."
    return "\n".join([*map(str, mistakes), count])


class Mistakes:
    """A collector: a mistake found twice is kept once."""

    def __init__(self) -> None:
        self.found: dict[tuple[Any, ...], Mistake] = {}
        self.unread = False  # a file could not be read, so nothing is said about what it might have set
        self.order: dict[str, int] = {}  # files in composition order

    def add(self, place: Place, key: str | None, message: str, *notes: str) -> None:
        """Note a mistake."""
        mistake = Mistake(place, key, message, notes)
        self.found.setdefault((place, key, message), mistake)

    def sorted(self) -> list[Mistake]:
        """In composition order, then by line."""

        def position(mistake: Mistake) -> tuple[int, int, int]:
            place = mistake.place
            index = len(self.order) if place.file is None else self.order.get(place.file, -1)
            return index, place.line or 0, place.column or 0

        return sorted(self.found.values(), key=position)

    def raise_any(self) -> None:
        """Raise ConfigError if there is any mistake."""
        if self.found:
            raise ConfigError(self.sorted())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The closest of the known words, if it is close at all."""
    import difflib  # only when something is wrong: every verb imports this file

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
