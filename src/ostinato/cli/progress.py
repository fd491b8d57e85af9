"""What a run shows: a bar on a terminal, plain lines elsewhere. Both say loss, speed and time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from ostinato.core.types import StepOutput


def duration(seconds: float) -> str:
    """1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """A hook: `progress(trainer, output)` after each step; `say(text)` prints a line without breaking the bar."""

    def __init__(self, total_steps: int, first_step: int, log_interval: int) -> None:
        self.total, self.first, self.log_interval = total_steps, first_step, max(log_interval, 1)
        self.started = time.perf_counter()
        self.recent: list[
            tuple[int, float]
        ] = []  # (tokens, or samples where there are none; seconds) of the last steps
        self.bar = open_bar(total_steps, first_step) if sys.stdout.isatty() else None

    def __call__(self, trainer: Any, output: StepOutput) -> None:
        units = output.tokens or trainer.config.training.batch_size
        self.recent = [*self.recent[-49:], (units, trainer.perf["seconds"])]
        seconds = sum(seconds for _, seconds in self.recent)
        rate = sum(units for units, _ in self.recent) / seconds if seconds else 0.0
        speed = f"{rate:,.0f} {'tokens' if output.tokens else 'samples'}/s"
        done = output.step - self.first
        left = (time.perf_counter() - self.started) / done * (self.total - output.step) if done else 0.0
        if self.bar is not None:
            bar, task = self.bar
            bar.update(
                task,
                completed=output.step,
                loss=f"{output.loss:.4f}{headline(trainer, output)}",
                speed=speed,
                left=duration(left),
            )
        elif output.step % self.log_interval == 0 or output.step == self.total or output.step == self.first + 1:
            print(
                f"step {output.step}/{self.total}  loss {output.loss:.4f}{headline(trainer, output)}  "
                f"grad norm {output.grad_norm:.3f}  lr {output.learning_rate:.2e}  {speed}  "
                f"{duration(left)} left",
                flush=True,
            )

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar[0].console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar[0].stop()


def headline(trainer: Any, output: StepOutput) -> str:
    """The metrics that the algorithm wants beside the loss: its `headline`, a tuple of their names."""
    names = [name for name in getattr(trainer, "headline", ()) if name in output.metrics]
    return "".join(f"  {name} {output.metrics[name]:.3f}" for name in names)


def open_bar(total: int, first: int) -> tuple[Any, Any]:
    """A rich progress bar with loss, speed and the time left."""
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(bar_width=None),
        TextColumn("loss [bold]{task.fields[loss]}[/]  {task.fields[speed]}  {task.fields[left]} left"),
        expand=True,
        transient=False,
    )
    bar.start()
    return bar, bar.add_task("", total=total, completed=first, loss="-", speed="-", left="-")
