"""From tokens to a step, and the weights of rollouts: against float64 NumPy, for any cut of the step."""

import numpy as np
import pytest
import torch
from tests.numerics import reference_rl as reference
from tests.numerics.small_rollout import LENGTHS, OLD, SEQUENCE, UPSTREAM, N, S, close, lengths, sequence, tensor

from ostinato.core.types import Totals
from ostinato.losses.aggregate import aggregate, sum_by_sequence
from ostinato.losses.rollout_weights import rollout_weights

WAYS = ["token_mean", "sequence_mean", "fixed_length", "sequence_sum"]
DTYPES = [torch.float64, torch.float32]
TOTALS = Totals({"tokens": N, "sequences": S})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", WAYS)
def test_values_and_gradients(how, dtype):
    values = tensor(UPSTREAM, dtype, grad=True)
    loss = aggregate(values, sequence(), lengths(), TOTALS, how=how, max_new_tokens=7)
    close(loss, reference.aggregate(UPSTREAM, SEQUENCE, how, 7), dtype)
    slope = torch.autograd.grad(loss, values)[0]
    close(slope, reference.gradient(lambda x: reference.aggregate(x, SEQUENCE, how, 7), UPSTREAM), dtype)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_micro_batches_add_up_to_the_step(how, cut):
    whole = aggregate(tensor(UPSTREAM), sequence(), lengths(), TOTALS, how=how, max_new_tokens=7)
    shares = []
    for first in range(0, S, cut):
        own = (sequence() >= first) & (sequence() < first + cut)
        part = lengths()[first : first + cut]
        shares.append(
            aggregate(tensor(UPSTREAM)[own], sequence()[own] - first, part, TOTALS, how=how, max_new_tokens=7)
        )
    assert sum(shares).item() == pytest.approx(whole.item(), rel=1e-14)


def test_by_hand():
    """Losses 1 | 2, 4, 6 of sequences of 1 and 3 tokens, at most 10: 13/4, (1 + 4)/2, 13/20, 13/2."""
    values, of, totals = tensor([1.0, 2.0, 4.0, 6.0]), torch.tensor([0, 1, 1, 1]), Totals({"tokens": 4, "sequences": 2})
    expected = {"token_mean": 3.25, "sequence_mean": 2.5, "fixed_length": 0.65, "sequence_sum": 6.5}
    for how, value in expected.items():
        loss = aggregate(values, of, torch.tensor([1, 3]), totals, how=how, max_new_tokens=10)
        assert loss.item() == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("how", WAYS)
def test_without_tokens_zero_with_a_graph(how):
    values = tensor([], grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = aggregate(values * 2, none, none, TOTALS, how=how, max_new_tokens=7)
    assert loss.item() == 0.0 and torch.autograd.grad(loss, values)[0].shape == (0,)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="max_new_tokens"):
        aggregate(tensor(UPSTREAM), sequence(), lengths(), TOTALS, how="fixed_length")
    with pytest.raises(ValueError, match="tokn_mean"):
        aggregate(tensor(UPSTREAM), sequence(), lengths(), TOTALS, how="tokn_mean")


def test_sums_by_sequence():
    close(
        sum_by_sequence(tensor(UPSTREAM), sequence(), S),
        np.add.reduceat(UPSTREAM, np.cumsum((0, *LENGTHS[:-1]))),
        torch.float64,
    )
    assert sum_by_sequence(tensor([1.0]), torch.tensor([1]), 3).tolist() == [0.0, 1.0, 0.0]


NAN = float("nan")
# By token and by sequence: below, within and above every bound; unknown ones; a sequence of which nothing is known.
MISMATCH = np.array([0.9, -0.8, 0.1, 1.8, 0.6, 0.5, -0.1, NAN, 0.3, -1.2, 0.4, 5e-4, NAN, -4e-4, 1e-4, NAN])
BOUNDS = {
    "none": (0.0, np.inf),
    "token_truncate": (0.0, 2.0),
    "token_mask": (0.5, 5.0),
    "sequence_mask": (0.0, 3.0),
    "geometric_mask": (0.999, 1.002),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("correction", BOUNDS)
def test_rollout_weights(correction, dtype):
    old, behaviour = tensor(OLD, dtype, grad=True), tensor(OLD - MISMATCH, dtype)
    weights = rollout_weights(old, behaviour, sequence(), S, correction=correction)
    close(weights, reference.rollout_weights(OLD, OLD - MISMATCH, SEQUENCE, correction, *BOUNDS[correction]), dtype)
    assert not weights.requires_grad


@pytest.mark.parametrize("correction", ["token_truncate", "token_mask", "sequence_mask", "geometric_mask"])
def test_bounds_can_be_set(correction):
    weights = rollout_weights(
        tensor(OLD), tensor(OLD - MISMATCH), sequence(), S, correction=correction, minimum=0.7, maximum=1.3
    )
    expected = reference.rollout_weights(OLD, OLD - MISMATCH, SEQUENCE, correction, 0.7, 1.3)
    close(weights, expected, torch.float64)


def test_rollout_weights_by_hand():
    """Ratios 4, 1/4 | 2, 3 | unknown."""
    ratios, of = tensor([4.0, 0.25, 2.0, 3.0, NAN]), torch.tensor([0, 0, 1, 1, 2])
    old = tensor([-1.0] * 5)
    expected = {
        "none": [1.0, 1.0, 1.0, 1.0, 1.0],
        "token_truncate": [2.0, 0.25, 2.0, 2.0, 1.0],
        "token_mask": [4.0, 0.0, 2.0, 3.0, 1.0],
        "sequence_mask": [1.0, 1.0, 0.0, 0.0, 1.0],  # products 1, 6, 1
        "geometric_mask": [1.0, 1.0, 0.0, 0.0, 1.0],
    }
    for correction, weights in expected.items():
        close(rollout_weights(old, old - ratios.log(), of, 3, correction=correction), weights, torch.float64)


def test_a_hopeless_mismatch_stays_finite():
    for correction in BOUNDS:
        weights = rollout_weights(
            tensor([0.0, -200.0]), tensor([-200.0, 0.0]), torch.tensor([0, 1]), 2, correction=correction
        )
        assert weights.isfinite().all()


def test_bad_corrections_are_refused():
    one = tensor([0.0]), tensor([0.0]), torch.tensor([0]), 1
    with pytest.raises(ValueError, match="token_trunc"):
        rollout_weights(*one, correction="token_trunc")
    with pytest.raises(ValueError, match="above maximum"):
        rollout_weights(*one, correction="token_mask", minimum=6.0)
