"""What a run sampled while it trained, `outputs/samples/step_<n>`: tables of responses (.jsonl), or texts (.txt)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError

Row = dict[str, Any]

FILE = re.compile(r"step_(\d+)\.(jsonl|txt)")
BETWEEN_TEXTS = "\n---\n"  # as training/samples.py writes them


@dataclass(frozen=True)
class Kept:
    """What one step left: `path` is a table of responses (.jsonl), or plain texts (.txt)."""

    step: int
    path: Path

    @property
    def is_table(self) -> bool:
        return self.path.suffix == ".jsonl"

    def read(self) -> list[Row]:
        """A row each, a text one with `text` alone. A torn last line is none; a damaged one raises RefusedError."""
        content = self.path.read_text(encoding="utf-8", errors="replace")
        if not self.is_table:
            return [{"text": text} for text in content.removesuffix("\n").split(BETWEEN_TEXTS)]
        return [self._row(line, number) for number, line in enumerate(content.split("\n")[:-1], start=1)]

    def _row(self, line: str, number: int) -> Row:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise RefusedError(f"{self.path}:{number}: damaged: {line[:60]!r} is no sample")
        return row


def kept_samples(run: Path) -> list[Kept]:
    """The steps of a run that left samples, ascending; none is an empty list."""
    folder = run / "outputs" / "samples"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = {int(match[1]): folder / name for name in reversed(names) if (match := FILE.fullmatch(name))}
    return [Kept(step, found[step]) for step in sorted(found)]


def prompt_text(prompt: Any) -> str:
    """A prompt as it was: text; messages as `role: content`; anything else as JSON."""
    if isinstance(prompt, list) and prompt and all(isinstance(one, dict) for one in prompt):
        return "\n".join(f"{one.get('role', '?')}: {one.get('content', '')}" for one in prompt)
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
