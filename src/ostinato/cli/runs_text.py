"""How runs are shown in a terminal: a table, one run on one screen, and rows as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ostinato.experiment.naming import age
from ostinato.experiment.reading import state_of

COLUMNS = ["name", "state", "step", "algorithm", "loss", "validation/loss", "age", "duration", "reason"]
POLL_SECONDS = 0.5


def table(runs: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Runs as aligned columns."""
    columns = list(dict.fromkeys(["name", *columns]))
    lines = [columns, *([cell(run, column) for column in columns] for run in runs)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def cell(run: dict[str, Any], column: str) -> str:
    """One value of a run, as text."""
    if column == "step":
        return step_text(run)
    if column in ("age", "duration"):
        seconds = run[f"{column}_seconds"]
        return "" if seconds is None else age(seconds)
    return value_text(run.get(column))


def value_text(value: Any) -> str:
    """A value in few characters."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.4f}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def step_text(run: dict[str, Any]) -> str:
    """`7/10`; `7/?` where it is not known how many there are to be."""
    return f"{run['step']}/{'?' if run['total_steps'] is None else run['total_steps']}"


def _what(facts: dict[str, Any]) -> str:
    if (found := facts["imported"]) is not None:
        return f"{facts['model']}, imported from {found.get('source')}, hash {found.get('hash')}"
    return (
        f"{facts['algorithm']}, {facts['model'] or 'a model from elsewhere'}, seed {facts['seed']}, "
        f"numerics {facts['numerics']}, science hash {facts['hashes'].get('science', '?')[:12]}"
    )


def facts_text(facts: dict[str, Any]) -> str:
    """`runs show`."""
    last = ", ".join(f"{name} {value_text(value)}" for name, value in facts["last"].items())
    best = ", ".join(f"{n} {value_text(b['value'])} at step {b['step']}" for n, b in facts["best"].items())
    error = facts["status"].get("error")
    lines = [
        f"{facts['name']}  {facts['state']}  step {step_text(facts)}",
        _line("what", _what(facts)),
        _line(
            "when",
            f"{facts['created']}, {age(facts['age_seconds'] or 0)} ago; lasted {age(facts['duration_seconds'] or 0)}",
        ),
        _line("where", f"{facts['folder']} ({facts['hardware'] or 'hardware not recorded'})"),
        _line("command", " ".join(facts["command"])),
        *_lines("segments", [_segment(segment) for segment in facts["segments"]]),
        _line("last", last or "no rows"),
        _line("best", best),
        _line("checkpoints", ", ".join(_checkpoint(c) for c in facts["checkpoints"]) or "none"),
        _line("lineage", ", ".join(f"{k}: {value_text(v)}" for k, v in (facts["lineage"] or {}).items() if v)),
        *_lines("data", [_source(source) for source in (facts["data"] or {}).get("sources", [])]),
        *_lines("code", [_code(entry) for entry in facts["code"]]),
        _line("events", ", ".join(f"{count} x {name}" for name, count in facts["events"].items())),
        _line("reason", facts["reason"]),
        _line(
            "error",
            f"{error['type']}: {error['message']} ({error['file']}:{error['line']}, step {error['step']})"
            if error
            else "",
        ),
        _line("tags", ", ".join(facts["tags"])),
        _line("notes", facts["notes"]),
        "what would stop a reproduction: " + ("; ".join(facts["would_stop_a_reproduction"]) or "nothing"),
    ]
    return "\n".join(line for line in lines if line)


def _line(label: str, text: str | None) -> str:
    return f"  {label:<12} {text}" if text else ""


def _lines(label: str, texts: list[str]) -> list[str]:
    return [_line(label if i == 0 else "", text) for i, text in enumerate(texts)]


def _segment(segment: dict[str, Any]) -> str:
    went_on = "" if segment["resumed_from"] is None else f", after step {segment['resumed_from']}"
    return f"{segment['segment']}: {segment['started']} on {segment['host']}, process {segment['pid']}{went_on}"


def _checkpoint(entry: dict[str, Any]) -> str:
    size = f" ({entry['bytes'] / 1024**2:.1f} MiB)" if entry["bytes"] is not None else ""
    return f"{entry['name']}{size}" + (f" [{entry['problem']}]" if entry["problem"] else "")


def _source(source: dict[str, Any]) -> str:
    kind = f"{source['kind']} " if source.get("kind") else ""
    return f"{source.get('name')}: {source.get('rows')} rows, {kind}fingerprint {source.get('fingerprint')}"


def _code(entry: dict[str, Any]) -> str:
    if "problem" in entry:
        return f"{entry.get('role')}: not captured ({entry['problem']})"
    if "tree" not in entry:
        return f"{entry.get('role')}: none (no git work tree and no pyproject.toml at {entry.get('root')} or above)"
    commit = f"commit {entry['commit'][:12]}, " if entry.get("commit") else ""
    state = "as committed" if entry.get("dirty") is False else "changed since" if commit else "no commit"
    proved = "proved" if entry.get("proved") else "not proved"
    return f"{entry['role']}: {commit}{state}, {entry['files']} files, tree {entry['tree'][:12]}, {proved}"


def follow(folder: Path) -> Iterator[str]:
    """Each row of a run as a line, those that are there first, until it ends."""
    path, place, rest = folder / "logs" / "metrics.jsonl", 0, b""
    while True:
        state = state_of(folder)
        if path.exists():
            with path.open("rb") as file:
                file.seek(place)
                data = file.read()
            place += len(data)
            *lines, rest = (rest + data).split(b"\n")
            yield from filter(None, map(_row_text, lines))
        if state not in ("created", "running"):
            yield f"{folder.name}: {state}"
            return
        time.sleep(POLL_SECONDS)


def _row_text(line: bytes) -> str:
    try:
        row = json.loads(line)
        skipped = ("kind", "step", "segment", "time", "data", "perf")
        values = "  ".join(f"{name} {value_text(value)}" for name, value in row.items() if name not in skipped)
        return "" if row["kind"] == "system" else f"step {row['step']:>6}  {row['kind']:<6}  {values}"
    except (ValueError, KeyError, TypeError):
        return ""
