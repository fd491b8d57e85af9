"""What a run does after each step, and how it saves: the hooks between a trainer and its run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostinato.experiment.reading import read_or_empty
from ostinato.experiment.run import Run
from ostinato.training import hooks
from ostinato.training.build import Built
from ostinato.training.checkpoint_folder import Checkpoints, Retention
from ostinato.training.goals import Goal
from ostinato.training.model_files import config_of
from ostinato.training.samples import SampleText, can_be_sampled
from ostinato.training.saver import Saver
from ostinato.training.trainer import Hook


def make_saver(built: Built, folder: Path, run: Run | None, event: Callable[..., None]) -> Saver:
    """The saver of a run. Only rank 0's, which has the `run`, ever writes."""
    trainer = built.trainer
    config, logging = trainer.config, trainer.config.logging
    checkpoints = Checkpoints(
        folder / "checkpoints",
        Retention(logging.keep_last, logging.keep_every, logging.keep_best, logging.best_metric, logging.best_mode),
        event,
        before_commit=run.check_fence if run else lambda: None,
        background=logging.background_saves,
        keep_existing=built.tier != "fast",
        writable=run is not None,
    )
    facts: dict[str, Any] = {
        "run": {"id": run.id, "name": run.name} if run else {},
        "hf": config_of(trainer.model) is not None,
        "world": trainer.strategy.state(),
        "numerics": built.tier,
        "fingerprints": {
            "config": config.full_hash,
            "science": config.science_hash,
            "plan": trainer.parts.data.fingerprint,
        },
    }
    saver = Saver(checkpoints, facts, built.model_files, run.metrics.sync if run else lambda: None)
    saver.every = logging.save_interval
    return saver


def add_hooks(built: Built, folder: Path, write: hooks.Write, say: Callable[[str], None], show: Hook | None) -> None:
    """In this order after each step: averages, the row, held-out metrics, samples, the bar, the checkpoint."""
    trainer, logging, training = built.trainer, built.trainer.config.logging, built.trainer.config.training
    average = hooks.Average(trainer.model, training.ema_decay) if training.ema_decay else None
    if average is not None:
        trainer.add_hook(average)
    trainer.add_hook(hooks.RecordStep(write))
    wanted = trainer.config.evaluation.stop_when
    goal = Goal.of(wanted) if wanted else None
    trainer.add_hook(hooks.Evaluate(write, average, goal), every=logging.eval_interval)
    if logging.samples_interval and can_be_sampled(trainer):
        trainer.add_hook(SampleText(folder / "outputs" / "samples", say), every=logging.samples_interval)
    if trainer.strategy.is_main and logging.profile:
        trainer.add_hook(hooks.Profile(str(folder / "logs" / "trace.json"), *logging.profile))
    if show is not None:
        trainer.add_hook(show)
    trainer.add_hook(trainer.saver)


def facts_at_birth(built: Built) -> dict[str, Any]:
    """What is known of the run before its first step, for `metadata.json`."""
    data, origin = built.trainer.parts.data, built.origin
    sources = [
        {"name": name, "rows": s.receipt.rows, "used": s.receipt.used, "fingerprint": s.fingerprint}
        | {"kind": s.receipt.kind}
        for name, s in data.train.items()
    ]
    return {
        "numerics": built.tier,
        "data": {"plan": data.fingerprint, "identity": data.identity, "sources": sources, "origins": data.origins},
        "tokenizer": data.tokenizer and {"fingerprint": data.tokenizer.fingerprint, "origin": data.tokenizer.origin},
        "lineage": {"init_from": origin.lineage if origin else None, "reproduces": None, "sweep": None},
    }


def fetched_before(resume: Path | None) -> Any:
    """What a run that is resumed recorded of the data that it fetched."""
    return read_or_empty(resume / "metadata.json").get("data", {}).get("origins") if resume else None


def began_from(resume: Path | None) -> Any:
    """What a run that is resumed recorded of the weights that it began from."""
    return read_or_empty(resume / "metadata.json").get("lineage", {}).get("init_from") if resume else None
