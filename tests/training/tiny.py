"""A tiny real experiment for every registered algorithm, by the data its sample format wants: tests are parametrised
over the registry, so a new algorithm is covered at birth."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ostinato.core.config import Config, load_config
from ostinato.core.registry import ALGORITHMS

MODEL = "{name: transformer, width: 16, layers: 2, heads: 2, kv_heads: 1, tied_embeddings: true}"


def algorithms() -> list[str]:
    """All registered names."""
    return ALGORITHMS.names()


def write_data(folder: Path) -> None:
    """Documents and conversations of very unequal length."""
    draw = random.Random(0)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "naps"]
    texts = [" ".join(draw.choices(words, k=draw.randrange(2, 60))) for _ in range(40)]
    (folder / "text").mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / "text" / f"{number:02d}.txt").write_text(text)
    rows = [{"prompt": text[:9], "response": " ".join(draw.choices(words, k=draw.randrange(1, 12)))} for text in texts]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_config(folder: Path, algorithm: str, extra: str = "") -> Path:
    """`folder/tiny.yaml` with its data beside it."""
    write_data(folder)
    form = ALGORITHMS.get(algorithm).sample_format.__name__
    train = {
        "Windows": f"{{name: text, path: {folder}/text}}",
        "Conversations": f"{{name: jsonl, path: {folder}/rows.jsonl}}",
    }[form]
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
experiment: {{output_root: {folder}/experiments, seed: 3}}
model: {MODEL}
algorithm: {{name: {algorithm}}}
data: {{train: {train}, validation_fraction: 0.1, sequence_length: 96}}
training: {{total_steps: 6, batch_size: 8, learning_rate: 1e-2, threads: 1}}
scheduler: {{warmup_steps: 2}}
evaluation: {{batch_size: 4}}
logging: {{log_interval: 1, eval_interval: 3, save_interval: 2, trackers!: {{}}}}
{extra}
"""
    )
    return path


def tiny_config(folder: Path, algorithm: str, *overrides: str) -> Config:
    """The tiny experiment of an algorithm, loaded."""
    return load_config(write_config(folder, algorithm), overrides)
