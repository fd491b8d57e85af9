"""Every preset of policy gradients learns to copy words, from a model that often can."""

import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.experiment.reading import read_rows

CONFIGS = Path(__file__).parents[2] / "configs" / "algorithms"
PRESETS = ["grpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "rloo", "reinforce_plus_plus"]
DATA = """
data:
  train: {name: copying, length: 3, letters: 10, size: 800}
  validation: {name: copying, length: 3, letters: 10, first: 800, size: 200}
  sequence_length: 16
  packing: false
"""
BY_EXAMPLE = """
model: {name: transformer, width: 64, layers: 2, heads: 4, tied_embeddings: true, positions: learned, init_std: 0.1}
tokenizer: {name: character, added_tokens: ["<|endoftext|>"]}
training: {total_steps: 200, batch_size: 64, learning_rate: 3e-3}
scheduler: {name: constant, warmup_steps: 20}
evaluation: {batch_size: 200, stop_when: validation/token_accuracy >= 0.8}
logging: {eval_interval: 2, save_interval: 0}
"""
BY_TRIAL = """
model: {init_from: "run:sft"}
rewards: {right: {name: exact_match}}
generation: {max_new_tokens: 5}
training: {total_steps: 50, batch_size: 32, learning_rate: 5e-4}
logging: {eval_interval: 50, eval_at_start: true, save_interval: 0}
"""


def train(root: Path, name: str, preset: str, config: str) -> Path:
    """The folder of a run, done."""
    path = root / f"{name}.yaml"
    path.write_text(
        f"_base_: ['{CONFIGS / f'{preset}.yaml'}']\nexperiment: {{name: {name}, output_root: '{root}'}}\n{DATA}{config}"
    )
    subprocess.run([sys.executable, "-m", "ostinato", "train", str(path)], check=True, stdout=subprocess.DEVNULL)
    return root / name


@pytest.fixture(scope="module")
def half_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copying")
    train(root, "sft", "sft", BY_EXAMPLE)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_learns_to_copy(half_trained: Path, preset: str) -> None:
    run = train(half_trained, preset, preset, BY_TRIAL)
    before, *_, after = [row["validation/reward/mean"] for row in read_rows(run, "eval")]
    sampled = read_rows(run, "train")[0]["reward/mean"]
    assert sampled < 0.5 and before < 0.9
    assert after > 0.97


def test_no_preset_is_forgotten() -> None:
    grpo = [path.stem for path in CONFIGS.glob("*.yaml") if "algorithm: {name: grpo}" in path.read_text()]
    assert sorted(grpo) == sorted(PRESETS)
