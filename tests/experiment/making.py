"""Configs and runs to test with: real ones, small, below a temporary folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ostinato.core.config import Config, load_config
from ostinato.experiment.run import Run

TEXT = """
experiment: {name: %s, output_root: %s}
algorithm: {name: pretrain}
model: {name: transformer}
training: {total_steps: 10}
logging: {log_interval: 1, trackers: {}}
"""


def config_of(folder: Path, *overrides: str, name: str = "exp001") -> Config:
    """A config whose runs lie in `folder/experiments`."""
    path = folder / "exp001.yaml"
    path.write_text(TEXT % (name, folder / "experiments"))
    return load_config(path, overrides)


def start_run(folder: Path, *overrides: str, name: str = "exp001") -> Run:
    """A new run that has begun."""
    command = ["ostinato", "train", "configs/exp001.yaml"]
    run = Run.create(config_of(folder, *overrides, name=name), command=command, code=False)
    run.start()
    return run


def python(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """A process that runs `code`, with its output readable."""
    command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
    pipes: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **options})
