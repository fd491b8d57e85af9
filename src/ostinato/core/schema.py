"""The top-level schema. Annotations, defaults and meanings here are the schema, the documentation and the types.

`science=False`: not part of the science hash. A default never depends on machine or time: `auto` stays `auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ostinato.core.component_nodes import (
    Algorithm,
    Dataset,
    Distributed,
    Evaluator,
    Model,
    Optimizer,
    Reward,
    Scheduler,
    Tracker,
    TrainingData,
)
from ostinato.core.fields import Section, option

# An old key is moved to the new one when its file is read: with a warning, or silently (a second spelling).
RENAMED = {
    "training.max_steps": "training.total_steps",
    "training.gradient_accumulation_steps": "training.gradient_accumulation",
}
SECOND_SPELLINGS = {"training.warmup_steps": "scheduler.warmup_steps", "model.path": "model.init_from"}


@dataclass(frozen=True)
class Experiment(Section):
    """What the run is called and what its randomness derives from."""

    name: str | None = option(None, "the run's name; null: made up at start, kept in the run's record", science=False)
    seed: int = option(0, "all randomness derives from it", minimum=0)
    output_root: Path = option("experiments", "the folder of the run folders", science=False)
    tags: list[str] = option([], "words to find the run by", science=False)
    notes: str = option("", "anything worth remembering", science=False)
    extra: dict[str, Any] = option({}, "yours: recorded, never read", science=False)


@dataclass(frozen=True)
class Tokenizer(Section):
    """How text becomes tokens."""

    name: Literal["byte", "character", "bpe", "pretrained"] = option("byte", "bpe is trained on the training data")
    path: str | None = option(None, "for pretrained: tokenizer.json, folder, hub:...; null: that of model.init_from")
    vocab_size: int = option(4096, "of bpe", exclusiveMinimum=0)
    chat_template: str | None = option(None, "a shipped name or a file; null: the tokenizer's own")
    template_options: dict[str, Any] = option({}, "given to the chat template, e.g. {enable_thinking: false}")
    added_tokens: list[str] = option([], "special tokens to add")


@dataclass(frozen=True)
class Data(Section):
    """What is read, and how it becomes sequences."""

    train: TrainingData | None = option(None, "the training data")
    validation: Dataset | None = option(None, "the held-out data")
    validation_fraction: float = option(
        0.0, "end of train held out when validation is null", minimum=0, exclusiveMaximum=1
    )
    sequence_length: int = option(1024, "longest sequence, tokens", exclusiveMinimum=0)
    packing: bool = option(True, "lay several documents into one row")
    shuffle: bool = option(True, "a new order in each epoch")
    train_on: Literal["assistant", "last_assistant", "all"] = option("assistant", "which turns of a chat are learnt")
    overlong: Literal["cut", "drop"] = option("cut", "a sequence longer than sequence_length")
    on_empty: Literal["error", "drop"] = option("error", "a row without any trained token")
    mixture_block: int = option(1024, "samples in which a mixture's proportions are exact", exclusiveMinimum=0)
    stages: list[dict[str, Any]] = option([], "weights that change: {from_step, weights}")
    workers: int = option(2, "loader threads", science=False, minimum=0)
    prefetch: int = option(2, "steps assembled ahead", science=False, minimum=0)


@dataclass(frozen=True)
class Training(Section):
    """The optimizer steps."""

    total_steps: int = option(1000, "optimizer steps", exclusiveMinimum=0)
    batch_size: int = option(32, "sequences per optimizer step, over all ranks", exclusiveMinimum=0)
    micro_batch_size: int | None = option(None, "sequences at once on a device", science=False, exclusiveMinimum=0)
    gradient_accumulation: int | None = option(None, "pieces of a rank's share", science=False, exclusiveMinimum=0)
    learning_rate: float = option(3e-4, "peak", minimum=0)
    max_grad_norm: float | None = option(1.0, "null: no clipping", exclusiveMinimum=0)
    ema_decay: float | None = option(None, "null: no averaged weights", exclusiveMinimum=0, exclusiveMaximum=1)
    on_nonfinite: Literal["stop", "skip"] = option("stop", "a step whose loss or gradient is not finite")
    on_spike: Literal["ignore", "warn", "skip", "rewind"] = option("warn", "a loss far above the recent ones")
    mixed_precision: Literal["fp32", "bf16"] = option("fp32", "what is computed in; weights are kept in fp32")
    numerics: Literal["auto", "fast", "deterministic", "elastic"] = option("auto", "which bits repeat", science=False)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where to compute", science=False)
    gradient_checkpointing: bool = option(False, "recompute activations", science=False)
    compile: bool = option(False, "torch.compile, block by block", science=False)
    threads: int | None = option(None, "CPU threads; null: what the run recorded", science=False, exclusiveMinimum=0)
    on_replay_mismatch: Literal["auto", "stop", "warn"] = option("auto", "auto: warn in fast, else stop", science=False)
    on_environment_change: Literal["warn", "stop"] = option("warn", "a resume on another machine", science=False)
    hang_timeout_seconds: int = option(1800, "no step for so long: stop", science=False, exclusiveMinimum=0)


@dataclass(frozen=True)
class Generation(Section):
    """How text is sampled."""

    max_new_tokens: int = option(256, "longest response", exclusiveMinimum=0)
    temperature: float = option(1.0, "0: greedy", minimum=0)
    top_k: int | None = option(None, "only the k likeliest tokens", exclusiveMinimum=0)
    top_p: float = option(1.0, "only the likeliest tokens of that mass", exclusiveMinimum=0, maximum=1)
    min_p: float = option(0.0, "only tokens at least that likely, relative to the likeliest", minimum=0, maximum=1)
    repetition_penalty: float = option(1.0, "above 1: less repetition", exclusiveMinimum=0)
    stop: list[str] = option([], "texts that end a response")
    remote: str | None = option(None, "URL of a server to sample from instead of the live model")
    prompts: list[str] = option([], "what is sampled from during training")


@dataclass(frozen=True)
class Evaluation(Section):
    """What is measured besides the held-out loss."""

    limit: int | None = option(None, "items per evaluator", exclusiveMinimum=0)
    batch_size: int | None = option(None, "null: micro-batch", exclusiveMinimum=0)
    evaluators: dict[str, Evaluator] = option({}, "by label")
    stop_when: str | None = option(None, "end early once it holds, e.g. validation/loss <= 1.9")


@dataclass(frozen=True)
class Logging(Section):
    """What is written and kept, and when."""

    log_interval: int = option(10, "steps; 0: only at the end", science=False, minimum=0)
    eval_interval: int = option(500, "steps; 0: only at the end", science=False, minimum=0)
    eval_at_start: bool = option(False, "measure before the first step, too", science=False)
    save_interval: int = option(500, "steps; 0: only at the end", science=False, minimum=0)
    samples_interval: int = option(0, "steps; 0: never", science=False, minimum=0)
    keep_last: int = option(3, "checkpoints", science=False, exclusiveMinimum=0)
    keep_every: int | None = option(None, "also keep each N-th step's", science=False, exclusiveMinimum=0)
    keep_best: int = option(0, "also keep the best N", science=False, minimum=0)
    best_metric: str = option("validation/loss", "by which they are compared", science=False)
    best_mode: Literal["min", "max"] = option("min", "which way is better", science=False)
    background_saves: bool = option(True, "write checkpoints beside training", science=False)
    profile: tuple[int, int] | None = option(None, "trace these steps", science=False)
    trackers: dict[str, Tracker] = option({"tensorboard": {}}, "besides metrics.jsonl", science=False)


@dataclass(frozen=True)
class Sections(Section):
    """A config: all sections, in the order they are shown."""

    experiment: Experiment = option({}, "name, seed, folder")
    model: Model = option({}, "the network")
    tokenizer: Tokenizer = option({}, "text to tokens")
    data: Data = option({}, "what is read")
    algorithm: Algorithm = option({}, "the method")
    training: Training = option({}, "the optimizer steps")
    optimizer: Optimizer = option({}, "how gradients change weights")
    scheduler: Scheduler = option({}, "the learning rate over the steps")
    distributed: Distributed = option({}, "how the work is spread", science=False)
    generation: Generation = option({}, "how text is sampled")
    rewards: Mapping[str, Reward] = option({}, "summed with their weights")
    evaluation: Evaluation = option({}, "what is measured")
    logging: Logging = option({}, "what is written and kept", science=False)
    plugins: list[str] = option([], "top-level module names to find components in", science=False)
