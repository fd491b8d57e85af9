"""The reference itself, by hand: what every other test of reinforcement learning is measured with."""

import numpy as np
import pytest
from tests.numerics import reference_rl as reference


def test_gradients_by_differences():
    slope = reference.gradient(lambda x: x[0] ** 3 * np.exp(x[1]), [2.0, -0.5])
    np.testing.assert_allclose(slope, [12 * np.exp(-0.5), 8 * np.exp(-0.5)], rtol=1e-11)


def test_returns_and_gae():
    """Two tokens and one; gamma 1/2, lam 1/2 and 1; the second sequence was cut where the critic says 6."""
    rewards, sequence = [0.0, 1.0, 3.0], [0, 0, 1]
    assert reference.token_returns(rewards, sequence, 0.5).tolist() == [0.5, 1.0, 3.0]
    assert reference.gae(rewards, [1.0, 4.0, 2.0], [0.0, 6.0], sequence, 0.5, [0.5, 1.0]).tolist() == [0.25, -3.0, 4.0]


def test_whitening():
    np.testing.assert_allclose(reference.whiten([1.0, 2.0, 3.0]), np.array([-1, 0, 1]) / np.sqrt(1 + 1e-8), rtol=1e-15)
    np.testing.assert_allclose(reference.whiten([1.0, 2.0, 3.0], shift=False), [1.0, 2.0, 3.0], rtol=1e-8)


def test_group_advantages():
    advantages, trained = reference.group_advantages(
        [1.0, 0.0, None, 0.5, 9.0], [0, 0, 0, 0, 1], "group_mean", "group_std"
    )
    np.testing.assert_allclose(advantages, [0.5 / 0.500001, -0.5 / 0.500001, 0.0, 0.0, 0.0], rtol=1e-15)
    assert trained.tolist() == [True, True, False, True, False]
    assert reference.group_advantages([1.0, 0.0, 0.5], [0, 0, 0], "leave_one_out", "none")[0].tolist() == [
        0.75,
        -0.75,
        0,
    ]


def test_policy_losses():
    log_probs = np.log([1.5, 0.5, 0.5])
    for level, expected in {"token": [1.5, 0.5, 0.5], "sequence_sum": [0.75, 0.75, 0.5]}.items():
        np.testing.assert_allclose(reference.policy_ratio(log_probs, np.zeros(3), [0, 0, 1], level), expected)
    mean = reference.policy_ratio(log_probs, np.zeros(3), [0, 0, 1], "sequence_mean")
    np.testing.assert_allclose(mean, [np.sqrt(0.75), np.sqrt(0.75), 0.5])
    assert reference.ppo_clip([1.5, 0.5, 1.5, 0.5], [1, 1, -1, -1], 0.2, 0.2).tolist() == [-1.2, -0.5, 1.5, 0.8]
    assert reference.ppo_clip([4.0], [-1.0], 0.2, 0.2, dual=3.0).tolist() == [3.0]
    assert reference.sapo([1.0, 1.0], [1.0, -2.0], 1.0, 4.0).tolist() == [-2.0, 1.0]  # -A (4/t) / 2
    assert reference.cispo(reference.clipped([6.0], 0.0, 5.0), [2.0], [-0.5]).tolist() == [5.0]
    assert reference.value_clip([0.5], [0.0], [1.0], 0.2)[0] == pytest.approx(0.32)
    assert reference.aggregate([1.0, 2.0, 4.0, 6.0], [0, 1, 1, 1], "sequence_mean", 10) == 2.5


def test_divergences():
    """P = (1/2, 1/2), S = (1/4, 3/4): KL(P|S) = ln(4/3) / 2, KL(S|P) = 3/4 ln 3 - ln 2; halves of both to M."""
    teacher, student = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    np.testing.assert_allclose(reference.generalised_jsd(student, teacher, 0.0, 1.0), np.log(4 / 3) / 2)
    np.testing.assert_allclose(reference.generalised_jsd(student, teacher, 1.0, 1.0), 0.75 * np.log(3) - np.log(2))
    m = np.array([0.375, 0.625])
    half = 0.25 * np.log(0.5 / m).sum() + 0.5 * (0.25 * np.log(0.25 / m[0]) + 0.75 * np.log(0.75 / m[1]))
    np.testing.assert_allclose(reference.generalised_jsd(student, teacher, 0.5, 1.0), half)


def test_kto():
    """beta 1, z = 1, gains 1 and ln 3 + 1 desirable, 1 - ln 3 not: 1/2, 1/4, 1/4."""
    gains = [1.0, 1.0 + np.log(3), 1.0 - np.log(3)]
    np.testing.assert_allclose(reference.kto(gains, [True, True, False], 1.0, beta=1.0), [0.5, 0.25, 0.25])
    assert (reference.kto_baseline([-1.0, 0.5]), reference.kto_baseline([1.0, 0.5])) == (0.0, 0.75)
