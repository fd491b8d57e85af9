"""Scores of a reward model: of the last token, whatever is batched with it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.samples import Sample
from ostinato.models.transformer import Transformer
from ostinato.rewards.reward_model import RewardModel
from tests.rewards.responses import CONTEXT

torch.set_num_threads(1)


class Sums(nn.Module):
    """At each token: the sum of tokens so far in its document, times a weight; notes the shapes it sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16))
        self.shapes, self.documents = [], []

    def forward(self, tokens, positions, documents):
        self.shapes.append(tuple(tokens.shape))
        self.documents += documents.tolist()
        assert tokens.shape == positions.shape == documents.shape
        return (tokens.cumsum(1) * self.weight).where(documents == 0, torch.nan)


def context(model):
    def load_model(path):
        assert path == "run:judge"
        return model, None

    return replace(CONTEXT, load_model=load_model)


def sample(prompt_ids, response_ids):
    return Sample(prompt_ids, 0, 0, response_ids=response_ids)


SAMPLES = [sample([1, 2], [3]), sample([10], [20, 30, 40]), sample([5], [6]), sample([0, 0, 0], [0, 2])]
EXPECTED = [3.0, 50.0, 5.5, 1.0]  # half of 6, 100, 11, 2


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_score_is_the_one_at_the_last_token(batch_size):
    model = Sums()
    assert RewardModel(context(model), path="run:judge", batch_size=batch_size)(SAMPLES) == EXPECTED
    widths = {1: [(1, 2), (1, 3), (1, 4), (1, 5)], 3: [(3, 4), (1, 5)], 16: [(4, 5)]}
    assert model.shapes == widths[batch_size]  # sorted by length
    inside = [[0] * length + [-1] * (width - length) for length, width in zip((2, 3, 4), (4, 4, 4), strict=True)]
    assert batch_size != 3 or model.documents == [*inside, [0] * 5]


def test_no_responses_are_no_scores():
    assert RewardModel(context(Sums()), path="run:judge")([]) == []


def test_scores_can_be_normalised_by_what_the_model_keeps():
    model = Sums()
    model.reward_mean, model.reward_std = 1.0, torch.tensor([2.0])
    assert RewardModel(context(model), path="run:judge", normalise=True)(SAMPLES) == [1.0, 24.5, 2.25, 0.0]
    assert RewardModel(context(model), path="run:judge")(SAMPLES) == EXPECTED
    model.reward_std = 0.0
    with pytest.raises(ValueError, match="run:judge has the mean 1.0 and the deviation 0.0"):
        RewardModel(context(model), path="run:judge", normalise=True)
    with pytest.raises(ValueError, match="run:judge has no reward_mean"):
        RewardModel(context(Sums()), path="run:judge", normalise=True)
    with pytest.raises(UserError, match="models cannot be loaded here"):
        RewardModel(CONTEXT, path="run:judge")


def test_a_transformer_scores_a_response_the_same_in_any_batch():
    model = Transformer(ModelInputs(64, 16), width=16, layers=2, heads=2, output="scalar").eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    alone = [float(model(torch.tensor([one.prompt_ids + one.response_ids]))[0, -1].detach()) for one in SAMPLES]
    assert len(set(alone)) == 4
    for batch_size in (1, 2, 4):
        scores = RewardModel(context(model), path="run:judge", batch_size=batch_size)(SAMPLES)
        assert scores == pytest.approx(alone, abs=1e-6)
