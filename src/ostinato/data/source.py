"""A source: rows as read, before any tokenizer. Registered in DATASETS, built as `DATASETS.build(node, seed)`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

Row = dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """Rows by index: `{"text": ..}`, `{"messages": [..]}`, `{"prompt": .., "response": ..}` or whatever a file holds.

    A source is a pure function of its options, its files and the seed: the same index gives the same row in every
    process. Rows that cannot be read raise a UserError that names `place(index)`. One that fetches its rows may have an
    attribute `origin`, what exactly was fetched ("hub:ORG/NAME@COMMIT"), which is recorded with the run.

    Example:
        @DATASETS.register("greetings")
        class Greetings:
            kind = "generated"

            def __init__(self, seed: int, *, size: int = 100):
                self.size, self.fingerprint = size, hash_of({"dataset": "greetings", "size": size})

            def __len__(self): return self.size
            def __getitem__(self, index): return {"text": f"Hello, {index}!"}
            def place(self, index): return f"greeting {index}"
    """

    fingerprint: str
    """xxh3-128 of the content (32 hex digits)."""
    kind: str
    """How the fingerprint was made: "full" (all bytes), "sampled" (very large files) or "generated"."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...

    def place(self, index: int) -> str:
        """Where the row is, for messages: `file.jsonl:17`."""
        ...


def origin_of(source: Source) -> str:
    """Where a source's rows were fetched from; empty for one that does not fetch."""
    return getattr(source, "origin", "")
