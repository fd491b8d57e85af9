"""Numbers and times as a report says them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ostinato.experiment.naming import age
from ostinato.experiment.reading import number


def value(found: Any) -> str:
    """Four decimals for common sizes, three digits for others, nothing for nothing."""
    if found is None or isinstance(found, (list, dict)):
        return "" if found is None else str(found)
    if isinstance(found, str) and found not in ("nan", "inf", "-inf"):
        return found
    figure = number(found)
    size = abs(figure)
    if figure != figure or size == float("inf"):
        return str(figure)
    if figure.is_integer() and size < 1e15 and isinstance(found, int):
        return f"{figure:,.0f}"
    if size >= 1e15 or (size < 1e-3 and figure):
        return f"{figure:.2e}"
    return f"{figure:,.0f}" if size >= 1e5 else f"{figure:,.4f}" if size < 100 else f"{figure:,.2f}"


def signed(found: float) -> str:
    """The same, with a sign; a minus as wide as a plus."""
    text = value(float(found)).replace("-", "−")
    return text if found != found or text.startswith("−") else f"+{text}"


def count(found: Any) -> str:
    """A whole number with its thousands apart."""
    return f"{found:,}" if isinstance(found, int) else str(found)


def duration(seconds: float | None) -> str:
    """`2 min 5 s`: two units at most."""
    if seconds is None or seconds != seconds:
        return ""
    whole = max(0, round(seconds))
    units = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    said = [f"{amount} {unit}" for amount, unit in units if amount]
    return " ".join(said[:2]) or "0 s"


def moment(text: Any) -> str:
    """`2026-11-24 15:00 UTC` of an ISO time."""
    match = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)", str(text))
    return f"{match[1]} {match[2]} UTC" if match else str(text)


def css_class(text: Any) -> str:
    """A word that may be a class."""
    return re.sub(r"[^a-z]", "", str(text).lower())


def text(found: Any) -> str:
    """An error record, or whatever stands in its place."""
    return f"{found.get('type')}: {found.get('message')}" if isinstance(found, dict) else str(found)


def brief(found: Any) -> str:
    """Four digits and no zero behind them."""
    return "" if found is None else f"{number(found):.4g}"


FILTERS: dict[str, Callable[..., str]] = {
    "value": value,
    "brief": brief,
    "signed": signed,
    "count": count,
    "duration": duration,
    "moment": moment,
    "css_class": css_class,
    "text": text,
    "age": lambda seconds: "" if seconds is None else f"{age(seconds)} ago",
}
