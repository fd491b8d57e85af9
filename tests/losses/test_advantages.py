"""GAE, token returns, whitening and group advantages against float64 NumPy, loops and numbers by hand."""

import numpy as np
import pytest
import torch
from tests.numerics import reference_rl as reference
from tests.numerics.small_rollout import AFTER, LENGTHS, REWARDS, SEQUENCE, VALUES, S, close, sequence, tensor

from ostinato.losses.gae import adaptive_lam, gae
from ostinato.losses.group_advantages import group_advantages
from ostinato.losses.token_returns import token_returns
from ostinato.losses.whiten import Moments, merge, moments, whiten

DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
def test_returns_of_tokens(gamma, dtype):
    returns = token_returns(tensor(REWARDS, dtype), sequence(), gamma=gamma)
    close(returns, reference.token_returns(REWARDS, SEQUENCE, gamma), dtype)


def test_returns_by_hand():
    """Two sequences, gamma 1/2: 1 + 2/2 + 4/4 = 3, 2 + 4/2 = 4, 4; and 8 alone."""
    returns = token_returns(tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 0, 0, 1]), gamma=0.5)
    assert returns.tolist() == [3.0, 4.0, 4.0, 8.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.97, 0.8), (1.0, 1.0), (0.9, 0.0)])
def test_gae(gamma, lam, dtype):
    advantages = gae(
        tensor(REWARDS, dtype), tensor(VALUES, dtype), tensor(AFTER, dtype), sequence(), gamma=gamma, lam=lam
    )
    close(advantages, reference.gae(REWARDS, VALUES, AFTER, SEQUENCE, gamma, [lam] * S), dtype)


def test_gae_with_a_lambda_of_each_sequence():
    lam = adaptive_lam(torch.tensor(LENGTHS), 0.5)
    np.testing.assert_allclose(lam, [1 / 3, 0.0, 0.6, 0.0, 0.5, 0.0], rtol=1e-15, atol=1e-15)  # 1 - 2/n, at least 0
    advantages = gae(tensor(REWARDS), tensor(VALUES), tensor(AFTER), sequence(), gamma=0.9, lam=lam)
    close(advantages, reference.gae(REWARDS, VALUES, AFTER, SEQUENCE, 0.9, lam.tolist()), torch.float64)


def test_gae_by_hand():
    """gamma 1/2, lam 1/2. Ends with 0: deltas 0 + 2 - 1 = 1 and 1 + 0 - 4 = -3; A = 1 - 3/4, -3. Cut with V 6: 4."""
    advantages = gae(
        tensor([0.0, 1.0, 3.0]),
        tensor([1.0, 4.0, 2.0]),
        tensor([0.0, 6.0]),
        torch.tensor([0, 0, 1]),
        gamma=0.5,
        lam=0.5,
    )
    assert advantages.tolist() == [0.25, -3.0, 4.0]


def test_with_lambda_1_advantages_are_returns_less_values_and_values_ahead_do_not_matter():
    returns = gae(tensor(REWARDS), tensor(VALUES), tensor([0.0] * S), sequence(), gamma=1.0, lam=1.0) + tensor(VALUES)
    close(returns, reference.token_returns(REWARDS, SEQUENCE, 1.0), torch.float64)


def test_no_sequence_sees_another():
    """Alone, each has the bits it has among others."""
    rewards, values, after = tensor(REWARDS), tensor(VALUES), tensor(AFTER)
    together = gae(rewards, values, after, sequence(), gamma=0.97, lam=0.9)
    for s in range(S):
        own = sequence() == s
        alone = gae(rewards[own], values[own], after[s : s + 1], sequence()[own] - s, gamma=0.97, lam=0.9)
        assert torch.equal(alone, together[own])


def test_a_long_sequence_and_an_empty_batch():
    rewards = np.sin(np.arange(3000))
    expected, sum_of_later = np.zeros(3000), 0.0
    for t in reversed(range(3000)):
        sum_of_later = expected[t] = rewards[t] + 0.999 * sum_of_later
    long = torch.zeros(3000, dtype=torch.int64)
    close(token_returns(tensor(rewards), long, gamma=0.999), expected, torch.float64)
    none = tensor([])
    assert gae(none, none, none, long[:0], gamma=1.0, lam=0.95).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_whitening(offset, shift, dtype):
    values = VALUES + offset
    m = moments(tensor(values, dtype))
    assert m.variance.item() == pytest.approx(np.var(VALUES, ddof=1), rel=1e-4 if dtype == torch.float32 else 1e-10)
    whitened = whiten(tensor(values, dtype), m.mean, m.variance, shift=shift)
    close(whitened, reference.whiten(tensor(values, dtype).double().tolist(), shift), dtype)


def test_whitening_by_hand():
    """1, 2, 3: mean 2, variance 2/2 = 1, not 2/3."""
    m = moments(tensor([1.0, 2.0, 3.0]))
    assert [x.item() for x in (*m, m.variance)] == [3.0, 2.0, 2.0, 1.0]
    close(whiten(tensor([1.0, 2.0, 3.0]), m.mean, m.variance), np.array([-1, 0, 1]) / np.sqrt(1 + 1e-8), torch.float64)


@pytest.mark.parametrize("cuts", [[16], [5, 11], [0, 1, 7, 0, 8], [1] * 16])
def test_moments_of_ranks_are_those_of_all_tokens(cuts):
    """Unequal and empty ranks included; what a rank sends is three numbers."""
    values = tensor(VALUES + 3.0)
    sent = torch.stack([torch.stack(moments(part)) for part in values.split(cuts)])
    merged, whole = merge(Moments(*row) for row in sent), moments(values)
    for ours, expected in zip(merged, whole, strict=True):
        assert ours.item() == pytest.approx(expected.item(), rel=1e-13)


def test_moments_of_one_token_and_of_none_divide_by_nothing():
    one = moments(tensor([7.0]))
    assert whiten(tensor([7.0]), one.mean, one.variance).tolist() == [0.0]
    none = merge([moments(tensor([])), moments(tensor([]))])
    assert [x.item() for x in (*none, none.variance)] == [0.0] * 4


# Two prompts whose responses are not adjacent; a third with one score, a fourth of equal scores, a fifth of none.
GROUPS = [0, 1, 0, 0, 1, 2, 0, 1, 2, 3, 3, 4, 3]
SCORES = [1.0, 0.0, 0.0, None, 3.0, 5.0, 0.5, -1.0, None, 0.1, 0.1, None, 0.1]


@pytest.mark.parametrize("baseline", ["group_mean", "leave_one_out", "none"])
@pytest.mark.parametrize("scale", ["group_std", "batch_std", "none"])
def test_group_advantages(baseline, scale):
    expected, who = reference.group_advantages(SCORES, GROUPS, baseline, scale)
    for scores in (SCORES, np.array(SCORES, dtype=np.float64)):
        advantages, trained = group_advantages(scores, GROUPS, baseline=baseline, scale=scale)
        np.testing.assert_allclose(advantages, expected, rtol=1e-12, atol=1e-12)
        assert trained.tolist() == who.tolist()


def test_group_advantages_by_hand():
    """Scores 1, 0, 0.5 of one prompt: mean 0.5, std 0.5; leave one out: 1 - 0.25, 0 - 0.75, 0.5 - 0.5."""
    scores, groups = [1.0, 0.0, 0.5], [7, 7, 7]
    advantages, trained = group_advantages(scores, groups)
    np.testing.assert_allclose(advantages, np.array([0.5, -0.5, 0.0]) / 0.500001, rtol=1e-15)
    assert trained.all()
    advantages, _ = group_advantages(scores, groups, baseline="leave_one_out", scale="none")
    np.testing.assert_allclose(advantages, [0.75, -0.75, 0.0], rtol=1e-15)


def test_equal_scores_give_exactly_zero_and_are_trained():
    """Three times 0.1 has a mean that is not 0.1 in floating point; divided by 1e-6 the rest would be seen."""
    for baseline in ("group_mean", "leave_one_out"):
        for scale in ("group_std", "batch_std", "none"):
            advantages, trained = group_advantages(
                [0.1] * 3 + [0.0, 1.0], [0] * 3 + [1, 1], baseline=baseline, scale=scale
            )
            assert advantages[:3].tolist() == [0.0] * 3 and trained.all() and advantages[3] < 0 < advantages[4]


def test_without_a_baseline_equal_scores_stay_what_they_are():
    """REINFORCE++ with every answer right: the score is the advantage until tokens are whitened."""
    advantages, trained = group_advantages([1.0, 1.0, None], [0, 0, 1], baseline="none", scale="none")
    assert advantages.tolist() == [1.0, 1.0, 0.0] and trained.tolist() == [True, True, False]


def test_the_batchs_deviation_is_of_all_scores_those_of_untrained_groups_too():
    advantages, trained = group_advantages([1.0, 0.0, 5.0], [0, 0, 1], scale="batch_std")
    np.testing.assert_allclose(advantages, np.array([0.5, -0.5, 0.0]) / (np.std([1, 0, 5], ddof=1) + 1e-6), rtol=1e-15)
    assert trained.tolist() == [True, True, False]


def test_unscorable_is_not_a_score_of_zero():
    """With None instead of 0.0 the others' mean is 0.75, not 0.5."""
    zero, _ = group_advantages([1.0, 0.5, 0.0], [0, 0, 0], scale="none")
    none, trained = group_advantages([1.0, 0.5, None], [0, 0, 0], scale="none")
    assert zero.tolist() == [0.5, 0.0, -0.5]
    assert none.tolist() == [0.25, -0.25, 0.0] and trained.tolist() == [True, True, False]


def test_bits_do_not_depend_on_the_order_of_responses():
    """Gathered from ranks in any order, a response has the same advantage."""
    rng = np.random.default_rng(0)
    scores, groups = rng.normal(size=64), np.repeat(np.arange(4), 16)
    order = rng.permutation(64)
    for scale in ("group_std", "batch_std"):
        straight, _ = group_advantages(scores, groups, scale=scale)
        shuffled, _ = group_advantages(scores[order], groups[order], scale=scale)
        assert straight[order].tolist() == shuffled.tolist()


def test_unknown_names_are_refused_and_nothing_is_fine():
    with pytest.raises(ValueError, match="group_men"):
        group_advantages([1.0], [0], baseline="group_men")
    advantages, trained = group_advantages([], [])
    assert advantages.shape == trained.shape == (0,)
