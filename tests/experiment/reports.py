"""Run folders to report on, written by hand: with all that may be in one, and with what should never be believed."""

from __future__ import annotations

import json
from pathlib import Path

from ostinato.core.manifest import write_json

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028'\"&"


def write_run(root: Path, name: str, rows: list[dict], *, config: str = "", group: str | None = None, **more) -> Path:
    """A run's folder. `more`: fields of metadata.json, and `status`: those of status.json."""
    folder = root / name
    for part in ("provenance", "logs", "outputs/samples"):
        (folder / part).mkdir(parents=True)
    status = {"version": 1, "state": "completed", "step": 10, "total_steps": 10, "updated": "2026-11-23T20:23:00Z"}
    write_json(folder / "status.json", status | more.pop("status", {}), durable=False)
    birth = {"created": "2026-11-23T20:21:00Z", "algorithm": "grpo", "seed": 1}
    metadata = {"version": 1, "name": name, "id": name, **birth}
    hashes = {"hashes": {"group": group}} if group else {}
    write_json(folder / "metadata.json", metadata | hashes | more, durable=False)
    (folder / "config.yaml").write_text(config or "training:\n  learning_rate: 0.001\n", encoding="utf-8")
    begin = [{"kind": row["kind"], "step": row["step"], "segment": 0, "time": 1000.0 + i} for i, row in enumerate(rows)]
    lines = [json.dumps(first | row, separators=(",", ":")) for first, row in zip(begin, rows, strict=True)]
    (folder / "logs/metrics.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder


def train(steps: int, start: float = 2.0, **more) -> list[dict]:
    """Rows of training, whose loss falls as start / step."""
    return [
        {"kind": "train", "step": step, "loss": start / step, "tokens": 64, "perf": {"seconds": 0.5}, **more}
        for step in range(1, steps + 1)
    ]


def evaluation(step: int, mean: float, error: float = 0.01) -> dict:
    """A row of an evaluation with its standard error."""
    names = ("validation/reward/mean", "validation/reward/standard_error")
    return {"kind": "eval", "step": step, **dict(zip(names, (mean, error), strict=True))}


def write_samples(folder: Path, step: int, rows: list[dict]) -> None:
    """A table of samples."""
    path = folder / f"outputs/samples/step_{step:08d}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def evil_run(root: Path) -> Path:
    """A run in which every text is an attack on the page that shows it."""
    rows = [*train(10, **{EVIL: 1.5}), evaluation(10, 0.5), {"kind": "event", "step": 3, "event": EVIL, "text": EVIL}]
    rows[5][EVIL] = 2.5
    config = "training:\n  x: " + json.dumps(EVIL) + "\n" + json.dumps(EVIL) + ": 1\n"
    status = {"state": "failed", "reason": EVIL, "error": {"type": EVIL, "message": EVIL, "file": EVIL, "line": 1}}
    more = {"algorithm": EVIL, "notes": EVIL, "tags": [EVIL], "command": [EVIL], "hardware": EVIL, "seed": EVIL}
    folder = write_run(root, "evil", rows, config=config, status=status, model=EVIL, ostinato=EVIL, **more)
    sample = {"prompt": EVIL, "response": EVIL, "score": 0.5, "parts": {EVIL: 1.0, "b": None}, "stop_reason": EVIL}
    write_samples(folder, 5, [sample])
    (folder / "outputs/samples/step_00000006.txt").write_text(EVIL, encoding="utf-8")
    return folder
