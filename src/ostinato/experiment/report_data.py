"""What a report is made of: runs as facts, charts, differences, samples; plain values, nothing of a page."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ostinato.experiment import report_charts
from ostinato.experiment.curves import clock, columns
from ostinato.experiment.facts import run_facts
from ostinato.experiment.reading import Row, counting, read_rows
from ostinato.experiment.report_marks import marks
from ostinato.experiment.report_samples import samples
from ostinato.experiment.report_tables import evaluations, metric_table
from ostinato.experiment.selecting import config_leaves

PLACE_KEYS = ("experiment.name", "experiment.output_root", "_hash_")  # where a run lies, not what it is
VALUE_CHARACTERS = 300
MOST_OPTION_COLUMNS = 16  # of more runs only what differs is shown


def report_data(folders: Sequence[Path]) -> dict[str, Any]:
    """All of it, as JSON would hold it. What is missing or damaged in a folder is missing in the answer."""
    folders = [Path(path) for path in dict.fromkeys(os.path.abspath(folder) for folder in folders)]
    all_rows = [read_rows(folder) for folder in folders]
    counted = [[row for row in counting(rows) if row["kind"] in ("train", "eval")] for rows in all_rows]
    facts = [run_facts(folder, rows) for folder, rows in zip(folders, all_rows, strict=True)]
    found = [columns(rows) for rows in counted]
    groups = seed_groups(facts)
    names = labels(folders)
    charts, left_out = report_charts.charts(found, [group["runs"] for group in groups])
    held_out = set(columns(row for rows in counted for row in rows if row["kind"] == "eval"))
    for chart in charts:
        chart["held_out"] = chart["metric"] in held_out
    for group in groups:
        group["label"] = group_label([names[run] for run in group["runs"]])
    configs = [config_leaves(folder) for folder in folders]
    return {
        "version": 1,
        "title": names[0] if len(names) == 1 else f"{len(names)} runs",
        "made": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "runs": [
            {"label": label, "facts": fact, "clock": clock(trained(rows)), "marks": marks(every, fact)}
            for label, fact, rows, every in zip(names, facts, counted, all_rows, strict=True)
        ],
        "groups": groups,
        "charts": charts,
        "left_out": left_out,
        "constants": report_charts.constants(found),
        "metrics": metric_table(found),
        "evaluations": evaluations(counted),
        "differing": differing(configs),
        "options": option_table(configs if len(configs) <= MOST_OPTION_COLUMNS else []),
        "samples": samples(folders),
    }


def drawn_part(data: dict[str, Any]) -> dict[str, Any]:
    """The part of it that is drawn, for the page's script."""
    runs = [{name: run[name] for name in ("label", "clock", "marks")} for run in data["runs"]]
    return {"version": 1, "runs": runs, "groups": data["groups"], "charts": data["charts"]}


def trained(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "train"]


def labels(folders: Sequence[Path]) -> list[str]:
    """Names, with as much of the path before them as tells them apart."""
    depth = 1
    while depth < max((len(folder.parts) for folder in folders), default=0):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            break
        depth += 1
    counts = Counter(folder.name for folder in folders)
    return ["/".join(f.parts[-depth:]) if counts[f.name] > 1 else f.name for f in folders]


def seed_groups(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of at least two runs whose configs differ in the seed alone."""
    members: dict[str, list[int]] = {}
    for number, fact in enumerate(facts):
        hashes = fact.get("hashes")
        group = hashes.get("group") if isinstance(hashes, dict) else None
        if isinstance(group, str):
            members.setdefault(group, []).append(number)
    return [{"hash": group[:12], "runs": runs} for group, runs in members.items() if len(runs) > 1]


def group_label(names: Sequence[str]) -> str:
    """What the runs' names share at their end or beginning, and how many they are."""
    ends = {name.rpartition("/")[2] for name in names}
    shared = "" if len(ends) > 1 else ends.pop()
    if not shared:
        for letters in zip(*names, strict=False):
            if len(set(letters)) > 1:
                break
            shared += letters[0]
        shared = shared.removesuffix("seed").rstrip("-_./ ").removesuffix("-seed").removesuffix("_seed")
    return f"{shared or names[0]} ({len(names)} seeds)"


def differing(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The options that the runs do not share, but for where they lie."""
    if len(configs) < 2:
        return []
    rows = option_table(configs)
    return [row for row in rows if row["key"] not in PLACE_KEYS and len(set(row["values"])) > 1]


def option_table(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every option, as text, in the order of the config; None where a run has none of this name."""
    keys = dict.fromkeys(key for config in configs for key in config if key != "_hash_")
    values = {key: [option_text(config, key) for config in configs] for key in keys}
    return [{"key": key, "values": texts, "partial": None in texts} for key, texts in values.items()]


def option_text(config: dict[str, Any], key: str) -> str | None:
    """A value as YAML would have it."""
    if key not in config:
        return None
    value = config[key]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]} … ({len(text)} characters)"
