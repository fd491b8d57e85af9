"""A tiny real experiment for every registered algorithm, by the data its sample format wants: tests are parametrised
over the registry, so a new algorithm is covered at birth."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ostinato.core.config import Config, load_config
from ostinato.core.registry import ALGORITHMS

MODEL = "{name: transformer, width: 16, layers: 2, heads: 2, kv_heads: 1, tied_embeddings: true, init_std: STD}"


# What bytes drawn at random are judged by, so that rewards differ: half of them are no characters.
REWARDED = """
tokenizer: {name: byte, chat_template: plain}
rewards: {ascii: {name: format, pattern: '[\\x00-\\x7f]*'}, short: {name: length, weight: 0.5}}
generation: {max_new_tokens: 5, stop: ["a", "Z", "7"]}

"""

# Half of the answers are the student's own.
TAUGHT = """
distill: {teacher: FOLDER, on_policy_fraction: 0.5}
generation: {max_new_tokens: 5}

"""


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
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "prompts.jsonl", [{"prompt": row["prompt"], "answer": "x"} for row in rows])
    answers = [" ".join(draw.choices(words, k=draw.randrange(1, 12))) for _ in rows]
    keys = [
        {"prompt": row["prompt"], "chosen": row["response"], "rejected": a}
        for row, a in zip(rows, answers, strict=True)
    ]
    write_rows(folder / "pairs.jsonl", [{**row, "margin": number % 3 / 4} for number, row in enumerate(keys)])
    write_rows(folder / "labelled.jsonl", [{**row, "label": number % 3 > 0} for number, row in enumerate(rows)])


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_config(folder: Path, algorithm: str, extra: str = "") -> Path:
    """`folder/tiny.yaml` with its data beside it."""
    write_data(folder)
    form = ALGORITHMS.get(algorithm).sample_format.__name__
    train = {
        "Windows": f"{{name: text, path: {folder}/text}}",
        "Conversations": f"{{name: jsonl, path: {folder}/rows.jsonl}}",
        "DistillationRows": f"{{name: jsonl, path: {folder}/rows.jsonl}}",
        "Pairs": f"{{name: jsonl, path: {folder}/pairs.jsonl}}",
        "LabelledResponses": f"{{name: jsonl, path: {folder}/labelled.jsonl}}",
        "Prompts": f"{{name: jsonl, path: {folder}/prompts.jsonl}}",
    }[form]
    if form == "Prompts":
        extra = REWARDED + extra
    if form == "DistillationRows":
        extra = TAUGHT.replace("FOLDER", str(write_teacher(folder))) + extra
    # Two fresh rewards differ by little, and what is left of their gradients by rounding: wider weights, wider apart.
    model = MODEL.replace("STD", "0.3" if ALGORITHMS.get(algorithm).model_output == "scalar" else "0.02")
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
experiment: {{output_root: {folder}/experiments, seed: 3}}
model: {model}
algorithm: {{name: {algorithm}}}
data: {{train: {train}, validation_fraction: 0.1, sequence_length: 96}}
training: {{total_steps: 6, batch_size: 8, learning_rate: 1e-2, threads: 1}}
scheduler: {{warmup_steps: 2}}
evaluation: {{batch_size: 4, limit: 3}}
logging: {{log_interval: 1, eval_interval: 3, save_interval: 2, trackers!: {{}}}}
{extra}
"""
    )
    return path


def write_teacher(folder: Path, *overrides: str) -> Path:
    """`folder/teacher`: a wider model than the student, with weights so wide that it has opinions."""
    from ostinato.training.build import build, open_strategy
    from ostinato.training.state import named_weights
    from ostinato.training.tensor_files import write_tensors

    (folder / "teacher").mkdir(exist_ok=True)
    wider = ["model.width=24", "model.heads=3", "model.init_std=0.5", "experiment.seed=7"]
    config = load_config(write_config(folder, "sft"), [*wider, *overrides])
    built = build(config, open_strategy(config))
    for name, content in built.model_files.items():
        (folder / "teacher" / name).write_bytes(content)
    write_tensors(folder / "teacher" / "model.safetensors", named_weights(built.trainer.model), {})
    return folder / "teacher"


def tiny_config(folder: Path, algorithm: str, *overrides: str) -> Config:
    """The tiny experiment of an algorithm, loaded."""
    return load_config(write_config(folder, algorithm), overrides)
