"""The trials of a sweep: as a table, best first, and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostinato.cli.run_report import report_of
from ostinato.cli.runs_text import value_text
from ostinato.experiment.sweep_file import SweepFile
from ostinato.experiment.trials import Trial, best_first, first_of_each


def document(sweep: SweepFile, folder: Path, trials: Sequence[Trial]) -> dict[str, Any]:
    """What `--json` prints: one entry per run, best first."""
    return {
        "sweep": sweep.name,
        "folder": str(folder),
        "method": sweep.method,
        "objective": {"metric": sweep.metric, "mode": sweep.mode},
        "trials": [
            {
                "trial": trial.number,
                "name": trial.name,
                "parameters": trial.parameters,
                "objective": trial.objective,
                "state": trial.state(folder.parent),
                "failures": trial.failures,
            }
            for trial in best_first(list(first_of_each(trials).values()), sweep.mode)
        ],
    }


def table(found: dict[str, Any]) -> str:
    """The same, in columns; of the parameters those that differ."""
    trials = found["trials"]
    keys = list(dict.fromkeys(key for trial in trials for key in trial["parameters"]))
    differing = [key for key in keys if len({trial["parameters"].get(key) for trial in trials}) > 1] or keys
    lines = [["trial", "run", *differing, found["objective"]["metric"], "state"]]
    for trial in trials:
        values = [trial["parameters"].get(key, "") for key in differing]
        lines.append([str(trial["trial"]), trial["name"], *values, value_text(trial["objective"]), trial["state"]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def report(found: dict[str, Any]) -> Path | None:
    """Write the report of the completed runs into the sweep's folder; None where there is none to write."""
    folder = Path(found["folder"])
    names = completed(found)
    return report_of([folder.parent / name for name in names], folder / "report.html") if names else None


def completed(found: dict[str, Any]) -> list[str]:
    """The completed runs' names, best first."""
    return [trial["name"] for trial in found["trials"] if trial["state"] == "completed"]


def what_next(found: dict[str, Any]) -> str:
    """Where the report is, and the commands that look closer at the completed runs."""
    folder, names = Path(found["folder"]), shlex.join(completed(found))
    root = "" if folder.parent == Path("experiments").absolute() else f" --root {shlex.quote(str(folder.parent))}"
    if not names:
        return ""
    compare = f"  compare them    ostinato runs compare {names}{root}"
    return compare if found["report"] is None else f"  report          {found['report']}\n{compare}"
