"""The receipt of a prepared source: what became of its rows, said before the first step and saved with the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

PLACES_SHOWN = 3


@dataclass
class Receipt:
    """Counts are exact. `used` + the sum of `dropped` = `rows`; `first` shows decoded samples, trained part visible."""

    label: str
    rows: int = 0
    used: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    truncated: int = 0
    remarks: dict[str, int] = field(default_factory=dict)
    """Of used rows: what a reader should know, and of how many."""
    tokens: int = 0
    trained_tokens: int = 0
    first: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Reason (of a drop, a remark, or "truncated") -> the first places it happened."""
    kind: str = ""
    """What its rows are, as their keys say: "messages", "text"; empty where nobody asked."""
    origin: str = ""
    """Where they were fetched from, as exactly as it can be said: hub:ORG/NAME@COMMIT."""

    def drop(self, reason: str, place: str) -> None:
        """Count one row that is not used."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._note(reason, place)

    def truncate(self, place: str) -> None:
        """Count one row that was cut to length."""
        self.truncated += 1
        self._note("truncated", place)

    def _note(self, reason: str, place: str) -> None:
        places = self.places.setdefault(reason, [])
        if len(places) < PLACES_SHOWN:
            places.append(place)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `Receipt(**values)` reads them back."""
        return asdict(self)

    def render(self) -> str:
        """A few lines of plain text."""
        lines = [f"{self.label}: {self.used:,} of {self.rows:,} rows{self._tokens()}"]
        if told := [f"rows are {self.kind}"] * bool(self.kind) + [f"from {self.origin}"] * bool(self.origin):
            lines.append("  " + ", ".join(told))
        for reason, count in self.dropped.items():
            lines.append(f"  dropped {count:,}: {reason} ({self._where(reason)})")
        if self.truncated:
            lines.append(f"  truncated {self.truncated:,} ({self._where('truncated')})")
        for remark, count in self.remarks.items():
            lines.append(f"  {count:,} rows: {remark} ({self._where(remark)})")
        for sample in self.first:
            lines.append("  | " + sample.replace("\n", "\n  | "))
        return "\n".join(lines)

    def _tokens(self) -> str:
        if not self.tokens:  # of rows that are no text
            return ""
        share = f" ({self.trained_tokens / self.tokens:.1%})"
        trained = f", {self.trained_tokens:,} trained on{share}" if self.trained_tokens else ""  # prompts are not
        return f", {self.tokens:,} tokens{trained}"

    def _where(self, reason: str) -> str:
        places = self.places.get(reason, [])
        total = self.truncated if reason == "truncated" else self.dropped.get(reason, self.remarks.get(reason, 0))
        return ", ".join(places) + (", ..." if total > len(places) else "")
