"""`ostinato.train(config)`: what `ostinato train` does, called from Python, in this process."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ostinato.cli.train import requested, train_one
from ostinato.core.config import Config
from ostinato.core.stopping import SIGNALS, StopFlag
from ostinato.experiment.run_view import RunView


def train(
    config: str | Path | Config, overrides: Iterable[str] = (), *, name: str | None = None, resume: bool = False
) -> RunView:
    """Train from a config, a path or one that is loaded, with `overrides` like "training.total_steps=10".

    `name` and `resume` as on the command line. Raises ConfigError and UserError for a mistake (nothing was written),
    Stopped after Ctrl-C or SIGTERM (the step is saved; `resume=True` goes on), and what else ends a run.

    Example:
        run = train("configs/experiments/addition_sft.yaml", ["training.total_steps=100"], name="short")
        print(run.state, run.metrics()["loss"][-1])
    """
    from ostinato.experiment.resuming import Completed

    given = (*overrides, *([f"experiment.name={name}"] if name else []))
    with path_of(config) as path:
        found, folder = requested(str(path), given, resume, name)
    if isinstance(config, Config) and not given:
        found = config  # which knows where its values come from
    with stop_signals() as stop:
        try:
            return RunView(train_one(found, folder, given, stop))
        except Completed:
            assert folder is not None
            return RunView(folder)


@contextmanager
def path_of(config: str | Path | Config) -> Iterator[str | Path]:
    """A file to read a config from; of a loaded one its frozen text."""
    if not isinstance(config, Config):
        yield config
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        yield path


@contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """Stop signals stop the run while it lasts; afterwards they do what they did. In a thread they are left alone."""
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop.install()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
