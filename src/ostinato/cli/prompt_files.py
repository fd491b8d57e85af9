"""Prompts from a file, and the file that their responses are added to, one line a sample, also over several starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core import manifest as manifests
from ostinato.core.errors import UserError
from ostinato.core.samples import Sample
from ostinato.data.prompts import prompt_of
from ostinato.data.rows import RowError
from ostinato.experiment.metrics import cut_torn_line

OURS = ("text", "sample", "stop_reason", "prompt_ids", "response_ids", "log_probs", "top")


@dataclass(frozen=True)
class Asked:
    """A prompt, text or messages, with its row and where that stands."""

    prompt: str | list[dict[str, Any]]
    row: dict[str, Any]
    place: str


def read_prompts(path: Path) -> list[Asked]:
    """JSON Lines with `prompt` or `messages` (by the name's end, .jsonl or .jsonl.gz), else a prompt in every line.

    Blank lines are no prompts. Raises UserError with the line where one cannot be used.
    """
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _rows(path)
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--prompts {path}: {error}. Name a .jsonl file, or a text file with a prompt a line."
        ) from None
    texts = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise UserError(f"--prompts {path}: holds no prompts.")
    return [Asked(text, {"prompt": text}, f"{path}:{number}") for number, text in texts]


def _rows(path: Path) -> list[Asked]:
    from ostinato.data.jsonl import Jsonl

    source, found = Jsonl(0, path=path), []
    for number in range(len(source)):
        row, place = source[number], source.place(number)
        try:
            prompt = prompt_of(row)
        except RowError:
            there = ", ".join(row) or "nothing"
            raise UserError(f"{place}: holds no `prompt`, `messages` or `question` to answer, but {there}.") from None
        if taken := [key for key in OURS if key in row]:
            raise UserError(f"{place}: the key {taken[0]!r} is one that is written with each response. Rename it.")
        found.append(Asked(prompt, row, place))
    return found


def encoded(asked: list[Asked], encode: Callable[[Any], list[int]], context: int | None) -> list[list[int]]:
    """Ids of each prompt. Raises UserError with the place of the first that is too long, or that cannot be encoded."""
    found = []
    for one in asked:
        try:
            ids = encode(one.prompt)
        except UserError as error:
            raise UserError(f"{one.place}: {error}") from None
        if context is not None and len(ids) >= context:
            raise UserError(
                f"{one.place}: the prompt has {len(ids)} tokens; the model's context of {context} leaves no room for a "
                "response. Shorten it, or leave it out."
            )
        found.append(ids)
    return found


class SampleFile:
    """JSON Lines in the order of prompts and samples, flushed line by line; what is there already is kept.

    Beside it `NAME.settings.json` says what it was made with: another start must agree with it.
    """

    def __init__(self, path: Path, settings: dict[str, Any], total: int, *, with_ids: bool) -> None:
        self.path, self.with_ids = path, with_ids
        self.settings = path.with_name(path.name + ".settings.json")
        self.done = self._resume(settings)
        if self.done > total:
            raise UserError(
                f"--out {path} holds {self.done} samples, more than the {total} asked for. Name another file."
            )
        self._waiting: dict[int, str] = {}
        self._next = self.done
        self._file = path.open("a", encoding="utf-8")

    def _resume(self, settings: dict[str, Any]) -> int:
        """How many samples are there, a torn last line cut off."""
        if not self.path.exists() or not self.path.stat().st_size:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            manifests.write_json(self.settings, settings)
            return 0
        if not self.settings.is_file():
            raise UserError(
                f"--out {self.path} exists, and {self.settings.name} does not, so it is not known what made it."
            )
        before = json.loads(self.settings.read_text("utf-8"))
        wanted = json.loads(json.dumps(settings))
        other = [name for name in {**wanted, **before} if wanted.get(name) != before.get(name)]
        if other:
            said = "\n".join(f"  {name}: {before.get(name)!r} then, {wanted.get(name)!r} now" for name in sorted(other))
            raise UserError(
                f"--out {self.path} was begun with other settings:\n{said}\n"
                "Start it again as it was begun, or name another file."
            )
        cut_torn_line(self.path)
        return self.path.read_bytes().count(b"\n")

    def put(self, place: int, row: dict[str, Any], sample: Sample) -> int:
        """A sample and its place in the order; written as soon as all before it are. How many now are."""
        line = {**row, "text": sample.text, "sample": sample.sample, "stop_reason": sample.stop_reason}
        if self.with_ids:
            line |= {
                "prompt_ids": sample.prompt_ids,
                "response_ids": sample.response_ids,
                "log_probs": sample.log_probs,
            }
            line |= {"top": sample.top} if sample.top else {}
        if place >= self._next:  # a prompt some of whose samples were written before is sampled whole
            self._waiting[place] = json.dumps(line, ensure_ascii=False)
        while self._next in self._waiting:
            self._file.write(self._waiting.pop(self._next) + "\n")
            self._next += 1
        self._file.flush()
        return self._next

    def close(self) -> None:
        """After this the lines are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
