"""configs/models/: each checks in an experiment, and the published ones have the published number of parameters."""

from pathlib import Path

import pytest
import torch

from ostinato.core.config import load_config
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
# vocabulary and parameters as published, or as the published shape and vocabulary amount to
PUBLISHED = {
    "gemma-2-2b": (256000, 2_614_341_888),
    "gemma-3-1b": (262144, 999_885_952),
    "gpt2": (50257, 124_439_808),
    "llama-1b": (128256, 1_235_814_400),
    "llama-2-13b": (32000, 13_015_864_320),
    "llama-2-7b": (32000, 6_738_415_616),
    "llama-3.1-70b": (128256, 70_553_706_496),
    "llama-3.1-8b": (128256, 8_030_261_248),
    "llama-3.2-1b": (128256, 1_235_814_400),
    "llama-3.2-3b": (128256, 3_212_749_824),
    "mistral-7b": (32000, 7_241_732_096),
    "olmo-2-7b": (100352, 7_298_617_344),
    "phi-3-mini": (32064, 3_821_079_552),
    "qwen2.5-0.5b": (151936, 494_032_768),
    "qwen2.5-7b": (152064, 7_615_616_512),
    "qwen3-0.6b": (151936, 596_049_920),
    "qwen3-1.7b": (151936, 1_720_574_976),
    "qwen3-4b": (151936, 4_022_468_096),
    "qwen3-8b": (151936, 8_190_735_360),
    "smollm2-135m": (49152, 134_515_008),
}


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONFIGS / "models").glob("*.yaml")} - {"lora"}))
def test_a_preset_checks_and_has_its_published_size(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words\n")
    (tmp_path / "experiment.yaml").write_text(
        f"_base_: [{CONFIGS}/models/{name}.yaml, {CONFIGS}/algorithms/pretrain.yaml]\n"
        "tokenizer: {name: byte}\n"
        "data: {sequence_length: 64, train: {name: text, path: text.txt}}\n"
    )
    config = load_config(tmp_path / "experiment.yaml", complete=True)
    vocabulary, wanted = PUBLISHED.get(name, (256, None))
    with torch.device("meta"):
        model = MODELS.build(config.model, ModelInputs(vocabulary, 64))
    found = sum(weight.numel() for weight in model.parameters())
    if wanted is None:
        assert name.endswith("-tiny") and found < 3e6
    else:
        assert found == wanted
