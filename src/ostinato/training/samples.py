"""What a run keeps to read: responses with their rewards, or text sampled while the model trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ostinato.core.types import StepOutput
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer


def can_be_sampled(trainer: BaseTrainer) -> bool:
    """Whether text can be drawn from the model, or the algorithm has samples of its own."""
    return hasattr(trainer, "samples") or (trainer.tokenizer is not None and trainer.model_output != "scalar")


class SampleText:
    """A hook. Of an algorithm that sampled itself (its `samples()` gives rows of plain values) it writes these as JSON
    lines; for any other it continues `generation.prompts` (an empty prompt if there are none), with the same random
    numbers each time, and writes what comes out.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        with trainer.strategy.whole_model(trainer.model) as model:
            if trainer.strategy.is_main:
                self.write(trainer, model, output)

    def write(self, trainer: BaseTrainer, model: nn.Module, output: StepOutput) -> None:
        """By one rank, with a model that is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{output.step:08d}"
        rows = trainer.samples() if hasattr(trainer, "samples") else []
        if rows or trainer.tokenizer is None:
            lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
            path.with_suffix(".jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            return
        prompts = list(trainer.config.generation.prompts) or [""]
        generator = Generator(trainer.tokenizer, exact=trainer.parts.exact)
        params = SamplingParams.of(trainer.config.generation, seed=trainer.seed)
        ids = [trainer.parts.data.format.encode_prompt(prompt) for prompt in prompts]
        samples = generator.generate(model, ids, params, step=output.step)
        texts = [prompt + sample.text for prompt, sample in zip(prompts, samples, strict=True)]
        path.with_suffix(".txt").write_text("\n---\n".join(texts) + "\n", encoding="utf-8")
        lines = texts[0].strip().splitlines()[:8]
        self.say(f"sample at step {output.step}:\n" + "\n".join("    " + line for line in lines))
