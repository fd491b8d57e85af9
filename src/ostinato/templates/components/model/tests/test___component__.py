"""The model {{component}}: its scores are those of its logits, and it does not look ahead."""

import torch
from ostinato.core.inputs import ModelInputs

from {{name}}.models.{{component}} import {{class}}

GENERATOR = torch.Generator().manual_seed(0)


def tokens(rows=2, columns=6, vocabulary=11):
    return torch.randint(vocabulary, (rows, columns), generator=GENERATOR)  # (B, T)


def model():
    return {{class}}(ModelInputs(vocab_size=11, sequence_length=6), width=8, layers=2)


def test_scores_are_the_log_probs_of_the_logits():
    network, text = model(), tokens()
    labels = text.roll(-1, 1)
    labels[:, -1] = -100  # not trained
    log_probs = network(text).log_softmax(-1)[:, :-1].gather(2, labels[:, :-1, None]).flatten()
    torch.testing.assert_close(network(text, labels=labels).log_probs, log_probs)


def test_it_does_not_look_ahead():
    network, text = model(), tokens()
    other = text.clone()
    other[:, 3:] = (other[:, 3:] + 1) % 11
    torch.testing.assert_close(network(text)[:, :3], network(other)[:, :3])
    assert not torch.allclose(network(text)[:, 3], network(other)[:, 3])
