"""{{class}}: say here what the rows are and where they come from."""

from __future__ import annotations

from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.core.seeding import key
from ostinato.data.source import Row


@DATASETS.register("{{component}}")
class {{class}}:
    """Rows `{"prompt": "double 21=", "response": "42"}`, numbers drawn from the seed.

    `first` leaves out that many rows, so that held-out data of the same seed are others.
    """

    kind = "generated"  # "full" where the fingerprint is of all bytes of files: ostinato.data.fingerprint

    def __init__(self, seed: int, *, size: int = 1000, first: int = 0, largest: int = 999) -> None:
        self.seed, self.size, self.first, self.largest = seed, size, first, largest
        self.fingerprint = hash_of(["{{component}}", seed, size, first, largest])  # of all that decides the rows

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        """A pure function of the options, the seed and the index: the same row in every process."""
        if not 0 <= index < self.size:
            raise IndexError(f"{{component}} has {self.size} rows, no number {index}")
        number = key(self.seed, "{{component}}", self.first + index) % (self.largest + 1)
        return {"prompt": f"double {number}=", "response": str(2 * number)}

    def place(self, index: int) -> str:
        """Where the row is, for messages."""
        return f"{{component}} {self.first + index}"
