"""Packed documents do not see each other: scores and gradients are those of each document alone."""

import numpy as np
import pytest
import torch

from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.core.seeding import generator
from ostinato.data.conversations import Conversations
from ostinato.data.encoding import TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.data.tokenizer_kinds import byte

WIDTH = 64


@pytest.fixture
def model():
    torch.set_num_threads(1)
    built = MODELS.get("transformer")(ModelInputs(259, WIDTH), width=16, layers=2, heads=2)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            parameter.normal_(0.0, 0.3, generator=generator("test", name))
    return built


@pytest.fixture
def collate(tmp_path):
    def make(rows, packing=True):
        return Conversations(DataOptions(byte(), WIDTH, tmp_path, packing=packing)).collate(rows)

    return make


def document(seed, size):
    draw = np.random.Generator(np.random.PCG64(seed))
    return TrainedTokens(draw.integers(0, 256, size), np.arange(size) >= size // 3)


def scores(model, batch):
    labels = {"labels": batch.labels, "trained": batch.trained}
    return model(batch.tokens, batch.positions, batch.documents, **labels).log_probs


def test_changing_one_document_changes_no_bit_of_another(model, collate):
    a, other, b = document(1, 20), document(2, 20), document(3, 30)
    trained_in_a = int(a.trained.sum())
    with torch.no_grad():
        first, second = scores(model, collate([[a, b]])), scores(model, collate([[other, b]]))
    assert torch.equal(first[trained_in_a:], second[trained_in_a:])
    assert not torch.isclose(first[:trained_in_a], second[:trained_in_a]).all()


def test_packed_scores_and_gradients_are_those_alone(model, collate):
    a, b, c = document(1, 20), document(2, 30), document(3, 50)

    def run(batch):
        model.zero_grad()
        found = scores(model, batch)
        found.sum().backward()
        return found.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    packed, packed_gradient = run(collate([[a, b], [c]]))
    alone, gradient = run(collate([[a], [b], [c]], packing=False))
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    assert (packed_gradient - gradient).norm() / gradient.norm() < 1e-6
