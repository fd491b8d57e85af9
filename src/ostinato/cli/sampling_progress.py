"""How far a file of prompts is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from ostinato.cli.progress import duration

PAUSE_SECONDS = 10.0


class SamplingProgress:
    """`progress(done, tokens)` after each sample; `done` counts those of earlier starts too."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.before = total, done
        self.started = self.said = time.perf_counter()
        self.tokens = self.finished = 0
        self.bar: Any = open_bar(total, done) if sys.stdout.isatty() else None

    def __call__(self, done: int, tokens: int) -> None:
        self.tokens, self.finished = self.tokens + tokens, self.finished + 1
        now = time.perf_counter()
        seconds = max(now - self.started, 1e-9)
        speed = f"{self.tokens / seconds:,.0f}"
        left = duration(seconds / self.finished * max(self.total - self.before - self.finished, 0))
        if self.bar is not None:
            bar, task = self.bar
            bar.update(task, completed=done, speed=speed, left=left)
        elif now - self.said >= PAUSE_SECONDS or done == self.total:
            self.said = now
            print(f"samples {done}/{self.total}  {speed} tokens/s  {left} left", flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar[0].stop()


def open_bar(total: int, done: int) -> tuple[Any, Any]:
    """A rich progress bar with tokens/s and the time left."""
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("samples {task.completed}/{task.total}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[speed]} tokens/s  {task.fields[left]} left"),
        expand=True,
    )
    bar.start()
    return bar, bar.add_task("", total=total, completed=done, speed="-", left="-")
