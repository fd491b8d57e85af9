"""Graded responses: rows with a prompt and several answers of known worth, as pairs or as labelled responses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.data.jsonl import Jsonl
from ostinato.data.source import Row


class Graded(NamedTuple):
    """A response, what it is worth, and where in its row it stands."""

    response: Any
    grade: float
    where: str


@DATASETS.register("graded")
class GradedResponses:
    """JSON Lines (as `jsonl` reads them) of prompts that each have several graded responses.

    `responses` names the keys of a row that hold a response, each {`response`: ..., `grade`: number or bool}, or a list
    of such. `make` pairs: rows prompt, chosen, rejected, `pairs` all (each better one with each worse one) or
    best_worst (the first best with the first worst), `margins` their difference; a prompt whose responses are worth the
    same gives none. `make` labelled: rows prompt, response, label, true where the grade exceeds `threshold`. `rows`
    [first, behind]: only these rows of the file, counted from 0, so that no prompt is both trained on and held out.
    """

    def __init__(
        self,
        seed: int,
        *,
        path: Path,
        responses: list[str],
        prompt: str = "prompt",
        response: str = "response",
        grade: str = "grade",
        make: Literal["pairs", "labelled"] = "pairs",
        pairs: Literal["all", "best_worst"] = "all",
        margins: bool = False,
        threshold: float = 0.5,
        rows: list[int] | None = None,
        pattern: str = "**/*.jsonl*",
    ) -> None:
        self._rows = Jsonl(seed, path=path, pattern=pattern)
        self._keys, self._prompt, self._response, self._grade = responses, prompt, response, grade
        self._make, self._all, self._margins, self._threshold = make, pairs == "all", margins, threshold
        options = [responses, prompt, response, grade, make, pairs, margins, threshold, rows]
        self.fingerprint, self.kind = hash_of([self._rows.fingerprint, options]), self._rows.kind
        if rows is not None and not (len(rows) == 2 and 0 <= rows[0] < rows[1] <= len(self._rows)):
            raise ValueError(f"rows: {rows} is not [first, behind] within the {len(self._rows)} rows of {path}")
        numbers = range(*rows) if rows else range(len(self._rows))
        self._made = [(number, *found) for number in numbers for found in self._combinations(number)]
        if not self._made:
            raise UserError(f"{path}: no prompt has responses of different grades, so there are no pairs.")

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: int) -> Row:
        number, *chosen = self._made[index]
        graded = self._graded(number)
        prompt, first = self._rows[number][self._prompt], graded[chosen[0]]
        if self._make == "labelled":
            return {"prompt": prompt, "response": first.response, "label": first.grade > self._threshold}
        second = graded[chosen[1]]
        margin = {"margin": first.grade - second.grade} if self._margins else {}
        return {"prompt": prompt, "chosen": first.response, "rejected": second.response, **margin}

    def place(self, index: int) -> str:
        """The file and the line, and which responses."""
        number, *chosen = self._made[index]
        graded = self._graded(number)
        return f"{self._rows.place(number)} ({' over '.join(graded[one].where for one in chosen)})"

    def _combinations(self, number: int) -> Iterator[tuple[int, ...]]:
        """The responses of each sample that a row of the file makes, by their numbers in it."""
        grades = [one.grade for one in self._graded(number)]
        if self._make == "labelled":
            yield from ((one,) for one in range(len(grades)))
        elif self._all:
            every = itertools.product(range(len(grades)), repeat=2)
            yield from (pair for pair in every if grades[pair[0]] > grades[pair[1]])
        elif grades and max(grades) > min(grades):
            yield grades.index(max(grades)), grades.index(min(grades))

    def _graded(self, number: int) -> list[Graded]:
        row, found = self._rows[number], []
        if missing := [key for key in (self._prompt, *self._keys) if key not in row]:
            raise UserError(
                f"{self._rows.place(number)}: no key {missing[0]!r}; it has {', '.join(row) or 'none'}. "
                "Correct the dataset's prompt or responses, or the line."
            )
        for key in self._keys:
            several = isinstance(row[key], list)
            for place, one in enumerate(row[key] if several else [row[key]]):
                found.append(self._read(one, f"{key}[{place}]" if several else key, number))
        return found

    def _read(self, one: Any, where: str, number: int) -> Graded:
        grade = one.get(self._grade) if isinstance(one, dict) else None
        if not isinstance(grade, bool | int | float) or self._response not in one:
            shape = f"{{{self._response}: ..., {self._grade}: number or bool}}"
            raise UserError(f"{self._rows.place(number)}: {where} is no {shape}. Correct response, grade, or the line.")
        return Graded(one[self._response], float(grade), where)
