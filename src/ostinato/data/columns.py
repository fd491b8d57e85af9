"""Columns of a dataset under other names: what `columns` selects, and what is said where one is not there.

`columns` is {name in the row: name in the file}, e.g. {prompt: question, response: answer}. What it does not name is
not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.data.source import Row

VALUE_SHOWN = 60
ROW_SHOWN = 600


def named(row: Row, columns: Mapping[str, str] | None) -> Row:
    """The row under the names that `columns` gives. Raises KeyError for a column that it lacks."""
    return row if columns is None else {name: row[column] for name, column in columns.items()}


def lacking(present: Iterable[str], columns: Mapping[str, str] | None) -> str | None:
    """The first column that is asked for and not there."""
    there = set(present)
    return next((column for column in (columns or {}).values() if column not in there), None)


def no_column(place: str, column: str, row: Row, which: str = "Row 1") -> UserError:
    """The error for a column that is missing at `place`; `row` (called `which`) shows what there is instead."""
    there = ", ".join(map(str, row)) or "none"
    return UserError(
        f"{place}: no column {column!r}; there are {there}. {which}: {shown(row)}\n"
        "Correct the dataset's columns, {name in the row: name in the file}."
    )


def shown(row: Row) -> str:
    """A row in one line, long values cut."""
    parts = [f"{json.dumps(str(key), ensure_ascii=False)}: {_value(value)}" for key, value in row.items()]
    text = "{" + ", ".join(parts) + "}"
    return text if len(text) <= ROW_SHOWN else text[:ROW_SHOWN] + " ..."


def fingerprint_of(content: str, columns: Mapping[str, str] | None) -> str:
    """Of files whose rows are read under other names: of the content alone where they are not."""
    return content if columns is None else hash_of([content, dict(columns)])


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_SHOWN else text[:VALUE_SHOWN] + " ..."
