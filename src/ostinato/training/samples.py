"""Text sampled from the model while it trains: the same prompts and the same random numbers each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ostinato.core.types import StepOutput
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer


class SampleText:
    """A hook that continues `generation.prompts` (an empty prompt if there are none) and writes what comes out."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        prompts = list(trainer.config.generation.prompts) or [""]
        generator = Generator(trainer.tokenizer)
        params = SamplingParams.of(trainer.config.generation, seed=trainer.seed)
        ids = [trainer.parts.data.format.encode_prompt(prompt) for prompt in prompts]
        samples = generator.generate(trainer.model, ids, params, step=output.step)
        texts = [prompt + sample.text for prompt, sample in zip(prompts, samples, strict=True)]
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{output.step:08d}.txt"
        path.write_text("\n---\n".join(texts) + "\n", encoding="utf-8")
        lines = texts[0].strip().splitlines()[:8]
        self.say(f"sample at step {output.step}:\n" + "\n".join("    " + line for line in lines))
