"""Start-up times from the shell, interpreter included: help, a config's values, and the first optimizer step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import ROOT, record, spread

OSTINATO = str(Path(sys.executable).with_name("ostinato"))
CONFIG = str(ROOT / "configs" / "experiments" / "quickstart.yaml")


def seconds_of(*arguments: str) -> float:
    """Wall time of one command."""
    started = time.perf_counter()
    subprocess.run([OSTINATO, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def seconds_to_first_step(root: str, name: str) -> float:
    """From the command to the metrics row of step 1, on data prepared by an earlier run."""
    settings = [f"experiment.output_root={root}", "training.total_steps=3", "logging.eval_interval=0"]
    options = [part for setting in settings for part in ("-o", setting)]
    started = time.time()
    subprocess.run(
        [OSTINATO, "train", CONFIG, "--name", name, *options],
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    rows = map(json.loads, (Path(root) / name / "logs" / "metrics.jsonl").read_text().splitlines())
    return next(row["time"] for row in rows if row["kind"] == "train") - started


def main() -> None:
    """Medians over several starts; the disk cache is warm."""
    commands = {
        "ostinato --help (aim: below 0.15 s)": ["--help"],
        "ostinato config show quickstart.yaml (aim: below 0.2 s)": ["config", "show", CONFIG],
    }
    lines = [main.__doc__ or "", f"- bare `python -c pass`: {spread([bare() for _ in range(7)])} s"]
    for name, command in commands.items():
        seconds_of(*command)
        lines.append(f"- {name}: {spread([seconds_of(*command) for _ in range(7)])} s")
    with tempfile.TemporaryDirectory() as root:
        seconds_to_first_step(root, "warm")
        times = [seconds_to_first_step(root, f"start{number}") for number in range(3)]
    lines.append(f"- first optimizer step of quickstart.yaml, data prepared (aim: below 3 s): {spread(times)} s")
    record("start-up", lines)


def bare() -> float:
    """The interpreter alone."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
