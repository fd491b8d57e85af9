"""The config {{title}} is complete, and asks what it means to ask."""

from pathlib import Path

from ostinato.core.config import load_config

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "{{title}}.yaml"


def test_it_is_complete_and_bears_its_own_name():
    config = load_config(CONFIG, complete=True)
    assert config.experiment.name == "{{title}}"
