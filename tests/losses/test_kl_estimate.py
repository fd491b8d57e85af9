"""KL estimators: values, and the gradients they have on average, by enumeration of a vocabulary of five tokens."""

import numpy as np
import pytest
import torch
from tests.numerics import reference_rl as reference
from tests.numerics.small_rollout import LOG_PROBS, REFERENCE, UPSTREAM, close, tensor

from ostinato.losses.kl_estimate import kl_estimate
from ostinato.losses.policy_ratio import policy_ratio

KINDS = ["k1", "k2", "k3"]
LOGITS = np.array([0.3, -1.2, 0.8, 0.1, -0.4])
OLD_LOGITS = np.array([0.5, -0.6, 0.2, 0.4, -0.9])
REFERENCE_LOGITS = np.array([-0.5, 0.4, 0.9, -0.1, 0.7])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(kind, dtype):
    log_probs, ref = tensor(LOG_PROBS, dtype, grad=True), tensor(REFERENCE, dtype, grad=True)
    estimate = kl_estimate(log_probs, ref, kind=kind)
    close(estimate, reference.kl(LOG_PROBS, REFERENCE, kind), dtype)
    slope, to_reference = torch.autograd.grad(
        (tensor(UPSTREAM, dtype) * estimate).sum(), [log_probs, ref], allow_unused=True
    )
    assert to_reference is None
    close(slope, reference.gradient(lambda x: UPSTREAM @ reference.kl(x, REFERENCE, kind), LOG_PROBS), dtype)


def test_by_hand():
    """pi = 1/2, ref = 1/4: d = ln 2, k2 = (ln 2)^2 / 2, k3 = 1/2 + ln 2 - 1."""
    log_probs, ref = tensor([np.log(0.5)]), tensor([np.log(0.25)])
    expected = {"k1": 0.6931471805599453, "k2": 0.2402265069591007, "k3": 0.1931471805599453}
    for kind, value in expected.items():
        assert kl_estimate(log_probs, ref, kind=kind).item() == pytest.approx(value, rel=1e-14)


def log_softmax(x):
    return x - np.log(np.exp(x).sum())


def kl_of_policy(x):
    return np.exp(log_softmax(x)) @ (log_softmax(x) - log_softmax(REFERENCE_LOGITS))


def kl_of_reference(x):
    p = np.exp(log_softmax(REFERENCE_LOGITS))
    return p @ (log_softmax(REFERENCE_LOGITS) - log_softmax(x))


def mean_gradient(kind, weighted, old_logits=LOGITS):
    """The gradient by the logits, averaged over tokens drawn from `old`, each counted by its chance."""
    logits = tensor(LOGITS, grad=True)
    log_probs, old, ref = logits.log_softmax(0), tensor(log_softmax(old_logits)), tensor(log_softmax(REFERENCE_LOGITS))
    ratio = policy_ratio(log_probs, old, torch.arange(5), 5, level="token")
    estimate = kl_estimate(log_probs, ref, kind=kind, importance_ratio=ratio if weighted else None)
    return torch.autograd.grad((old.exp() * estimate).sum(), logits)[0].numpy()


FORWARD = reference.gradient(kl_of_policy, LOGITS)  # of KL(policy || reference)
BACKWARD = reference.gradient(kl_of_reference, LOGITS)  # of KL(reference || policy)


@pytest.mark.parametrize(
    ("kind", "weighted", "expected"),
    [
        ("k1", True, FORWARD),
        ("k3", True, FORWARD),
        ("k2", False, FORWARD),
        ("k1", False, np.zeros(5)),
        ("k3", False, BACKWARD),
        ("k2", True, FORWARD),  # a ratio is given, but k2 stays plain
    ],
)
def test_mean_gradients_on_policy(kind, weighted, expected):
    """arXiv:2506.09477: what each form pulls towards."""
    np.testing.assert_allclose(mean_gradient(kind, weighted), expected, rtol=1e-9, atol=1e-10)
    assert np.abs(FORWARD - BACKWARD).max() > 0.01  # or the test could not tell them apart


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_with_the_ratio_the_gradient_stays_exact_off_policy(kind):
    np.testing.assert_allclose(mean_gradient(kind, True, OLD_LOGITS), FORWARD, rtol=1e-9, atol=1e-10)
    assert np.abs(mean_gradient(kind, False, OLD_LOGITS) - FORWARD).max() > 0.01
    assert np.abs(mean_gradient("k2", False, OLD_LOGITS) - FORWARD).max() > 0.01  # has it on policy only


def test_a_weighted_k2_would_be_wrong():
    """Why the ratio is not applied to it: the gradient of E[r d^2 / 2] is not that of the divergence."""
    logits = tensor(LOGITS, grad=True)
    log_probs = logits.log_softmax(0)
    d = log_probs - tensor(log_softmax(REFERENCE_LOGITS))
    slope = torch.autograd.grad((log_probs.exp() * d.square() / 2).sum(), logits)[0].numpy()
    assert np.abs(slope - FORWARD).max() > 0.01


@pytest.mark.parametrize("d", [25.0, -25.0, 200.0, -200.0])
def test_k3_is_cut_at_20_and_has_no_gradient_there(d):
    log_probs = tensor([d, 0.5], torch.float32, grad=True)
    estimate = kl_estimate(log_probs, tensor([0.0, 0.0], torch.float32), kind="k3")
    cut = np.sign(d) * 20.0
    close(estimate, [np.exp(-cut) + cut - 1, np.exp(-0.5) - 0.5], torch.float32)
    (slope,) = torch.autograd.grad(estimate.sum(), log_probs)
    assert slope.tolist() == [0.0, pytest.approx(1 - np.exp(-0.5), rel=1e-6)]


def test_small_differences_keep_their_digits_in_fp32():
    """k3 of d = 1e-3 is 5e-7; e^-d + d - 1 in fp32 would have no digit of it."""
    d = torch.tensor([1e-3, -1e-3])
    estimate = kl_estimate(d, torch.zeros(2), kind="k3")
    assert estimate.tolist() == pytest.approx([4.998333749916672e-07, 5.001667083416662e-07], rel=2e-4)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="k4"):
        kl_estimate(tensor([0.0]), tensor([0.0]), kind="k4")
