"""Ostinato: ML research and LLM training whose experiments repeat exactly.

`from ostinato import Run, Runs, load_config, train`: each is imported when it is asked for, torch not before `train` is
called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostinato.cli.train_call import train
    from ostinato.core.config import load_config
    from ostinato.experiment.run_view import RunView as Run
    from ostinato.experiment.runs import Runs

__all__ = ["Run", "Runs", "load_config", "train"]

# name -> module:name
FRONT = {
    "Run": "ostinato.experiment.run_view:RunView",
    "Runs": "ostinato.experiment.runs:Runs",
    "load_config": "ostinato.core.config:load_config",
    "train": "ostinato.cli.train_call:train",
}


def __getattr__(name: str) -> Any:
    if name not in FRONT:
        raise AttributeError(f"module 'ostinato' has no attribute {name!r}")
    module, _, own = FRONT[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(module), own)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *FRONT})
