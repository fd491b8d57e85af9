"""Rows of Arrow tables as plain values."""

from __future__ import annotations

from typing import Any

from ostinato.core.errors import UserError
from ostinato.data.source import Row


def load_pyarrow(dataset: str) -> Any:
    """The package, or a UserError that says how to install it."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError(f"the {dataset} dataset needs pyarrow. Install it: pip install 'ostinato[parquet]'.") from None
    return pyarrow


def row_of(table: Any, number: int, names: list[str]) -> Row:
    """A row of a table or record batch, its columns called `names`.

    A field of a struct that is null is left out: tables give every struct all fields that any of them has, so that a
    message without tool calls would have `tool_calls: None`.
    """
    return {name: _filled(column[number].as_py()) for name, column in zip(names, table.columns, strict=True)}


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part) for key, part in value.items() if part is not None}
    return [_filled(part) for part in value] if isinstance(value, list) else value
