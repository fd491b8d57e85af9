"""One run, from a config to its end: trainer and run folder are joined here, and nowhere else."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.cli.progress import Progress
from ostinato.cli.run_hooks import add_hooks, began_from, facts_at_birth, fetched_before, make_saver
from ostinato.cli.run_report import report_of
from ostinato.cli.watchdog import Watchdog
from ostinato.cli.words import closing_text, eval_text, example_prompt, opening_text, stopped_text
from ostinato.core.config import Config
from ostinato.core.errors import OstinatoError, RefusedError, Stopped
from ostinato.core.stopping import StopFlag, StopRequested
from ostinato.core.types import StepOutput
from ostinato.data.plan import differences
from ostinato.distributed.strategy import Strategy
from ostinato.experiment.provenance import Capture
from ostinato.experiment.reading import counting, read_rows
from ostinato.experiment.run import Run
from ostinato.training import numerics
from ostinato.training.build import build
from ostinato.training.hooks import Evaluate
from ostinato.training.replay import Replay

BEFORE = StepOutput(0, math.nan, {}, math.nan, 0.0, 0, 0.0)  # what was done before the first step


class Session:
    """Builds, opens the run (rank 0), trains, and ends the run in the right state."""

    def __init__(
        self, config: Config, strategy: Strategy, stop: StopFlag, overrides: tuple[str, ...], capture: Capture | None
    ) -> None:
        self.config, self.strategy, self.stop, self.overrides = config, strategy, stop, overrides
        self.capture = capture
        self.run_record: Run | None = None  # rank 0's
        self.replay: Replay | None = None
        self.progress: Progress | None = None
        self.watchdog: Watchdog | None = None

    def run(self, resume: Path | None, threads: int | None = None) -> Path:
        """Train to the end and return the run folder. Raises Stopped (exit 75) when asked to stop."""
        before = {"began_from": began_from(resume), "fetched": fetched_before(resume)}
        self.built = build(self.config, self.strategy, self.event, self.stop, threads, **before)
        self.trainer = self.built.trainer
        folder = self.open_run(resume)
        try:
            self.prepare(folder, resumed=resume is not None)
            if self.config.logging.eval_at_start and self.trainer.global_step == 0:
                Evaluate(self.write)(self.trainer, BEFORE)
            self.trainer.train()
        except StopRequested as request:
            self.trainer.save_checkpoint(wait=True)
            state = "interrupted" if request.number == signal.SIGINT else "preempted"
            self.end(state, signal=request.number, exit_code=75)
            self.strategy.share(None)  # nobody leaves before rank 0 has saved
            raise Stopped(stopped_text(folder, self.trainer.global_step, request)) from None
        except BaseException as error:
            code = error.exit_code if isinstance(error, OstinatoError) else 1
            self.end("failed", reason=str(error) or type(error).__name__, exit_code=code, error=error)
            raise
        self.end("completed", exit_code=0)
        if self.run_record is not None:
            print(closing_text(folder, example_prompt(self.trainer), report_of([folder])), flush=True)
        return folder

    def open_run(self, resume: Path | None) -> Path:
        """Rank 0 creates or claims the run; all ranks learn its folder, or its mistake."""
        answer: Any = None
        if self.strategy.is_main:
            try:
                if resume is None:
                    run = Run.create(
                        self.config,
                        command=sys.argv,
                        overrides=self.overrides,
                        capture=self.capture,
                        **facts_at_birth(self.built),
                    )
                else:
                    run = Run.resume(
                        resume, self.config, command=sys.argv, overrides=self.overrides, capture=self.capture
                    )
                self.run_record, answer = run, run.folder
                for origin in self.built.origins if resume is None else ():
                    origin.pin(run.id)
            except OstinatoError as error:
                answer = error
        answer = self.strategy.share(answer)
        if isinstance(answer, OstinatoError):
            raise answer
        return answer

    def prepare(self, folder: Path, *, resumed: bool) -> None:
        """Checkpoints, hooks, the resumed state, the receipt; then the run is running."""
        run, trainer = self.run_record, self.trainer
        trainer.parts.saver = make_saver(self.built, folder, run, self.event)
        trainer.parts.outputs = folder / "outputs" if run else None  # rank 0 writes
        add_hooks(self.built, folder, self.write, self.say, self.show if run else None)
        trainer.add_hook(self.next_step)
        if resumed and run is not None:
            self.check_data(run.metadata["data"]["identity"])
        step = trainer.load_checkpoint() if resumed else 0
        if run is None:
            return
        print(opening_text(self.built, folder, step if resumed else None), flush=True)
        self.open_replay(folder, step)
        facts = numerics.facts(self.strategy.device, self.built.tier, self.strategy.state())
        self.judge_environment(run.record_environment(facts))
        run.start(step=step, world=self.strategy.state())
        log, limit = folder / "logs" / "train.log", self.config.training.hang_timeout_seconds
        self.watchdog = Watchdog(log, limit, self.hangs)
        self.watchdog.start()
        self.progress = Progress(trainer.total_steps, step, self.config.logging.log_interval)

    def check_data(self, before: Mapping[str, Any]) -> None:
        """Refuse to go on with other data than the run began with, naming what differs."""
        if found := differences(before, self.trainer.parts.data.identity):
            raise RefusedError("the data is not what this run began with:\n  " + "\n  ".join(found))

    def open_replay(self, folder: Path, step: int) -> None:
        """Rows written beyond the checkpoint will be compared when their steps come again."""
        exact, policy = self.built.tier != "fast", self.config.training.on_replay_mismatch
        if policy == "auto":
            policy = "stop" if exact else "warn"
        old = [row for row in counting(read_rows(folder)) if row["step"] > step and row["kind"] in ("train", "eval")]
        self.replay = Replay(
            old, exact=exact, policy=policy, report=lambda step, text: self.event("replay_mismatch", step, problem=text)
        )

    def judge_environment(self, changes: list[dict[str, Any]]) -> None:
        """Another environment may give other bits: say so or stop, as `training.on_environment_change` wants."""
        if not changes:
            return
        text = "; ".join(f"{change['name']}: {change['old']} then, {change['new']} now" for change in changes)
        if self.config.training.on_environment_change == "stop":
            raise RefusedError(f"the environment changed since the run's last segment: {text}")
        print(f"warning: the environment changed, bits may differ: {text}", file=sys.stderr)
        if self.replay is not None and self.config.training.on_replay_mismatch == "auto":
            self.replay.policy = "warn"

    # ---- while it lasts

    def write(self, row: dict[str, Any], metrics: Mapping[str, float]) -> None:
        """A row of metrics (rank 0), compared with the one it replays."""
        run = self.run_record
        if run is None:
            return
        run.status.step = row["step"]
        if self.watchdog is not None:
            self.watchdog.between_steps(row["step"])
        run.metrics.write(row, metrics)
        if row["kind"] == "eval":
            self.say(eval_text(row["step"], metrics))
        if self.replay is not None:
            self.replay.check({**row, **metrics})

    def show(self, trainer: Any, output: StepOutput) -> None:
        if self.progress is not None:
            self.progress(trainer, output)

    def next_step(self, trainer: Any, output: StepOutput) -> None:
        if self.watchdog is not None:
            self.watchdog.next_step(output.seconds)

    def hangs(self, step: int) -> None:
        """No step within the limit: the run fails, and the process ends whatever it waits for."""
        text = f"hang at step {step}: nothing for {self.config.training.hang_timeout_seconds} s; see logs/train.log"
        print(text, file=sys.stderr, flush=True)
        if self.run_record is not None:
            self.run_record.status.update(state="failed", reason=text, exit_code=1)
        os._exit(1)

    def say(self, text: str) -> None:
        if self.progress is not None:
            self.progress.say(text)

    def event(self, name: str, step: int, **fields: Any) -> None:
        """Record what happened, and say what the user should know."""
        if self.run_record is not None:
            self.run_record.event(name, step, **fields)
        if name != "checkpoint_saved":
            print(f"warning: {name} at step {step}: {', '.join(map(str, fields.values()))}", file=sys.stderr)

    def end(self, state: str, **fields: Any) -> None:
        """Close the bar and the run, once."""
        if self.watchdog is not None:
            self.watchdog.stop()
        if self.progress is not None:
            self.progress.close()
        if self.run_record is not None:
            self.run_record.finish(state, **fields)
