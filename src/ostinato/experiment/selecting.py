"""Which runs are meant: `algorithm=dpo and validation/loss<2 and training.learning_rate>1e-4`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.experiment.reading import counting, number, read_or_empty, read_rows
from ostinato.experiment.run_index import index_of
from ostinato.experiment.secrets import leaves

CONDITION = re.compile(r"\s*(?P<key>[^\s=<>!]+)\s*(?P<operator>!=|<=|>=|=|<|>)\s*(?P<value>.*?)\s*")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
POWER = re.compile(r"-?\d+e[+-]?\d+")  # 1e-05: a number to us, a text to YAML 1.1
BEST = re.compile(r"best\((.+)\)")


def matcher(expression: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a run (as `runs list` summarises it) meets an expression: conditions joined by `and` and `or`."""
    alternatives = [
        [_condition(part) for part in re.split(r"\s+and\s+", alternative)]
        for alternative in re.split(r"\s+or\s+", expression.strip())
    ]
    return lambda run: any(all(condition(run) for condition in part) for part in alternatives)


def _condition(text: str) -> Callable[[Mapping[str, Any]], bool]:
    match = CONDITION.fullmatch(text)
    if match is None:
        raise UserError(
            f"--where: {text!r} is no condition. Write KEY=VALUE, or with != < <= > >=, joined by and, or: "
            "'algorithm=sft and validation/loss<2'."
        )
    key, compare, wanted = match["key"], COMPARE[match["operator"]], match["value"].strip("'\"")

    def holds(run: Mapping[str, Any]) -> bool:
        value = lookup(run, key)
        if isinstance(value, (list, tuple)):
            return wanted in map(str, value) if match["operator"] == "=" else wanted not in map(str, value)
        left, right = number(value), number(wanted)
        if not math.isnan(left) and not math.isnan(right) and not isinstance(value, bool):
            return compare(left, right)
        if value is None and match["operator"] not in ("=", "!="):
            return False
        text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
        return compare("null" if value is None else text, wanted)

    return holds


def lookup(run: Mapping[str, Any], key: str) -> Any:
    """A value of a run: summary, last value of a metric, `best(metric)` (the smallest), config key, metadata."""
    if key in run:
        return run[key]
    if key in run["last"]:
        return run["last"][key]
    folder = Path(run["folder"])
    if best := BEST.fullmatch(key):
        return _stored(folder, key, "logs/metrics.jsonl", lambda: smallest(folder, best[1]))
    config = _stored(folder, "config", "config.yaml", lambda: config_leaves(folder))
    if key in config:
        return config[key]
    return dict(leaves(read_or_empty(folder / "metadata.json"))).get(key)


def _stored(folder: Path, part: str, file: str, make: Callable[[], Any]) -> Any:
    return index_of(str(folder.parent)).get(str(folder), part, [file], make)


def smallest(folder: Path, metric: str) -> float | None:
    """The smallest value of a metric in the rows that count."""
    values = [number(row.get(metric)) for row in counting(read_rows(folder))]
    return min((value for value in values if not math.isnan(value)), default=None)


def config_leaves(folder: Path) -> dict[str, Any]:
    """The frozen config's leaves, read plainly: good to compare with, in a moment and without its components."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = leaves(yaml.load((folder / "config.yaml").read_text("utf-8"), loader))
        return {key: float(v) if isinstance(v, str) and POWER.fullmatch(v) else v for key, v in found}
    except (OSError, yaml.YAMLError):
        return {}


def sort_runs(runs: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """By any such value, smallest first, `-key` largest first; runs without it last."""
    descending, key = key.startswith("-"), key.removeprefix("-")
    having = [(value, run) for run in runs if (value := lookup(run, key)) is not None]
    if not having and runs:
        raise UserError(f"--sort: no run has {key!r}. Choose of {', '.join(k for k in runs[0] if k != 'last')}, ...")
    if all(not math.isnan(number(value)) for value, _ in having):
        having.sort(key=lambda pair: number(pair[0]), reverse=descending)
    else:
        having.sort(key=lambda pair: str(pair[0]), reverse=descending)
    return [run for _, run in having] + [run for run in runs if lookup(run, key) is None]
