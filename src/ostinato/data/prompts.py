"""Prompts to sample responses to: what reinforcement learning is given. A sample is one prompt with its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ostinato.core.types import Batch
from ostinato.data.encoding import RowEncoder
from ostinato.data.formats import SampleFormat
from ostinato.data.row_preparation import Outcome
from ostinato.data.row_samples import RowSamples
from ostinato.data.rows import Message, RowError
from ostinato.data.source import Row, Source
from ostinato.data.token_writer import TokenWriter, prepared
from ostinato.data.unusable_rows import UnusableRows

VERSION = 2


@dataclass(frozen=True)
class Prompt:
    """Token ids, and the row of data with whatever judges the responses: a gold answer, tests."""

    ids: list[int]
    row: Row


@dataclass(eq=False)
class PromptBatch(Batch):
    """Prompts of a rank; there are no tensors in it until responses are sampled."""

    prompts: list[Prompt] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {"prompts": len(self.prompts)}

    def __len__(self) -> int:
        return len(self.prompts)


class PromptSamples(RowSamples):
    """Prepared prompts; the row is read again with each."""

    def __getitem__(self, index: int) -> Prompt:  # type: ignore[override]
        start, stop = self.shards.document(self._chosen[index])
        return Prompt(self.shards.read(start, stop).tolist(), self._source[self._row(self._chosen[index])])


class Prompts(SampleFormat):
    """Rows with `prompt` (text or messages), `question`, or `messages`, of which an answer at the end is left out."""

    rows_at_once = 1  # a prompt is a micro-batch of its own: what is trained in pieces are the responses

    def prepare(self, source: Source, label: str) -> PromptSamples:
        """Encode once, so that a prompt that is too long is known before the first step."""
        options = self.options
        identity = {
            "kind": "prompts",
            "encoding": VERSION,
            "source": source.fingerprint,
            "tokenizer": options.tokenizer.fingerprint,
            "sequence_length": options.sequence_length,
            "overlong": options.overlong,
        }
        shards = prepared(
            options.cache,
            identity,
            options.tokenizer.vocab_size,
            lambda writer: self._fill(source, writer),
            masked=True,
        )
        return PromptSamples(label, shards, source, self.describe, range(shards.documents))

    def collate(self, rows: Sequence[Sequence[Prompt]]) -> PromptBatch:
        """The prompts in order."""
        return PromptBatch([prompt for row in rows for prompt in row])

    def empty(self) -> PromptBatch:
        """No prompt."""
        return PromptBatch()

    def describe(self, item: Prompt) -> str:
        """The prompt decoded, special tokens too, and the rest of its row."""
        rest = {key: value for key, value in item.row.items() if key != prompt_key(item.row)}
        shown = "".join(f"\n{key}: {str(value)[:200]}" for key, value in rest.items())
        return self.options.tokenizer.decode(item.ids) + shown

    def encode_prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """Through the chat template where there is one."""
        return self._encoder.prompt(prompt)

    @cached_property
    def _encoder(self) -> RowEncoder:
        return RowEncoder(self.options.tokenizer)

    def _fill(self, source: Source, writer: TokenWriter) -> dict[str, Any]:
        outcome, mistakes = Outcome(len(source)), []
        for number in range(len(source)):
            try:
                row = source[number]
                outcome.is_of(prompt_key(row), row)
                ids = self.encode_prompt(prompt_of(row))
            except RowError as error:
                mistakes.append((source.place(number), str(error)))
                continue
            if len(ids) < self.options.sequence_length:
                writer.add(np.array(ids), np.zeros(len(ids), dtype=bool))
            elif self.options.overlong == "drop":
                outcome.dropped.setdefault(f"no room in {self.options.sequence_length} tokens", []).append(number)
            else:
                room = f"the prompt has {len(ids)} tokens, which leaves no room in {self.options.sequence_length}"
                mistakes.append((source.place(number), room))
        if mistakes:
            remedy = "Shorten them, raise data.sequence_length, or leave long ones out with data.overlong: drop."
            raise UnusableRows(mistakes, [remedy], len(source))
        return asdict(outcome)


def prompt_key(row: Row) -> str:
    """The key that holds what a row asks. Raises RowError where there is none."""
    for key in ("prompt", "messages", "question"):
        if key in row:
            return key
    keys = ", ".join(map(str, row)) or "none"
    raise RowError(f"the keys {keys} hold no prompt; name it with columns, e.g. `columns: {{prompt: task}}`")


def prompt_of(row: Row) -> str | list[Message]:
    """What a row asks. Raises RowError where it asks nothing."""
    key = prompt_key(row)
    asked = row[key]
    if key != "messages":
        return asked
    if not isinstance(asked, list) or not asked:
        raise RowError("messages is not a list of messages")
    end = len(asked)
    while end and asked[end - 1].get("role") == "assistant":
        end -= 1
    return asked[:end]
