"""What happened to a run, as marks on its curves: failures, rewinds, spikes, damage."""

from __future__ import annotations

from typing import Any

from ostinato.experiment.reading import Row

MOST_MARKS = 60  # of one run
QUIET = ("checkpoint_saved",)  # no mark
SEVERE = ("checkpoint_damaged", "save_failed", "replay_mismatch", "torn_line")
TEXT_CHARACTERS = 160


def marks(rows: list[Row], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """By step; `kind` is failure, rewind, or event. Of too many, the less severe and the later are left out."""
    found = [mark for row in rows if (mark := _of_row(row)) is not None]
    if facts["state"] in ("failed", "lost"):
        error = (facts.get("status") or {}).get("error")
        reason = facts.get("reason") or (error.get("message") if isinstance(error, dict) else None)
        step = facts.get("step")
        found.append(_mark(step, "failure", f"{facts['state']}: {reason}" if reason else facts["state"]))
    severity = ("failure", "rewind", "event")
    kept = sorted(found, key=lambda mark: severity.index(mark["kind"]))[:MOST_MARKS]
    return sorted(kept, key=lambda mark: mark["step"])


def _of_row(row: Row) -> dict[str, Any] | None:
    if row["kind"] == "rewind":
        return _mark(row["step"], "rewind", f"resumed after step {row['step']} (segment {row.get('segment')})")
    name = row.get("event")
    if row["kind"] != "event" or name in QUIET:
        return None
    skipped = ("kind", "step", "segment", "time", "event")
    values = ", ".join(f"{key} {value}" for key, value in row.items() if key not in skipped)
    kind = "failure" if name in SEVERE else "event"
    return _mark(row["step"], kind, f"{name}: {values}" if values else str(name))


def _mark(step: Any, kind: str, text: str) -> dict[str, Any]:
    text = text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]} …"
    return {"step": step if isinstance(step, int) else 0, "kind": kind, "text": text}
