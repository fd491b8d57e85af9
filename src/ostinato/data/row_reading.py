"""How a format reads rows before they are encoded: what kind a row is, and which documents it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ostinato.data.encoding import Encoded
from ostinato.data.rows import RowError, calls_tools, kind_of
from ostinato.data.source import Row

TOOLS = "with tools or tool calls"


class EmptyResponse(RowError):
    """A row whose response says nothing, which `data.on_empty: drop` leaves out."""


@dataclass(frozen=True)
class Parts:
    """What a format makes of a row of a kind: rows that are encoded to a document each, and a number to keep beside
    them."""

    rows: Sequence[Row]
    kind: str = ""
    number: float | None = None
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Reading:
    """How a format reads rows. `kind` names it in the cache; `check` raises RowError for documents that do not fit."""

    kind: str
    parts_of: Callable[[Row], Parts]
    check: Callable[[Sequence[Encoded]], None] = lambda documents: None


def conversation_parts(row: Row) -> Parts:
    """A row of any fine-tuning kind, as it is."""
    return Parts([row], kind_of(row)[0], remarks=[TOOLS] if calls_tools(row) else [])


CONVERSATIONS = Reading("conversations", conversation_parts)
