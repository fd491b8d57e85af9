"""What holds for every reward in the registry, whoever adds it."""

from dataclasses import replace

import pytest
import torch

from ostinato.core.registry import REWARDS
from ostinato.rewards.reward_model import RewardModel
from tests.rewards.responses import CONTEXT

REQUIRED = {"judge": {"url": "http://localhost:9/v1", "model": "m"}, "reward_model": {"path": "run:judge"}}
NAMES = [name for name in REWARDS.names() if name != "weighted_sum"]


def built(name):
    context = replace(CONTEXT, load_model=lambda path: (torch.nn.Linear(1, 1), None))
    return REWARDS.get(name)(context, **REQUIRED.get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_is_built_of_a_context_and_scores_nothing_as_nothing(name):
    reward = built(name)
    assert reward([]) == []
    assert reward.shaping is (name in ("length", "overlong"))
    assert reward.__doc__


def test_all_that_are_promised_are_there():
    promised = "code_tests countdown exact_match format judge length math_answer overlong reward_model"
    assert set(promised.split()) <= set(NAMES) and REWARDS.get("reward_model") is RewardModel
