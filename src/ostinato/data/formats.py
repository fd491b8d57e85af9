"""How an algorithm wants its data: a SampleFormat turns a Source into Samples, and Samples into batches.

An algorithm names one (`sample_format = Windows`); a project may bring its own, for images, pairs, or anything else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ostinato.core.types import Batch
from ostinato.data.receipt import Receipt
from ostinato.data.source import Source
from ostinato.data.tokenizer import Tokenizer

Item = Any
"""One sample as its format's `collate` understands it."""


@dataclass(frozen=True)
class DataOptions:
    """What the config says about samples, with the tokenizer and the folder for prepared data."""

    tokenizer: Tokenizer | Any
    """None for a format that is not `tokenized`."""
    sequence_length: int
    cache: Path
    packing: bool = True
    train_on: Literal["assistant", "last_assistant", "all"] = "assistant"
    overlong: Literal["cut", "drop"] = "cut"
    on_empty: Literal["error", "drop"] = "error"
    seed: int = 0


class Samples(Protocol):
    """A prepared source: what the plan indexes. Filtering is over; every index is a sample that can be trained on.

    Reading is safe from several threads.
    """

    label: str
    fingerprint: str
    """Of the content as prepared: source, tokenizer, and the options that shape samples."""
    receipt: Receipt

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...

    def length(self, index: int) -> int:
        """Its tokens in a row (one fewer than it holds where labels are shifted), known without reading it."""
        ...

    def place(self, index: int) -> str:
        """Where it comes from, for messages."""
        ...

    def split(self, fraction: float) -> tuple[Samples, Samples]:
        """(train, held out): the held-out part is the end."""
        ...


class SampleFormat(ABC):
    """From rows to batches. Stateless after construction: any thread may call any method."""

    tokenized: ClassVar[bool] = True
    """False: samples are no text. No tokenizer is made, and none is kept with the model."""
    rows_at_once: ClassVar[int | None] = None
    """Rows of a micro-batch, where the config's `micro_batch_size` counts something that is only made from them."""

    def __init__(self, options: DataOptions) -> None:
        self.options = options

    @abstractmethod
    def prepare(self, source: Source, label: str) -> Samples:
        """Tokenise and filter once (cached on disk by fingerprint) and fill in the receipt.

        Raises UserError naming the row's place and the remedy where a row cannot be used and may not be dropped.
        """

    def layout(self, lengths: list[int]) -> list[list[int]]:
        """Rows, each a list of positions in the step's samples: a function of their lengths. Default: one a row."""
        return [[position] for position in range(len(lengths))]

    def item_at(self, position: int, count: int, read: Callable[[int], Item]) -> Item:
        """What `collate` is given for a position of a step's (or an evaluation's) `count` samples: the sample there.
        A format whose samples need others of the step takes them along; `read` gives the sample of any position."""
        return read(position)

    @abstractmethod
    def collate(self, rows: list[list[Item]]) -> Batch:
        """One micro-batch of CPU tensors."""

    @abstractmethod
    def empty(self) -> Batch:
        """A micro-batch that holds no unit: one row, nothing trained, so that all ranks run the same number."""

    def encode_prompt(self, prompt: str) -> list[int]:
        """Ids of a prompt, laid out as the samples are: what a model trained on them is given to continue."""
        return self.options.tokenizer.encode(prompt)

    @abstractmethod
    def describe(self, item: Item) -> str:
        """One decoded sample with its trained part visible, for receipts and `ostinato data show`."""
