"""What is said of rows that cannot be trained on."""

from __future__ import annotations

from ostinato.core.errors import UserError

MISTAKES_SHOWN = 10


class UnusableRows(UserError):
    """Rows that cannot be trained on, as (place, what is wrong with it), and the remedies; one line for each wrong."""

    def __init__(self, mistakes: list[tuple[str, str]], remedies: list[str], rows_read: int) -> None:
        places: dict[str, list[str]] = {}
        for place, what in mistakes:
            places.setdefault(what, []).append(place)
        lines = [_line(what, where) for what, where in places.items()]
        shown = lines[:MISTAKES_SHOWN]
        rest = [f"... and {len(lines) - len(shown)} more"] if len(lines) > len(shown) else []
        head = f"of the {rows_read:,} rows read, {len(mistakes)} cannot be trained on:"
        super().__init__("\n".join([head, *shown, *rest, *remedies]))


def _line(what: str, places: list[str]) -> str:
    also = f" ({len(places) - 1:,} more like it, the next {places[1]})" if len(places) > 1 else ""
    return f"{places[0]}: {what}{also}" if places[0] else what
